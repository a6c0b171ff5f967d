"""A figure: a number with its interval, or the reason why there is none."""

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t

from featcache.core import records
from featcache.core.records import MaybeNaN
from featcache.evaluation.metrics.base import Array, ratio
from featcache.evaluation.metrics.interval import Interval, wilson
from featcache.evaluation.metrics.resampling import (
    RESAMPLES,
    bootstrap_sums,
    standard_error,
)

ONE_GROUP = "one group has no interval"


@dataclass(frozen=True)
class Figure:
    """A number and its 95 % interval over groups.

    Attributes:
        value: The number; NaN (null in JSON) where there is none.
        low: Lower end of the interval; NaN where there is none.
        high: Its upper end.
        reason: Why any of these is NaN; None where none is.
    """

    value: MaybeNaN
    low: MaybeNaN
    high: MaybeNaN
    reason: str | None = None

    @classmethod
    def of(cls, value: float, ends: Interval, reason: str) -> Self:
        """A number with its interval; the reason is kept where any of them is NaN."""
        numbers = [float(value), float(ends[0]), float(ends[1])]
        known = all(map(math.isfinite, numbers))
        value, low, high = (x if math.isfinite(x) else math.nan for x in numbers)
        return cls(value, low, high, None if known else reason)

    @classmethod
    def none(cls, reason: str) -> Self:
        """No number, and why."""
        return cls(math.nan, math.nan, math.nan, reason)

    @property
    def known(self) -> bool:
        """Whether there is a number."""
        return math.isfinite(self.value)

    def to_json(self) -> dict[str, Any]:
        """``value``, ``low``, ``high``, and ``reason`` where one is null."""
        return records.to_json(self)

    def __str__(self) -> str:
        """``0.912 (0.870-0.943)``; the reason where there is no number."""
        if not self.known:
            return f"n/a ({self.reason})"
        if math.isnan(self.low):
            return f"{self.value:.3f} ({self.reason})"
        to = " to " if self.low < 0 else "-"
        return f"{self.value:.3f} ({self.low:.3f}{to}{self.high:.3f})"


def shares(
    parts: ArrayLike,
    wholes: ArrayLike,
    groups: ArrayLike,
    *,
    reasons: list[str],
    added: ArrayLike = 0.0,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Figure]:
    """Shares of images, each with Wilson's interval over the groups it rests on.

    Args:
        parts: Whether each image counts for a share, (N, K).
        wholes: Whether it is one of those that the share is of, (N, K).
        groups: Group of each image, (N,).
        reasons: Why there is no share, for each of the K where no image is in its
            whole.
        added: Variance of each share that resamples of these images lack, (K,).
        resamples: Bootstrap draws, the same for all shares.
        seed: Of the draws.

    Returns:
        K figures; see `metrics.wilson`.
    """
    whole = np.asarray(wholes, np.float64)
    part = np.asarray(parts, np.float64) * whole
    sums = bootstrap_sums(
        np.concatenate([part, whole], axis=1), groups, resamples=resamples, seed=seed
    )
    draws = ratio(sums[:, : len(reasons)], sums[:, len(reasons) :])
    images, based_on = whole.sum(axis=0), groups_of(whole > 0, groups)
    more = np.broadcast_to(np.asarray(added, np.float64), images.shape)
    figures = []
    for k, value in enumerate(ratio(part.sum(axis=0), images)):
        count = int(based_on[k])
        ends = wilson(value, draws[:, k], groups=count, images=images[k], added=more[k])
        figures.append(Figure.of(value, ends, ONE_GROUP if count else reasons[k]))
    return figures


def groups_of(inside: NDArray[np.bool_], groups: ArrayLike) -> NDArray[np.int64]:
    """How many groups have an image inside, (K,), for each column of (N, K)."""
    names, codes = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    holds = np.zeros((len(names), inside.shape[1]), bool)
    np.logical_or.at(holds, codes, inside)
    return np.asarray(holds.sum(axis=0), np.int64)


def student(value: float, draws: Array, *, groups: int, reason: str) -> Figure:
    """A figure without bounds, with Student's t on the bootstrap's standard error.

    Args:
        value: The number on the whole sample.
        draws: The same on each resample, (B,).
        groups: How many groups it rests on; one more than the degrees of freedom.
        reason: Why there is none, where it is not finite.
    """
    error = standard_error(draws, groups)
    if not math.isfinite(value):
        return Figure.none(reason)
    half = float(t.ppf(0.975, groups - 1)) * error if groups > 1 else math.nan
    return Figure.of(value, (value - half, value + half), ONE_GROUP)


def difference(one: Figure, other: Figure) -> Figure:
    """``one - other`` of independent samples, by the square-and-add method.

    Each end is as far from the difference as the root of the summed squares of what
    the two intervals extend in that direction (Newcombe, Stat. Med. 1998, method 10;
    Zou and Donner, Stat. Med. 2008). It keeps to the bounds of both, and has a width
    where one of them is 0 or 1.
    """
    reason = one.reason or other.reason or ""
    if not (one.known and other.known):
        return Figure.none(reason)
    value = one.value - other.value
    below = math.hypot(one.value - one.low, other.high - other.value)
    above = math.hypot(one.high - one.value, other.value - other.low)
    return Figure.of(value, (value - below, value + above), reason)
