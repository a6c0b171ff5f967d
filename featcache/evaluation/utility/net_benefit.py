"""Decision curves: the net benefit of acting on a probability from a threshold on.

The threshold says what a false alarm costs: whoever acts from a probability of t on
deems a missed case as bad as (1 - t) / t false alarms. Net benefit counts true
positives per image, TP/N - FP/N x t / (1 - t) (Vickers and Elkin, Medical Decision
Making 2006).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t as student_t

from featcache.evaluation.metrics.base import Array, checked
from featcache.evaluation.metrics.resampling import bootstrap_sums, standard_error

THRESHOLDS = np.arange(1, 100) / 100
_RESAMPLES = 1000


@dataclass(frozen=True, eq=False)
class DecisionCurve:
    """Net benefit of one class against the rest, at each of `THRESHOLDS`.

    Attributes:
        class_name: The class.
        benefit: Of acting on the probabilities, (T,); NaN where all images
            are of the class, or none is.
        low: Lower end of its 95 % band over groups, (T,); NaN with a single group.
        high: Upper end, (T,).
        act_on_all: Of acting on every image, (T,); that of acting on none is 0.
        better: Whether the band of the difference to acting on all, and to acting on
            none, lies above zero, (T,).
    """

    class_name: str
    benefit: Array
    low: Array
    high: Array
    act_on_all: Array
    better: np.ndarray

    @property
    def useful(self) -> tuple[float, float] | None:
        """First and last threshold of the longest range that is better for sure."""
        edges = np.flatnonzero(np.diff(np.concatenate([[0], self.better, [0]])))
        starts, ends = edges[::2], edges[1::2] - 1
        if not len(starts):
            return None
        longest = int(np.argmax(ends - starts))
        return float(THRESHOLDS[starts[longest]]), float(THRESHOLDS[ends[longest]])


def decision_curves(
    y: ArrayLike, p: ArrayLike, groups: ArrayLike, classes: Sequence[str]
) -> list[DecisionCurve]:
    """The decision curve of each class.

    Args:
        y: Class of each image, (N,).
        p: Its probabilities, (N, C), of a model that was not trained on it.
        groups: Its group, (N,).
        classes: Names of the C classes.

    Raises:
        UsageError: The arrays do not fit together.
    """
    y, p = checked(y, p)
    names, codes = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    return [
        _curve(name, y == c, p[:, c], codes, len(names))
        for c, name in enumerate(classes)
    ]


def _curve(
    name: str, inside: np.ndarray, score: Array, codes: np.ndarray, groups: int
) -> DecisionCurve:
    hits = _flagged(score[inside], codes[inside], groups)
    alarms = _flagged(score[~inside], codes[~inside], groups)
    by_group = np.concatenate([hits, alarms], axis=1)  # (G, 2 (T + 1))
    draws = bootstrap_sums(by_group, np.arange(groups), resamples=_RESAMPLES)
    value, all_value = _benefit(by_group.sum(axis=0)[None])
    of_draws, all_of_draws = _benefit(draws)
    if not 0 < inside.sum() < len(inside):
        value = np.full_like(value, np.nan)
    half = _half_widths(of_draws, groups)
    against = (value - np.maximum(all_value, 0))[0]
    margin = _half_widths(of_draws - np.maximum(all_of_draws, 0), groups)
    return DecisionCurve(
        class_name=name,
        benefit=value[0],
        low=value[0] - half,
        high=value[0] + half,
        act_on_all=all_value[0],
        better=np.nan_to_num(against - margin, nan=-1.0) > 0,
    )


def _flagged(score: Array, codes: np.ndarray, groups: int) -> Array:
    """Images of each group with at least each threshold, (G, T + 1); the first: all."""
    reached = np.searchsorted(THRESHOLDS, score, "right")
    bins = len(THRESHOLDS) + 1
    counts = np.bincount(codes * bins + reached, minlength=groups * bins)
    table = counts.reshape(groups, bins)[:, ::-1].cumsum(axis=1)[:, ::-1]
    return table.astype(np.float64)


def _benefit(sums: Array) -> tuple[Array, Array]:
    """Net benefit of the model and of acting on all, (B, T) each, from sums."""
    hits, alarms = np.split(sums, 2, axis=1)
    images = hits[:, :1] + alarms[:, :1]
    odds = THRESHOLDS / (1 - THRESHOLDS)
    of_model = (hits[:, 1:] - alarms[:, 1:] * odds) / images
    return of_model, (hits[:, :1] - alarms[:, :1] * odds) / images


def _half_widths(draws: Array, groups: int) -> Array:
    """Half the length of Student's t interval at each threshold, (T,)."""
    if groups < 2:
        return np.full(draws.shape[1], np.nan)
    errors = np.array([standard_error(column, groups) for column in draws.T])
    return np.asarray(student_t.ppf(0.975, groups - 1) * errors)
