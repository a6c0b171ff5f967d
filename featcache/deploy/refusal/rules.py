"""Refusal by what needs no network: the header's facts and plain statistics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from featcache.core.text import percent
from featcache.dataset.images.dicom import FACTS
from featcache.deploy.refusal.record import array, texts, unit_rows
from featcache.deploy.refusal.statistics import NUMBERS, THUMB

Array = NDArray[np.float64]

# What is measured of each picture, and the least distance between the middle of the
# training images and their 1 % or 99 % quantile, in the units of the column: pictures
# of one kind are not refused for less.
SCALES = {
    "saturation": 0.02,
    "flat_share": 0.05,
    "grey_spread": 5.0,
    "aspect": 0.05,
    "short_side": 1.0,
    "bytes_per_pixel": 1.0,
    "orientation": 0.1,
    "resemblance": 0.1,
    "grey_mean": 5.0,
    "sharpness": 0.25,
}
RULES = tuple(SCALES)
# A larger or less compressed file is rendered to the same view.
_ONE_SIDED = {"flat_share": 1, "short_side": -1, "bytes_per_pixel": -1} | dict.fromkeys(
    ("orientation", "resemblance"), -1
)
_OUTER = 0.01  # quantile
_TURNS = ("rotated by 90 degrees", "upside down", "rotated by 90 degrees")
_TEXTS = {
    "saturation": (
        "weaker colours than the training images: saturation {value:.2f}, "
        "theirs {low:.2f} to {high:.2f}",
        "stronger colours than the training images: saturation {value:.2f}, "
        "theirs {low:.2f} to {high:.2f}",
    ),
    "flat_share": (
        "",
        "much of one shade of grey: {value:.0f} % of the picture, of the training "
        "images at most {high:.0f} %",
    ),
    "grey_spread": (
        "almost no contrast: the greys spread by {value:.0f} of 255, those of the "
        "training images by {low:.0f} to {high:.0f}",
        "more contrast than the training images: the greys spread by {value:.0f} of "
        "255, theirs by {low:.0f} to {high:.0f}",
    ),
    "aspect": (
        "narrower than the training images: width is {value:.2f} of the height, "
        "theirs {low:.2f} to {high:.2f}",
        "wider than the training images: width is {value:.2f} of the height, "
        "theirs {low:.2f} to {high:.2f}",
    ),
    "short_side": (
        "smaller than the training images: {value:.0f} pixels on the shorter side, "
        "theirs at least {low:.0f}",
        "",
    ),
    "bytes_per_pixel": (
        "a file with little in it: {value:.3f} bytes per pixel, the training images "
        "have at least {low:.3f}",
        "",
    ),
    "resemblance": (
        "arranged unlike the training images: correlation with their mean "
        "{value:.2f}, theirs at least {low:.2f}",
        "",
    ),
    "grey_mean": (
        "darker than the training images: mean grey {value:.0f} of 255, theirs "
        "{low:.0f} to {high:.0f}",
        "brighter than the training images: mean grey {value:.0f} of 255, theirs "
        "{low:.0f} to {high:.0f}",
    ),
    "sharpness": (
        "blurred: mean step between pixels {value:.3f} of the spread, in the training "
        "images {low:.3f} to {high:.3f}",
        "noisier or sharper than the training images: mean step between pixels "
        "{value:.3f} of the spread, theirs {low:.3f} to {high:.3f}",
    ),
}
_LOGARITHMS = ("aspect", "short_side", "bytes_per_pixel", "sharpness")
_BLANK = 0.9  # share of one shade of grey
_GREY = 0.03  # saturation up to which an image is called grey


def single_facts(headers: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The facts in which all training images agree that state them.

    Args:
        headers: Of each training image, as of `header_facts`.

    Returns:
        By fact its one value, where at least half of the images state it.
    """
    single = {}
    for fact in FACTS:
        stated = [header[fact] for header in headers if header.get(fact)]
        if len(set(stated)) == 1 and 2 * len(stated) >= len(headers):
            single[fact] = stated[0]
    return single


def facts_of(record: object) -> dict[str, str]:
    """Reads what `single_facts` gave.

    Raises:
        ValueError: Something else.
    """
    if not isinstance(record, dict) or not set(record) <= {*FACTS}:
        raise ValueError("facts of a header that are none")
    return dict(zip(record, texts(list(record.values()), "facts"), strict=True))


def header_reason(single: Mapping[str, str], header: Mapping[str, str]) -> str:
    """Why the header is not that of a training image; nothing where it may be."""
    for fact, expected in single.items():
        if (value := header.get(fact, expected)) != expected:
            return f"{fact} {value}; the training images are {expected}"
    return ""


