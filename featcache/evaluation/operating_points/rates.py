"""Sensitivity, specificity and predictive values of thresholds, with intervals."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from featcache.evaluation import metrics
from featcache.evaluation.figures import Figure, shares
from featcache.evaluation.operating_points.base import Mask, OperatingPoint, apply

CONFIDENCE = 0.95


def at_points(
    points: Sequence[OperatingPoint], y: ArrayLike, p: ArrayLike, groups: ArrayLike
) -> list[tuple[Figure, Figure]]:
    """Sensitivity and specificity of frozen thresholds on other images.

    Args:
        points: Operating points.
        y: Class of each image, (N,).
        p: Its probabilities, (N, C).
        groups: Its group, (N,).

    Returns:
        Sensitivity and specificity at each point.
    """
    y, p = metrics.checked(y, p)
    flags, columns = apply(points, p), [point.column for point in points]
    inside = y[:, None] == np.array(columns, np.int64)
    without = [math.isnan(point.threshold) for point in points]
    reasons = [
        point.note if none else f"no image {of} {point.class_name}"
        for of in ("of", "but of")
        for point, none in zip(points, without, strict=True)
    ]
    usable = ~np.array(without) & np.ones_like(flags)
    return rates(flags, inside, usable, groups, reasons)


def rates(
    flags: Mask,
    inside: Mask,
    usable: Mask,
    groups: ArrayLike,
    reasons: list[str],
    added: ArrayLike = 0.0,
) -> list[tuple[Figure, Figure]]:
    """Sensitivity and specificity of M thresholds.

    Args:
        flags: Whether each image is flagged, (N, M).
        inside: Whether it is of the threshold's class, (N, M).
        usable: Whether there is a threshold for it, (N, M).
        groups: Group of each image, (N,).
        reasons: Why there is no sensitivity, M, then why there is no specificity.
        added: Variance of each of these that the images do not show, (2 M,).
    """
    both = shares(
        np.concatenate([flags, ~flags], axis=1),
        np.concatenate([inside & usable, ~inside & usable], axis=1),
        groups,
        reasons=reasons,
        added=added,
    )
    count = flags.shape[1]
    return list(zip(both[:count], both[count:], strict=True))


def groups_needed(target: float, confidence: float = CONFIDENCE) -> int | None:
    """How many groups without a miss show a share of at least ``target``.

    Exact binomial: with a smaller share, n groups without a miss have a chance of at
    most ``target ** n``, so that n is ln(1 - confidence) / ln(target), rounded up (the
    "rule of three": Hanley and Lippman-Hand, JAMA 1983). None where ``target`` is 1.
    """
    if target >= 1:
        return None
    return math.ceil(math.log(1 - confidence) / math.log(target) - 1e-9)


def predictive_values(
    sensitivity: Figure, specificity: Figure, prevalence: float
) -> tuple[Figure, Figure]:
    """PPV and NPV by Bayes' rule at a prevalence that is taken as known.

    The odds of the PPV are those of the prevalence times sensitivity / (1 -
    specificity); of the NPV, likewise from the other side. Their intervals join those
    of both rates on the logarithmic scale by the square-and-add method (Zou and
    Donner, Stat. Med. 2008). Where a rate is 0 or 1 they join their ends instead,
    which is on the cautious side.
    """
    odds = prevalence / (1 - prevalence)
    alarms, misses = _complement(specificity), _complement(sensitivity)
    ppv = _of_odds(odds, sensitivity, alarms, "no image is flagged")
    npv = _of_odds(1 / odds, specificity, misses, "every image is flagged")
    return ppv, npv


def _complement(rate: Figure) -> Figure:
    return Figure(1 - rate.value, 1 - rate.high, 1 - rate.low, rate.reason)


def _of_odds(odds: float, true: Figure, false: Figure, nothing: str) -> Figure:
    """The share whose odds are ``odds`` times ``true / false``."""
    if not (true.known and false.known):
        return Figure.none(str(true.reason or false.reason))
    whole = odds * true.value + false.value
    if not whole:
        return Figure.none(nothing)
    value = odds * true.value / whole
    with np.errstate(divide="ignore"):
        a, a_low, a_high = np.log([true.value, true.low, true.high])
        b, b_low, b_high = np.log([false.value, false.low, false.high])
    if math.isfinite(a) and math.isfinite(b):
        low = a - b - math.hypot(a - a_low, b_high - b)
        high = a - b + math.hypot(a_high - a, b - b_low)
    else:
        low, high = a_low - b_high, a_high - b_low
    ends = np.exp(-np.logaddexp(0, -(np.array([low, high]) + math.log(odds))))
    reason = str(true.reason or false.reason)
    return Figure.of(value, (float(ends[0]), float(ends[1])), reason)
