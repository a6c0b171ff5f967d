"""How sure an order of runs is: the chance that it is wrong, and the possible ranks.

Both rest on groups, and on all runs in the same draws. A difference that comes from a
few groups alone is less sure than its draws say, as a sample of three has not seen
what a fourth would bring; so each pair of runs counts two groups more, one that speaks
for either run: the uniform prior of a share.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm, t

from featcache.evaluation.metrics.base import Array
from featcache.evaluation.metrics.resampling import standard_error

_PRIOR_GROUPS = 2  # of each pair, one for either run


def at_least_as_good(
    change: Array, *, differing: int, larger_is_better: bool = True, seed: int = 0
) -> float:
    """The posterior probability that a run is at least as good as another.

    The Bayesian bootstrap over groups (Rubin, Annals of Statistics 1981; for pairs of
    classifiers Benavoli et al., JMLR 2017): the share of the draws in which the run's
    score is not worse. Where k of n equal groups speak for it, the probability is that
    of a Beta(k + 1, n - k + 1) variable above one half.

    Args:
        change: The run's score minus the other's on each draw of
            `resampling.bayesian_bootstrap`, (B,).
        differing: Groups in which the two runs' predictions differ.
        larger_is_better: Whether more of the score is better.
        seed: Of the weights of the two groups more.

    Returns:
        0 to 1; 1 where no group differs, and NaN where the score has no value.
    """
    if np.isnan(change).all():
        return float("nan")
    if not differing:
        return 1.0
    known = change[~np.isnan(change)] * (1 if larger_is_better else -1)
    either = np.random.default_rng([seed, 1]).exponential(size=(2, len(known)))
    step = known.std() / np.sqrt(differing)
    return float((known + step * (either[0] - either[1]) >= 0).mean())


def rank_intervals(
    values: ArrayLike,
    draws: Sequence[Array],
    differing: ArrayLike,
    *,
    groups: int,
    larger_is_better: bool = True,
    level: float = 0.95,
) -> list[tuple[int, int]]:
    """Ranks that each of K runs may have; with ``level`` they hold for all at once.

    A run stands behind every run that is significantly better, and before every run
    that is significantly worse (Mogstad, Romano, Shaikh and Wilhelm, Review of
    Economic Studies 2024). All pairs are tested together, by the largest of their
    studentised differences over the draws and step by step (Romano and Wolf,
    Econometrica 2005). Runs that are equally good share the ranks among them.

    Args:
        values: Scores, (K,).
        draws: The scores on each resample, (B,) each: all on the same draws.
        differing: Groups in which the predictions of two runs differ, (K, K).
        groups: How many groups decide the scores' spread.
        larger_is_better: Whether more of the score is better.
        level: Coverage asked for, 0 to 1.

    Returns:
        The first and the last possible rank of each run, from 1; 1 and K for a run
        whose score has no value, and for all with a single group.
    """
    scores = np.asarray(values, float) * (1 if larger_is_better else -1)
    first, second = np.triu_indices(len(scores), 1)
    known = ~np.isnan(scores[first] - scores[second])
    if groups < 2 or not known.any():
        return [(1, len(scores))] * len(scores)
    first, second = first[known], second[known]
    pairs = _Pairs(scores, draws, np.asarray(differing), groups, first, second)
    leads = pairs.significant(level)
    winners = np.where(leads > 0, first, second)[leads != 0]
    losers = np.where(leads > 0, second, first)[leads != 0]
    beaten_by = np.bincount(losers, minlength=len(scores))
    beats = np.bincount(winners, minlength=len(scores))
    ends = zip(1 + beaten_by, len(scores) - beats, strict=True)
    return [(int(low), int(high)) for low, high in ends]


class _Pairs:
    """All pairs of runs, and which of them differ when all are tested together."""

    def __init__(
        self,
        scores: Array,
        draws: Sequence[Array],
        differing: np.ndarray,
        groups: int,
        first: np.ndarray,
        second: np.ndarray,
    ) -> None:
        self._draws, self._first, self._second = draws, first, second
        self._groups = groups
        apart = differing[first, second]
        self._wider = np.sqrt(1 + _PRIOR_GROUPS / np.maximum(apart, 1))
        errors = [standard_error(change, groups) for change in self._changes()]
        self._errors = np.where(apart > 0, errors, np.inf)
        self._values = scores[first] - scores[second]

    def _changes(self) -> Iterator[Array]:
        pairs = zip(self._first, self._second, strict=True)
        return (self._draws[i] - self._draws[j] for i, j in pairs)

    def significant(self, level: float) -> np.ndarray:
        """1 where the first run of a pair is better for sure, -1 where the second is.

        0 where it is open.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            sizes = np.abs(self._values) / (self._errors * self._wider)
        sizes = np.nan_to_num(sizes, posinf=np.inf)
        open_pairs = np.ones(len(sizes), bool)
        while open_pairs.any():
            rejected = open_pairs & (sizes > self._limit(open_pairs, level))
            if not rejected.any():
                break
            open_pairs &= ~rejected
        return np.where(open_pairs, 0, np.sign(self._values)).astype(int)

    def _limit(self, open_pairs: np.ndarray, level: float) -> float:
        """The quantile of the largest studentised difference of some pairs."""
        largest = np.zeros(len(self._draws[0]))
        for pair in np.flatnonzero(open_pairs & (self._errors > 0)):
            change = self._draws[self._first[pair]] - self._draws[self._second[pair]]
            away = np.abs(change - np.nanmean(change)) / self._errors[pair]
            largest = np.fmax(largest, away)
        # Few groups have heavier tails than draws of them, and few values.
        of_one = t.ppf((1 + level) / 2, self._groups - 1)
        heavier = of_one / norm.ppf((1 + level) / 2)
        return float(max(np.quantile(largest, level) * heavier, of_one))
