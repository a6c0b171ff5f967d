"""Charts as inline SVG: colours are CSS variables, so that they follow the theme.

Every series has a colour, a dash and a mark of its own; see ``templates/report.css``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np
from numpy.typing import ArrayLike

WIDTH, HEIGHT = 340, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 12, 10, 40
_MOST_POINTS = 120
STYLES = 8  # colours and marks in the style sheet


@dataclass(frozen=True)
class Svg:
    """Markup that a template takes as it is: all text in it is escaped."""

    text: str

    def __html__(self) -> str:
        """The markup, as jinja2 and markupsafe ask for it."""
        return self.text


@dataclass(frozen=True)
class Axis:
    """One axis: its title, range and ticks (value, text)."""

    title: str
    low: float = 0.0
    high: float = 1.0
    ticks: Sequence[tuple[float, str]] = field(
        default=tuple((v / 4, f"{v / 4:g}") for v in range(5))
    )

    @classmethod
    def around(cls, title: str, values: ArrayLike, *, whole: bool = False) -> "Axis":
        """An axis over the finite values, with ticks at round numbers."""
        finite = np.asarray(values, float)
        finite = finite[np.isfinite(finite)]
        low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
        ticks = _round_ticks(float(low), float(high), whole=whole)
        start, end = min(low, ticks[0]), max(high, ticks[-1])
        if start == end:  # a single value, in the middle
            start, end = start - (abs(start) or 1) / 2, end + (abs(end) or 1) / 2
        return cls(title, start, end, [(tick, f"{tick:g}") for tick in ticks])


@dataclass(frozen=True)
class Series:
    """One line or row of points.

    Attributes:
        style: Number of its colour and mark.
        x: (N,) values.
        y: (N,) values.
        marks: (N,) radius of a mark in pixels at each point; empty for none.
        faint: Drawn thin, as one of many.
        low: (N,) lower ends of the values' intervals, drawn as a band; empty for none.
        high: (N,) their upper ends.
    """

    style: int
    x: ArrayLike
    y: ArrayLike
    marks: Sequence[float] = ()
    faint: bool = False
    low: Sequence[float] | np.ndarray = ()
    high: Sequence[float] | np.ndarray = ()


def _round_ticks(low: float, high: float, *, whole: bool) -> list[float]:
    """Three to six round numbers over a range."""
    span = (high - low) or abs(high) or 1.0
    step = 10.0 ** np.floor(np.log10(span / 4))
    step *= next(m for m in (1, 2, 5, 10) if span / (m * step) <= 5)
    step = max(step, 1.0) if whole else step
    first, last = np.floor(low / step), np.ceil(high / step)
    return [round(float(k * step), 10) for k in np.arange(first, last + 1)]


def lines(
    series: Sequence[Series], x: Axis, y: Axis, *, label: str, guide: bool = False
) -> Svg:
    """A line chart with axes.

    Args:
        series: What to draw, the last on top.
        x: The horizontal axis.
        y: The vertical axis.
        label: What the chart shows, for those who do not see it.
        guide: Draw the diagonal from corner to corner.
    """
    body = [_axes(x, y)]
    if guide:
        corners = [(x.low, y.low), (x.high, y.high)]
        body.append(f'<polyline class="guide" points="{_points(corners, x, y)}"/>')
    body += [_band(one, x, y) for one in series]
    body += [_line(one, x, y) for one in series]
    return Svg(
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(label)}">{"".join(body)}</svg>'
    )


def _line(one: Series, x: Axis, y: Axis) -> str:
    pairs = np.stack([np.asarray(one.x, float), np.asarray(one.y, float)], axis=1)
    points = [(a, b) for a, b in pairs[np.isfinite(pairs).all(axis=1)].tolist()]
    style = f"s{one.style % STYLES}{' faint' if one.faint else ''}"
    text = f'<polyline class="{style}" points="{_points(thin(points), x, y)}"/>'
    for (a, b), radius in zip(points, one.marks, strict=False):
        text += (
            f'<path class="{style}" transform="translate({_x(a, x):.1f} '
            f'{_y(b, y):.1f})" d="{mark(one.style, radius)}"/>'
        )
    return text


def _band(one: Series, x: Axis, y: Axis) -> str:
    """The area between lower and upper ends, where both are numbers."""
    table = np.array([*zip(np.asarray(one.x, float), one.low, one.high, strict=False)])
    table = table[np.isfinite(table).all(axis=1)] if table.size else table
    if len(table) < 2:
        return ""
    corners = [*table[:, [0, 1]].tolist(), *table[::-1, [0, 2]].tolist()]
    return f'<polygon class="s{one.style % STYLES}" points="{_points(corners, x, y)}"/>'


def thin(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """At most 120 points, the first and the last among them."""
    if len(points) <= _MOST_POINTS:
        return points
    kept = np.linspace(0, len(points) - 1, _MOST_POINTS).round().astype(int)
    return [points[i] for i in kept]


def _x(value: float, axis: Axis) -> float:
    share = (value - axis.low) / (axis.high - axis.low)
    return _LEFT + share * (WIDTH - _LEFT - _RIGHT)


def _y(value: float, axis: Axis) -> float:
    share = (value - axis.low) / (axis.high - axis.low)
    return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)


def _points(points: Sequence[Sequence[float]], x: Axis, y: Axis) -> str:
    return " ".join(f"{_x(a, x):.1f},{_y(b, y):.1f}" for a, b in points)


def _axes(x: Axis, y: Axis) -> str:
    left, right, bottom = _LEFT, WIDTH - _RIGHT, HEIGHT - _BOTTOM
    text = ""
    for value, name in y.ticks:
        at = _y(value, y)
        text += f'<path class="grid" d="M{left} {at:.1f}H{right}"/>'
        text += f'<text x="{left - 6}" y="{at + 4:.1f}" text-anchor="end">{name}</text>'
    for value, name in x.ticks:
        at = _x(value, x)
        text += f'<path class="grid" d="M{at:.1f} {_TOP}V{bottom}"/>'
        text += (
            f'<text x="{at:.1f}" y="{bottom + 15}" text-anchor="middle">{name}</text>'
        )
    middle = (left + right) / 2
    text += (
        f'<text class="title" x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">'
        f"{escape(x.title)}</text>"
    )
    middle = (_TOP + bottom) / 2
    return text + (
        f'<text class="title" transform="translate(12 {middle}) rotate(-90)" '
        f'text-anchor="middle">{escape(y.title)}</text>'
    )


def mark(style: int, radius: float = 4.0) -> str:
    """Path of a series' mark around the origin: disc, square, triangle, ..."""
    r, kind = radius, style % STYLES
    if kind == 0:
        arc = f"a{r:.2f} {r:.2f} 0 1 0"
        return f"M{-r:.2f} 0{arc} {2 * r:.2f} 0{arc} {-2 * r:.2f} 0z"
    return _polygon([(a * r, b * r) for a, b in _MARKS[kind]])


