"""The bootstrap over groups: every score on resamples.

Images of one group are not independent, so whole groups are drawn again, as many as
there are, with replacement (the cluster bootstrap: Davison and Hinkley 1997, section
3.8). Equal groups and an equal seed give equal draws, so that the draws of two runs
on the same images are pairs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcache.evaluation.metrics.base import (
    MEANS_OVER_CLASSES,
    Array,
    Labels,
    checked,
    class_shares,
    mean_of_known,
    of_sums,
    ratio,
    rows,
)

RESAMPLES = 2000
_CHUNK = 2**16  # numbers held at once: they stay in the processor's cache
_MOST_KEPT = 2**23  # numbers of 2 bytes that are kept of a set's draws: 16 MiB


@dataclass(frozen=True)
class Draws:
    """Scores on B resamples of whole groups.

    Attributes:
        scores: Each score of `METRICS`, (B,).
        per_class: Sensitivity, specificity and AUC of each class, (B, C) each.
        groups: How many groups there are.
        rarest: How many hold the class that fewest hold.
    """

    scores: dict[str, Array]
    per_class: dict[str, Array]
    groups: int
    rarest: int

    def basis(self, score: str) -> int:
        """How many groups decide the spread of a score of `METRICS`."""
        return self.rarest if score in MEANS_OVER_CLASSES else self.groups


def bootstrap(
    y: ArrayLike,
    P: ArrayLike,
    groups: ArrayLike,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Draws:
    """Every score on every resample, at a cost of about B x N x C additions.

    Args:
        y: Class of each image, (N,).
        P: Its probabilities, (N, C).
        groups: Its group, (N,).
        resamples: B.
        seed: Of the draws; a fixed default, so equal predictions print equal numbers.
    """
    whole = np.ones(np.shape(y), bool)
    return bootstrap_parts(y, P, groups, [whole], resamples=resamples, seed=seed)[0]


def bootstrap_parts(
    y: ArrayLike,
    P: ArrayLike,
    groups: ArrayLike,
    parts: Sequence[NDArray[np.bool_]],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Draws]:
    """As `bootstrap`, for each of several parts of the images, on the same draws.

    Groups are drawn from all images, so that parts with a group in common covary as
    they should; a resample without an image of a part has no score there (NaN).

    Args:
        y: Class of each image, (N,).
        P: Its probabilities, (N, C).
        groups: Its group, (N,).
        parts: Whether each image is in the part, (N,) each, at least one of them.
        resamples: B.
        seed: Of the draws.
    """
    y, P = checked(y, P)
    count, codes = _group_codes(groups)
    table = rows(y, P)
    by_group = [sums_by_group(table * part[:, None], groups) for part in parts]
    ranks = [
        [_Ranks.of(y[part] == c, P[part, c], codes[part]) for c in range(P.shape[1])]
        for part in parts
    ]
    sums: list[list[Array]] = [[] for _ in parts]
    areas: list[list[Array]] = [[] for _ in parts]
    for times in _group_weights(count, resamples, seed, _chunk(len(codes))):
        counts = np.ascontiguousarray(times.T)
        for k in range(len(parts)):
            sums[k].append(times @ by_group[k])
            area = [rank.area(counts) for rank in ranks[k]]
            areas[k].append(np.stack(area, axis=1))
    return [
        _draws(np.concatenate(sums[k]), np.concatenate(areas[k]), y[part], codes[part])
        for k, part in enumerate(parts)
    ]


def _draws(total: Array, auc: Array, y: Labels, codes: NDArray[np.intp]) -> Draws:
    return Draws(
        scores=of_sums(total) | {"auc": mean_of_known(auc)},
        per_class=class_shares(total) | {"auc": auc},
        groups=len(np.unique(codes)),
        rarest=min(len(np.unique(codes[y == c])) for c in np.unique(y)),
    )


@dataclass(frozen=True)
class _Ranks:
    """One class against the rest, sorted once for all resamples.

    Attributes:
        inside: Group of each image of the class, by rising probability.
        outside: Of all others, by rising probability.
        below: How many others lie below each image of the class.
        upto: How many lie below or level with it.
    """

    inside: NDArray[np.intp]
    outside: NDArray[np.intp]
    below: NDArray[np.intp]
    upto: NDArray[np.intp]

    @classmethod
    def of(
        cls, positive: NDArray[np.bool_], score: Array, codes: NDArray[np.intp]
    ) -> "_Ranks":
        order = np.argsort(score, kind="stable")
        inside, outside = order[positive[order]], order[~positive[order]]
        ladder = score[outside]
        return cls(
            codes[inside],
            codes[outside],
            np.searchsorted(ladder, score[inside], "left"),
            np.searchsorted(ladder, score[inside], "right"),
        )

    def area(self, counts: Array) -> Array:
        """Area under the ROC curve of each resample, (B,), from times drawn (G, B)."""
        passed = np.zeros((len(self.outside) + 1, counts.shape[1]))
        np.cumsum(counts[self.outside], axis=0, out=passed[1:])
        inside = counts[self.inside]
        wins = np.einsum("nb,nb->b", inside, passed[self.below] + passed[self.upto])
        return ratio(wins / 2, inside.sum(axis=0) * passed[-1])


def bayesian_bootstrap(
    y: ArrayLike,
    P: ArrayLike,
    groups: ArrayLike,
    metric: str,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Array:
    """A score on B draws of the Bayesian bootstrap over groups, (B,).

    The weights of the groups are drawn from the flat Dirichlet distribution (Rubin,
    Annals of Statistics 1981), so that each of them counts in each draw.

    Args:
        y: Class of each image, (N,).
        P: Its probabilities, (N, C).
        groups: Its group, (N,).
        metric: One of ``METRICS``.
        resamples: B.
        seed: Of the draws; equal ones make equal draws.
    """
    y, P = checked(y, P)
    count, codes = _group_codes(groups)
    rng, chunk = np.random.default_rng(seed), _chunk(len(codes))
    sizes = (min(chunk, resamples - at) for at in range(0, resamples, chunk))
    draws = (rng.standard_exponential((size, count)) for size in sizes)
    if metric != "auc":
        by_group = sums_by_group(rows(y, P), groups)
        return np.concatenate([of_sums(times @ by_group)[metric] for times in draws])
    ranks = [_Ranks.of(y == c, P[:, c], codes) for c in range(P.shape[1])]
    by_draw = (np.ascontiguousarray(times.T) for times in draws)
    areas = [np.stack([one.area(w) for one in ranks], axis=1) for w in by_draw]
    return np.asarray(mean_of_known(np.concatenate(areas)))


def bootstrap_weights(
    groups: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
) -> Iterator[Array]:
    """Yields how often each row occurs when whole groups are drawn again.

    Args:
        groups: Group of each row, (N,).
        resamples: Draws in all.
        seed: Of the draws.

    Yields:
        Weights (B, N), the B of all chunks summing to ``resamples``.
    """
    count, codes = _group_codes(groups)
    for times in _group_weights(count, resamples, seed, _chunk(len(codes))):
        yield times[:, codes]


def bootstrap_sums(
    table: Array, groups: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
) -> Array:
    """Column sums (resamples, K) of ``table`` (N, K) over the same draws.

    What `bootstrap_weights` would give, at the cost of groups and not of rows: the
    way for every score that is made of sums.
    """
    by_group = sums_by_group(table, groups)
    chunk = _chunk(len(by_group))
    draws = _group_weights(len(by_group), resamples, seed, chunk)
    return np.concatenate([times @ by_group for times in draws])


def sums_by_group(table: Array, groups: ArrayLike) -> Array:
    """Column sums (G, K) of ``table`` (N, K) over each group, by its name."""
    count, codes = _group_codes(groups)
    return np.stack([np.bincount(codes, column, count) for column in table.T], axis=1)


def standard_error(draws: Array, groups: int) -> float:
    """Standard deviation of the draws as of (groups - 1); NaN with a single group.

    Draws without a value (a class that was not drawn) are left out.
    """
    known = draws[~np.isnan(draws)]
    if groups < 2 or not known.size:
        return float("nan")
    return float(np.sqrt(known.var() * groups / (groups - 1)))


def _group_codes(groups: ArrayLike) -> tuple[int, NDArray[np.intp]]:
    names, codes = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    return len(names), codes


def _chunk(numbers: int) -> int:
    """How many resamples of so many numbers are held at once."""
    return max(1, _CHUNK // numbers)


def _group_weights(
    count: int, resamples: int, seed: int, chunk: int
) -> Iterator[Array]:
    """Yields how often each group is drawn, (up to ``chunk``, ``count``)."""
    if count * resamples > _MOST_KEPT:
        yield from _new_weights(count, resamples, seed, chunk)
        return
    kept = _kept_weights(count, resamples, seed)
    for start in range(0, resamples, chunk):
        yield kept[start : start + chunk].astype(np.float64)


@lru_cache(maxsize=4)
def _kept_weights(count: int, resamples: int, seed: int) -> NDArray[np.uint16]:
    """All of them, (``resamples``, ``count``): scores of one set share their draws."""
    parts = _new_weights(count, resamples, seed, _chunk(count))
    return np.concatenate([part.astype(np.uint16) for part in parts])


def _new_weights(count: int, resamples: int, seed: int, chunk: int) -> Iterator[Array]:
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, chunk):
        rows = np.arange(min(chunk, resamples - start))[:, None]
        picks = rng.integers(count, size=(len(rows), count)) + rows * count
        times = np.bincount(picks.ravel(), minlength=picks.size)
        yield times.reshape(picks.shape).astype(np.float64)
