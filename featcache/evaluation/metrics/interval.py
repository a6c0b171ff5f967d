"""Intervals of scores, from their bootstrap over groups.

Each kind of score has an interval of its own, as none suits all of them near the ends
of their scales. Coverage was measured: docs/decisions/0015-statistics.md.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit
from scipy.stats import t

from featcache.evaluation.metrics.base import Array, per_class, scores
from featcache.evaluation.metrics.resampling import (
    RESAMPLES,
    Draws,
    bootstrap,
    bootstrap_sums,
    standard_error,
)

Interval = tuple[float, float]
_NONE = (float("nan"), float("nan"))
_IMAGE_WORTH = 5  # independent images that one may be worth for an area


def intervals(
    y: ArrayLike,
    P: ArrayLike,
    groups: ArrayLike,
    *,
    draws: Draws | None = None,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Interval of every score of `METRICS`, by name; NaN with a single group.

    Accuracy has `wilson`'s with at most as many images as there are; balanced accuracy
    and macro F1 have it with the groups of the rarest class, which decide the spread of
    means over classes, and AUC has `area` with these. Log-loss and Brier score have
    `log_t`, and ECE, which is biased, `squared`.

    Args:
        y: Class of each image, (N,).
        P: Its probabilities, (N, C).
        groups: Its group, (N,).
        draws: `bootstrap` of the same, where it is there already.
        level: Coverage asked for, 0 to 1.
    """
    draws = draws or bootstrap(y, P, groups)
    by_score = {}
    shapes: dict[str, Callable[..., Interval]] = _LOSSES | {
        "accuracy": partial(wilson, images=np.size(y)),
        "auc": partial(area, pairs=min(_pairs(y)), images=np.size(y)),
    }
    for name, value in scores(y, P).items():
        shape = shapes.get(name, wilson)
        basis = draws.basis(name)
        by_score[name] = shape(value, draws.scores[name], groups=basis, level=level)
    return by_score


def class_intervals(
    y: ArrayLike,
    P: ArrayLike,
    groups: ArrayLike,
    *,
    draws: Draws | None = None,
    level: float = 0.95,
) -> dict[str, list[Interval]]:
    """Interval of each score of `per_class`, one a class.

    That of `wilson`, with the groups that hold the class, and for specificity with
    those that hold another; for AUC that of `area`, with the fewer of both.
    """
    draws = draws or bootstrap(y, P, groups)
    y, groups = np.asarray(y), np.asarray(groups)
    by_score: dict[str, list[Interval]] = {"sensitivity": [], "specificity": []}
    by_score["auc"] = []
    pairs = _pairs(y, np.shape(P)[1])
    for name, values in per_class(y, P).items():
        for c, value in enumerate(values):
            inside, outside = (len(np.unique(groups[of])) for of in (y == c, y != c))
            basis = {"sensitivity": inside, "specificity": outside}
            images = int((y != c if name == "specificity" else y == c).sum())
            shape = partial(wilson, images=images)
            if name == "auc":
                shape = partial(area, pairs=pairs[c], images=len(y))
            count = basis.get(name, min(inside, outside))
            of_class = draws.per_class[name][:, c]
            ends = shape(float(value), of_class, groups=count, level=level)
            by_score[name].append(ends)
    return by_score


def _pairs(y: ArrayLike, classes: int = 0) -> list[int]:
    """Pairs of an image of a class and one of another, of each class."""
    inside = np.bincount(np.asarray(y), minlength=classes)
    present = inside if classes else inside[inside > 0]
    return [max(int(pairs), 1) for pairs in present * (np.size(y) - present)]


