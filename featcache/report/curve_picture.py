"""A learning curve as a picture: in Braille dots for a terminal, and as a PNG."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from featcache.evaluation.curves import LearningCurve
from featcache.report.curves import gain_bands, law_line
from featcache.report.heatmaps import drawing
from featcache.report.tables import METRIC_NAMES

if TYPE_CHECKING:
    from PIL.Image import Image

_COLUMNS, _ROWS = 60, 12  # characters, each of 2 x 4 dots
_BRAILLE = 0x2800
_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
_WIDTH, _HEIGHT, _EDGE = 960, 600, 90  # of a PNG, in pixels
_LAW, _POINT = (67, 147, 195), (178, 24, 43)


@dataclass(frozen=True, eq=False)
class _Plane:
    """The area of a picture: groups on a logarithmic axis, scores on a linear one."""

    first: float
    last: float
    low: float
    high: float

    @classmethod
    def of(cls, curve: LearningCurve) -> "_Plane":
        """The plane that holds all points, intervals and the law."""
        groups, scores = law_line(curve)
        ends = [v for p in curve.points for v in (p.low, p.score, p.high)]
        ends += [v for _, *of_band in gain_bands(curve) for v in of_band]
        values = np.array([v for v in (*ends, *scores) if math.isfinite(v)] or [0.0])
        every = [*groups, *(point.groups for point in curve.points)]
        low, high = float(values.min()), float(values.max())
        return cls(min(every), max(every), low, max(high, low + 0.01))

    def place(self, groups: float, score: float) -> tuple[float, float]:
        """From the left and from the top, both 0 to 1."""
        span = math.log(self.last / self.first) or 1.0
        down = (self.high - score) / (self.high - self.low)
        return math.log(groups / self.first) / span, down


def terminal(curve: LearningCurve) -> str:
    """Points with their intervals, and the law with what it expects, as text."""
    plane = _Plane.of(curve)
    dots = np.zeros((4 * _ROWS, 2 * _COLUMNS), bool)

    def cell(groups: float, score: float) -> tuple[int, int]:
        right, down = plane.place(groups, score)
        return round(down * (len(dots) - 1)), round(right * (dots.shape[1] - 1))

    for groups, score in zip(*law_line(curve), strict=True):
        dots[cell(groups, score)] = True
    for groups, low, high in [*_intervals(curve), *gain_bands(curve)]:
        top, column = cell(groups, high)
        dots[top : cell(groups, low)[0] + 1, column] = True
    blocks = dots.reshape(_ROWS, 4, _COLUMNS, 2).swapaxes(1, 2)
    codes = (blocks * _DOTS).sum(axis=(2, 3)) + _BRAILLE
    lines = [[chr(code) for code in row] for row in codes]
    for point in curve.points:
        if math.isfinite(point.score):
            row, column = cell(point.groups, point.score)
            lines[row // 4][column // 2] = "●"
    return _framed(["".join(line) for line in lines], plane, curve)


def _intervals(curve: LearningCurve) -> list[tuple[float, float, float]]:
    return [
        (p.groups, p.low, p.high) for p in curve.points if math.isfinite(p.low + p.high)
    ]


def _framed(lines: Sequence[str], plane: _Plane, curve: LearningCurve) -> str:
    """The axes' ends around the dots."""
    edges = [""] * len(lines)
    edges[0], edges[-1] = f"{plane.high:.3f}", f"{plane.low:.3f}"
    framed = [f"{e:>6} ┤{line}" for e, line in zip(edges, lines, strict=True)]
    first, last = f"{plane.first:.0f}", f"{plane.last:.0f} {curve.unit}"
    below = f"{first}{last:>{_COLUMNS - len(first)}}"
    return "\n".join([*framed, f"{'':6} └{'─' * _COLUMNS}", f"{'':8}{below}"])


def png(curve: LearningCurve) -> "Image":
    """The same on a sheet of 960 x 600 pixels."""
    from PIL import ImageDraw

    plane, sheet = _Plane.of(curve), drawing.paper(_WIDTH, _HEIGHT)
    pen = ImageDraw.Draw(sheet)

    def at(groups: float, score: float) -> tuple[float, float]:
        right, down = plane.place(groups, score)
        return (
            _EDGE + right * (_WIDTH - 2 * _EDGE),
            _EDGE + down * (_HEIGHT - 2 * _EDGE),
        )

    _axes(sheet, plane, curve)
    law = [at(*pair) for pair in zip(*law_line(curve), strict=True)]
    if law:
        pen.line(law, _LAW, 4)
    for color, bars in ((_POINT, _intervals(curve)), (_LAW, gain_bands(curve))):
        for groups, low, high in bars:
            pen.line([at(groups, low), at(groups, high)], color, 2)
    for point in curve.points:
        if math.isfinite(point.score):
            x, y = at(point.groups, point.score)
            pen.ellipse((x - 6, y - 6, x + 6, y + 6), _POINT)
    return sheet


def _axes(sheet: "Image", plane: _Plane, curve: LearningCurve) -> None:
    from PIL import ImageDraw

    pen = ImageDraw.Draw(sheet)
    left, right, bottom = _EDGE, _WIDTH - _EDGE, _HEIGHT - _EDGE
    pen.line([(left, _EDGE), (left, bottom), (right, bottom)], drawing.SOFT, 2)
    for share in np.linspace(0, 1, 5):
        score = plane.high - share * (plane.high - plane.low)
        y = _EDGE + share * (bottom - _EDGE)
        drawing.text(sheet, (left - 10, y), f"{score:.3f}", 18, anchor="rm")
    last = -math.inf
    for point in curve.points:
        x = left + plane.place(point.groups, plane.low)[0] * (right - left)
        if x - last > 50:
            name, last = f"{point.groups:.0f}", x
            drawing.text(sheet, (x, bottom + 10), name, 18, anchor="ma")
    if curve.fit and curve.fit.ahead:
        drawing.text(sheet, (right, bottom + 10), f"{plane.last:.0f}", 18, anchor="ma")
    title = f"Out-of-fold {METRIC_NAMES[curve.metric]} by {curve.unit} trained on"
    drawing.text(sheet, (left, 20), title, 22, width=right - left)
    drawing.text(sheet, (left, 52), curve.label, 18, width=right - left)
