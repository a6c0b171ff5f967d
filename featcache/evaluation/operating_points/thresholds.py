"""Thresholds on the probability of one class; an image is flagged from it on.

All take ``inside`` (N,), whether an image is of the class, and ``score`` (N,), its
probability. A threshold lies midway between two neighbouring probabilities, so that
rounding changes no flag. It is NaN where one of the two sides has no image.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from featcache.evaluation.metrics.base import Array

Mask = NDArray[np.bool_]
_ROUNDING = 1e-9  # 0.95 of 100 images leaves 5, whatever binary numbers say


def at_sensitivity(inside: Mask, score: Array, target: float) -> float:
    """The highest threshold whose sensitivity is at least ``target``.

    No other threshold with that sensitivity has a higher specificity.
    """
    if inside.all() or not inside.any():
        return math.nan
    ordered = np.sort(score[inside])
    misses = min(_allowed(len(ordered), target), len(ordered) - 1)
    return _midway_below(score, float(ordered[misses]))


def at_specificity(inside: Mask, score: Array, target: float) -> float:
    """The lowest threshold whose specificity is at least ``target``.

    No other threshold with that specificity has a higher sensitivity.
    """
    if inside.all() or not inside.any():
        return math.nan
    ordered = np.sort(score[~inside])[::-1]
    edge = float(ordered[min(_allowed(len(ordered), target), len(ordered) - 1)])
    above = score[score > edge]
    return _midway_below(score, float(above.min())) if len(above) else _just_above(edge)


def youden(inside: Mask, score: Array) -> float:
    """The threshold with the largest sensitivity + specificity - 1.

    Youden's index (Cancer 1950); of several, the lowest, which misses fewest.
    """
    if inside.all() or not inside.any():
        return math.nan
    values = np.unique(score)
    hits = _share_from(np.sort(score[inside]), values)
    alarms = _share_from(np.sort(score[~inside]), values)
    # Rounded, as equal differences of shares differ in their last digit.
    best = int(np.argmax((hits - alarms).round(12)))
    return _midway_below(score, float(values[best]))


def between(score: Array, thresholds: Sequence[float]) -> float:
    """The mean of several thresholds, moved midway between its neighbours.

    NaN if all of them are; those that are NaN do not count.
    """
    known = [one for one in thresholds if math.isfinite(one)]
    if not known:
        return math.nan
    mean = sum(known) / len(known)
    above = score[score >= mean]
    return _midway_below(score, float(above.min())) if len(above) else mean


def _allowed(images: int, target: float) -> int:
    return math.floor((1 - target) * images + _ROUNDING)


def _share_from(ordered: Array, values: Array) -> Array:
    """Share of the numbers that are at least each of the values."""
    return 1 - np.searchsorted(ordered, values, "left") / len(ordered)


def _midway_below(score: Array, cut: float) -> float:
    """Midway between a score and the next lower one; the score if there is none."""
    below = score[score < cut]
    lower = float(below.max()) if len(below) else cut
    midway = (lower + cut) / 2
    return midway if midway > lower else cut


def _just_above(edge: float) -> float:
    return float(np.nextafter(edge, math.inf))