@dataclass(frozen=True)
class PlainRules:
    """The range of each plain statistic among the training images.

    Attributes:
        low: (10,) their 1 % quantiles in the order of ``RULES``.
        middle: (10,) their medians.
        high: (10,) their 99 % quantiles.
        thumb: (256,) their mean thumbnail, of unit norm, or all 0.
    """

    low: Array
    middle: Array
    high: Array
    thumb: Array

    @classmethod
    def fit(cls, statistics: Array) -> Self:
        """Measures the ranges of training images.

        Args:
            statistics: (N, 264) rows of `picture_statistics`.
        """
        thumb = statistics[:, len(NUMBERS) :].mean(axis=0)
        norm = float(np.linalg.norm(thumb))
        # The mean of random thumbnails is short, and says nothing.
        thumb = thumb / norm if norm > 1e-6 else np.zeros_like(thumb)
        values = _values(statistics, thumb)
        least = np.array([*SCALES.values()])
        low, middle, high = np.quantile(values, (_OUTER, 0.5, 1 - _OUTER), axis=0)
        low, high = np.minimum(low, middle - least), np.maximum(high, middle + least)
        return cls(low, middle, high, thumb)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """As arrays that a file can hold."""
        ranges = np.stack([self.low, self.middle, self.high])
        return {"rule_ranges": ranges, "rule_thumb": self.thumb}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Reads what `to_arrays` gave.

        Raises:
            ValueError: Something else.
        """
        shape = 3, len(RULES)
        ranges = array(arrays, "rule_ranges", np.float64, shape)
        thumb = array(arrays, "rule_thumb", np.float64, (THUMB**2,))
        unit_rows(thumb, "rule_thumb")
        if not (np.diff(ranges, axis=0) > 0).all():
            raise ValueError("ranges of rules that are empty")
        return cls(ranges[0], ranges[1], ranges[2], thumb)

    def scores(self, statistics: Array) -> Array:
        """How far each statistic lies out: 0 in the middle, 1 at the quantile.

        Args:
            statistics: (N, 264).

        Returns:
            (N, 10) in the order of ``RULES``; 0 on a side that is never refused.
        """
        away = _values(statistics, self.thumb) - self.middle
        below, above = away / (self.low - self.middle), away / (self.high - self.middle)
        for column, rule in enumerate(RULES):
            side = _ONE_SIDED.get(rule, 0)
            below[:, column] *= side <= 0
            above[:, column] *= side >= 0
        return np.maximum(np.maximum(below, above), 0.0)

    def reason(self, statistics: Array, threshold: float) -> str:
        """The rule that one image breaks, in words: colour, or the one broken most.

        Args:
            statistics: (264,) of the image.
            threshold: Of the scores.
        """
        (scores,) = self.scores(statistics[None])
        colour = scores[0] > threshold
        column = 0 if colour else int(np.argmax(scores))
        value = float(_values(statistics[None], self.thumb)[0, column])
        rule, above = RULES[column], value > self.middle[column]
        if rule == "orientation" or (rule == "resemblance" and value < 0):
            return self._turned(statistics)
        numbers = {"value": value, "low": self.low[column], "high": self.high[column]}
        if rule == "saturation" and numbers["high"] < _GREY:
            return "colour picture; the training images are grey"
        if rule == "saturation" and value < _GREY:
            return "grey picture; the training images are in colour"
        if rule == "flat_share" and value > _BLANK:
            return f"blank: {percent(value)} of the picture is of one shade of grey"
        if rule == "flat_share":
            numbers = {name: 100 * number for name, number in numbers.items()}
        if rule in _LOGARITHMS:
            numbers = {name: 2.0**number for name, number in numbers.items()}
        return _TEXTS[rule][int(above)].format(**numbers)

    def _turned(self, statistics: Array) -> str:
        likeness = _likeness(statistics[None, len(NUMBERS) :], self.thumb)[0]
        best = int(np.argmax(likeness[1:]))
        kind = (*_TURNS, "inverted in its greys")[best]
        return (
            f"{kind}, it seems: turned so it is more like the mean training image "
            f"(correlation {likeness[1 + best]:.2f}) than as it is ({likeness[0]:.2f})"
        )


def _values(statistics: Array, thumb: Array) -> Array:
    """(N, 10) in the order of ``RULES``."""
    columns = dict(zip(NUMBERS, statistics.T, strict=False))
    likeness = _likeness(statistics[:, len(NUMBERS) :], thumb)
    columns["resemblance"] = likeness[:, 0]
    columns["orientation"] = likeness[:, 0] - likeness[:, 1:].max(axis=1)
    return np.stack([columns[rule] for rule in RULES], axis=1)


def _likeness(thumbs: Array, mean: Array) -> Array:
    """Correlation with the mean as it is, turned by 90, 180, 270 degrees, inverted."""
    square = mean.reshape(THUMB, THUMB)
    turned = [np.rot90(square, turns).ravel() for turns in range(4)]
    return np.asarray(thumbs @ np.stack([*turned, -mean]).T)