def group_bootstrap(
    correct: ArrayLike,
    groups: ArrayLike,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Interval of the accuracy when groups, not images, are the sample.

    Args:
        correct: Whether each image was predicted right, (N,).
        groups: Group of each image, (N,).
        resamples: Bootstrap draws.
        seed: Of the draws; a fixed default, so equal predictions print equal numbers.
        level: Coverage asked for, 0 to 1.

    Returns:
        Lower and upper end, 0 to 1; NaN with a single group. See `wilson`.
    """
    hits = np.asarray(correct, np.float64)
    table = np.stack([hits, np.ones_like(hits)], axis=1)
    right, sampled = bootstrap_sums(table, groups, resamples=resamples, seed=seed).T
    count = len(np.unique(np.asarray(groups).astype(str)))
    return wilson(
        hits.mean(), right / sampled, groups=count, images=len(hits), level=level
    )


def wilson(
    estimate: float,
    draws: Array,
    *,
    groups: int,
    images: float = np.inf,
    added: float = 0.0,
    level: float = 0.95,
) -> Interval:
    """Wilson's score interval (JASA 1927) on the effective number of images.

    The variance of the bootstrap draws says how many independent images the sample
    is worth, n = p (1 - p) / variance, never more than there are; Student's t with
    (groups - 1) degrees of freedom takes the place of the normal (Korn and Graubard,
    Survey Methodology 1998; Franco et al., J. Survey Stat. Methodol. 2019). The
    plain percentile interval is too short where a share is near one, and has no
    length at all when every image is right; here a group then counts as one image.

    Args:
        estimate: The score on the whole sample, 0 to 1.
        draws: The score on each resample, (B,).
        groups: How many groups it rests on.
        images: The most images that the sample can be worth.
        added: Variance of the score that the draws do not have.
        level: Coverage asked for, 0 to 1.

    Returns:
        Lower and upper end, 0 to 1; NaN with a single group.
    """
    error = np.hypot(standard_error(draws, groups), np.sqrt(added))
    if np.isnan(error) or np.isnan(estimate):
        return _NONE
    spread = estimate * (1 - estimate)
    worth = min(spread / error**2, images) if spread and error else groups
    z2 = _quantile(level, groups) ** 2 / worth
    centre = (estimate + z2 / 2) / (1 + z2)
    half = np.sqrt(z2 * spread + z2**2 / 4) / (1 + z2)
    return float(max(centre - half, 0.0)), float(min(centre + half, 1.0))


def area(
    estimate: float,
    draws: Array,
    *,
    groups: int,
    pairs: int,
    images: int,
    level: float = 0.95,
) -> Interval:
    """Interval of an area under the ROC curve: the wider of two, at either end.

    `wilson`'s, and Student's t on the log-odds of the area. Near 1 the draws of an area
    vary too little, and the first alone is too short; where every pair is in the right
    order in most draws, so is the second. Log-odds are of at least half a pair in the
    wrong order, and for Wilson's no image is worth more than five independent ones: a
    sample that has no difficult image by chance would be worth a hundred.

    Args:
        estimate: The area on the whole sample, 0 to 1.
        draws: The area on each resample, (B,).
        groups: How many groups decide its spread.
        pairs: Pairs of one image of the class and one of another.
        images: How many images there are.
        level: Coverage asked for, 0 to 1.

    Returns:
        Lower and upper end, 0 to 1; NaN with a single group.
    """
    most = _IMAGE_WORTH * images
    low, high = wilson(estimate, draws, groups=groups, images=most, level=level)
    if np.isnan(low) or not 0 < estimate < 1:
        return low, high
    edge = 0.5 / pairs
    odds = logit(np.clip([estimate, *draws], edge, 1 - edge))
    half = _quantile(level, groups) * standard_error(odds[1:], groups)
    ends = expit([odds[0] - half, odds[0] + half])
    return float(min(low, ends[0])), float(max(high, ends[1]))


def log_t(
    estimate: float, draws: Array, *, groups: int, level: float = 0.95
) -> Interval:
    """Student's t interval on the logarithm of a loss.

    A loss is never negative and its mean has its longer tail above: the interval is
    ``estimate`` times and divided by exp(t error / ``estimate``), the delta method.

    Args:
        estimate: The score on the whole sample, at least 0.
        draws: The score on each resample, (B,).
        groups: How many groups there are.
        level: Coverage asked for, 0 to 1.

    Returns:
        Lower and upper end; NaN with a single group or without any loss.
    """
    error = standard_error(draws, groups)
    if np.isnan(error) or not estimate > 0:
        return _NONE
    factor = np.exp(_quantile(level, groups) * error / estimate)
    return float(estimate / factor), float(estimate * factor)


def squared(
    estimate: float, draws: Array, *, groups: int, level: float = 0.95
) -> Interval:
    """Interval of a distance that is too large on average, such as the ECE.

    Noise adds to a distance, and the bootstrap adds the noise a second time; for the
    squares the two amounts are equal. The lower end is that of the basic bootstrap
    (Davison and Hinkley 1997, section 5.2) of the square, the upper end the quantile
    of the draws, which is on the cautious side.

    Args:
        estimate: The score on the whole sample, at least 0.
        draws: The score on each resample, (B,).
        groups: How many groups there are.
        level: Coverage asked for, 0 to 1.

    Returns:
        Lower and upper end; NaN with a single group.
    """
    if groups < 2 or np.isnan(estimate):
        return _NONE
    high = max(float(np.quantile(draws, (1 + level) / 2)), estimate)
    return float(np.sqrt(max(2 * estimate**2 - high**2, 0.0))), high


_LOSSES = {"log_loss": log_t, "brier": log_t, "ece": squared}


def _quantile(level: float, groups: int) -> float:
    """Student's t for a two-sided interval, (groups - 1) degrees of freedom."""
    return float(t.ppf((1 + level) / 2, groups - 1))