_MARKS: dict[int, list[tuple[float, float]]] = {
    1: [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
    2: [(0, -1.2), (1.1, 0.8), (-1.1, 0.8)],
    3: [(0, -1.3), (1.1, 0), (0, 1.3), (-1.1, 0)],
    4: [(0, 1.2), (1.1, -0.8), (-1.1, -0.8)],
    5: [
        (-0.4, -1.2), (0.4, -1.2), (0.4, -0.4), (1.2, -0.4), (1.2, 0.4), (0.4, 0.4),
        (0.4, 1.2), (-0.4, 1.2), (-0.4, 0.4), (-1.2, 0.4), (-1.2, -0.4), (-0.4, -0.4),
    ],
    6: [(-1.2, -0.5), (1.2, -0.5), (1.2, 0.5), (-1.2, 0.5)],
    7: [(-0.5, -1.2), (0.5, -1.2), (0.5, 1.2), (-0.5, 1.2)],
}  # fmt: skip


def _polygon(corners: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{a:.2f} {b:.2f}" for a, b in corners) + "z"


def key(style: int, *, line: bool = True) -> Svg:
    """A small sample of a series, for a legend."""
    stroke = f'<path class="s{style % STYLES} line" d="M0 7H22"/>' if line else ""
    return Svg(
        f'<svg class="key" viewBox="0 0 22 14" aria-hidden="true">{stroke}'
        f'<path class="s{style % STYLES} dot" transform="translate(11 7)" '
        f'd="{mark(style)}"/></svg>'
    )


def interval(
    value: float,
    ends: tuple[float, float] | None,
    *,
    axis: tuple[float, float] = (0.0, 1.0),
    band: tuple[float, float] | None = None,
) -> Svg:
    """A dot and its interval on a strip; the numbers are beside it in the table.

    Args:
        value: The estimate; left of the axis it becomes an arrow.
        ends: Lower and upper end of its interval, if it has one.
        axis: Value at the left and at the right end of the strip.
        band: Another interval to compare with, drawn behind.
    """
    left, right = axis

    def at(number: float) -> float:
        share = (number - left) / ((right - left) or 1.0)
        return round(4 + 152 * min(max(share, 0.0), 1.0), 1)

    text = '<svg class="interval" viewBox="0 0 160 18" aria-hidden="true">'
    if band:
        a, b = map(at, band)
        text += f'<path class="band" d="M{a} 0H{b}V18H{a}z"/>'
    text += '<path class="rail" d="M4 9H156"/>'
    if ends and np.isfinite(ends).all() and ends[1] > left:
        a, b = at(ends[0]), at(ends[1])
        text += f'<path class="range" d="M{a} 9H{b}M{a} 5V13M{b} 5V13"/>'
    if np.isfinite(value):
        arrow = '<path class="dot" d="M10 4L3 9L10 14z"/>'
        dot = f'<circle class="dot" cx="{at(value)}" cy="9" r="4.2"/>'
        text += arrow if value < left else dot
    return Svg(text + "</svg>")
