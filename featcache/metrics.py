"""Scores of predicted probabilities, and their intervals over groups.

Throughout, ``y`` (N,) holds class indices and ``P`` (N, C) probabilities whose rows
sum to one; the predicted class is the column of the largest. A class without an
image has no sensitivity and no AUC (NaN) and is left out of every mean.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata, t

from featcache.errors import UsageError

Array = NDArray[np.float64]
Interval = tuple[float, float]

RESAMPLES = 2000
ECE_BINS = 15
_CHUNK = 2**20  # numbers held at once by the bootstrap: stays in the cache


def confusion(y: ArrayLike, P: ArrayLike) -> NDArray[np.int64]:
    """Counts (C, C) of images by true class (row) and predicted class (column)."""
    y, P = _checked(y, P)
    classes = P.shape[1]
    cells = np.bincount(y * classes + P.argmax(axis=1), minlength=classes**2)
    return cells.reshape(classes, classes)


def accuracy(y: ArrayLike, P: ArrayLike) -> float:
    """Share of images whose predicted class is the true one."""
    return float(_accuracy(*_tally(y, P)))


def balanced_accuracy(y: ArrayLike, P: ArrayLike) -> float:
    """Mean sensitivity over the classes present (Brodersen et al., ICPR 2010)."""
    return float(_balanced_accuracy(*_tally(y, P)))


def macro_f1(y: ArrayLike, P: ArrayLike) -> float:
    """Mean over classes of 2 TP / (2 TP + FP + FN).

    Classes that are neither true nor predicted anywhere are left out.
    """
    return float(_macro_f1(*_tally(y, P)))


def sensitivity(y: ArrayLike, P: ArrayLike) -> Array:
    """TP / (TP + FN) of each class against the rest, (C,)."""
    hits, true, _ = _tally(y, P)
    return _ratio(hits, true)


def specificity(y: ArrayLike, P: ArrayLike) -> Array:
    """TN / (TN + FP) of each class against the rest, (C,)."""
    hits, true, predicted = _tally(y, P)
    others = true.sum() - true
    return _ratio(others - (predicted - hits), others)


def auc_per_class(y: ArrayLike, P: ArrayLike) -> Array:
    """Area under the ROC curve of each class against the rest, (C,).

    The Mann-Whitney statistic by mid-ranks, so ties count one half (Hanley and
    McNeil, Radiology 1982).
    """
    y, P = _checked(y, P)
    positive = y[:, None] == np.arange(P.shape[1])
    inside = positive.sum(axis=0)
    rank_sum = np.where(positive, rankdata(P, axis=0), 0.0).sum(axis=0)
    wins = rank_sum - inside * (inside + 1) / 2
    return _ratio(wins, inside * (len(y) - inside))


def auc_ovr(y: ArrayLike, P: ArrayLike) -> float:
    """Mean of `auc_per_class` over the classes present; NaN with one class."""
    areas = auc_per_class(y, P)
    known = areas[~np.isnan(areas)]
    return float(known.mean()) if known.size else float("nan")


def log_loss(y: ArrayLike, P: ArrayLike) -> float:
    """Mean of -ln of the true class's probability, in nats, clipped at 1e-15."""
    y, P = _checked(y, P)
    return float(-np.log(np.clip(P[np.arange(len(y)), y], 1e-15, 1.0)).mean())


def brier(y: ArrayLike, P: ArrayLike) -> float:
    """Mean squared distance to the one-hot truth, 0 to 2 (Brier, MWR 1950)."""
    y, P = _checked(y, P)
    return float(np.square(P - np.eye(P.shape[1])[y]).sum(axis=1).mean())


def ece(y: ArrayLike, P: ArrayLike) -> float:
    """Expected calibration error of the top probability over 15 equal-width bins.

    Sum over bins of (share of images) x |accuracy - mean probability| (Guo et al.,
    ICML 2017); a bin includes its upper edge.
    """
    y, P = _checked(y, P)
    top = P.max(axis=1)
    bins = np.clip(np.ceil(top * ECE_BINS) - 1, 0, ECE_BINS - 1).astype(int)
    gap = np.bincount(bins, weights=(P.argmax(axis=1) == y) - top)
    return float(np.abs(gap).sum() / len(y))


_SCORES: dict[str, Callable[[ArrayLike, ArrayLike], float]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "auc": auc_ovr,
    "log_loss": log_loss,
    "brier": brier,
    "ece": ece,
}


def scores(y: ArrayLike, P: ArrayLike) -> dict[str, float]:
    """Every score that is one number, by name.

    Raises:
        UsageError: ``y`` or ``P`` is not what this module's first lines ask for.
    """
    return {name: score(y, P) for name, score in _SCORES.items()}


def per_class(y: ArrayLike, P: ArrayLike) -> dict[str, Array]:
    """Sensitivity, specificity and AUC of each class, (C,) each."""
    return {
        "sensitivity": sensitivity(y, P),
        "specificity": specificity(y, P),
        "auc": auc_per_class(y, P),
    }


def bootstrap_weights(
    groups: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
) -> Iterator[Array]:
    """Yields how often each row occurs when whole groups are drawn again.

    Each resample draws as many groups as there are, with replacement (the cluster
    bootstrap: Davison and Hinkley 1997, section 3.8). Equal groups and seed give
    equal draws, so two heads on the same images can be compared in pairs.

    Args:
        groups: Group of each row, (N,).
        resamples: Draws in all.
        seed: Of the draws.

    Yields:
        Weights (B, N), the B of all chunks summing to ``resamples``.
    """
    count, codes = _group_codes(groups)
    chunk = max(1, _CHUNK // len(codes))
    for weights in _group_weights(count, resamples, seed, chunk):
        yield weights[:, codes]


def bootstrap_sums(
    table: Array, groups: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
) -> Array:
    """Column sums (resamples, K) of ``table`` (N, K) over the same draws.

    What `bootstrap_weights` would give, at the cost of groups and not of rows: the
    way for every score that is made of sums.
    """
    count, codes = _group_codes(groups)
    by_group = np.stack([np.bincount(codes, column, count) for column in table.T], 1)
    chunk = max(1, _CHUNK // len(codes))
    draws = _group_weights(count, resamples, seed, chunk)
    return np.concatenate([weights @ by_group for weights in draws])


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
    right, drawn = bootstrap_sums(table, groups, resamples=resamples, seed=seed).T
    count, _ = _group_codes(groups)
    return wilson(
        hits.mean(), right / drawn, groups=count, images=len(hits), level=level
    )


def intervals(
    y: ArrayLike,
    P: ArrayLike,
    groups: ArrayLike,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Intervals of accuracy, balanced_accuracy and macro_f1; see `group_bootstrap`."""
    table = _tally_rows(y, P)
    sums = bootstrap_sums(
        table.reshape(len(table), -1), groups, resamples=resamples, seed=seed
    )
    draws = sums.reshape(len(sums), 3, -1).swapaxes(0, 1)
    whole = table.sum(axis=0)
    count, _ = _group_codes(groups)
    return {
        name: wilson(
            float(score(*whole)),
            score(*draws),
            groups=count,
            images=len(table),
            level=level,
        )
        for name, score in _FROM_TALLY.items()
    }


def wilson(
    estimate: float, draws: Array, *, groups: int, images: int, level: float = 0.95
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
        groups: How many groups there are.
        images: How many images there are.
        level: Coverage asked for, 0 to 1.

    Returns:
        Lower and upper end, 0 to 1; NaN with a single group.
    """
    if groups < 2:
        return float("nan"), float("nan")
    variance = draws.var() * groups / (groups - 1)
    spread = estimate * (1 - estimate)
    worth = min(spread / variance, images) if spread and variance else groups
    z2 = t.ppf((1 + level) / 2, groups - 1) ** 2 / worth
    centre = (estimate + z2 / 2) / (1 + z2)
    half = np.sqrt(z2 * spread + z2**2 / 4) / (1 + z2)
    return float(max(centre - half, 0.0)), float(min(centre + half, 1.0))


def _group_codes(groups: ArrayLike) -> tuple[int, NDArray[np.intp]]:
    names, codes = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    return len(names), codes


def _group_weights(
    count: int, resamples: int, seed: int, chunk: int
) -> Iterator[Array]:
    """Yields how often each group is drawn, (up to ``chunk``, ``count``)."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, chunk):
        rows = np.arange(min(chunk, resamples - start))[:, None]
        drawn = rng.integers(count, size=(len(rows), count)) + rows * count
        times = np.bincount(drawn.ravel(), minlength=drawn.size)
        yield times.reshape(drawn.shape).astype(np.float64)


def _tally_rows(y: ArrayLike, P: ArrayLike) -> Array:
    """One row an image, (N, 3, C): is right, is true, is predicted of each class."""
    y, P = _checked(y, P)
    one_hot = np.eye(P.shape[1])
    true, predicted = one_hot[y], one_hot[P.argmax(axis=1)]
    rows: Array = np.stack([true * predicted, true, predicted], axis=1)
    return rows


def _tally(y: ArrayLike, P: ArrayLike) -> Array:
    """Images of each class that are right, true, predicted: (3, C)."""
    return np.asarray(_tally_rows(y, P).sum(axis=0))


# The following take one tally or a stack of them: three arrays (..., C).


def _accuracy(hits: Array, true: Array, predicted: Array) -> Array:
    return _ratio(hits.sum(axis=-1), true.sum(axis=-1))


def _balanced_accuracy(hits: Array, true: Array, predicted: Array) -> Array:
    return np.asarray(np.nanmean(_ratio(hits, true), axis=-1))


def _macro_f1(hits: Array, true: Array, predicted: Array) -> Array:
    return np.asarray(np.nanmean(_ratio(2 * hits, true + predicted), axis=-1))


_FROM_TALLY = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "macro_f1": _macro_f1,
}


def _ratio(part: ArrayLike, whole: ArrayLike) -> Array:
    """``part / whole``, NaN where there is nothing to divide by."""
    nothing = np.full(np.shape(whole), np.nan)
    return np.asarray(np.divide(part, whole, out=nothing, where=np.greater(whole, 0)))


def _checked(y: ArrayLike, P: ArrayLike) -> tuple[NDArray[np.int64], Array]:
    labels, P = np.asarray(y), np.asarray(P, np.float64)
    if P.ndim != 2 or labels.shape != P.shape[:1] or not P.size:
        raise UsageError(
            "y (N,) and P (N, C) with at least one row and one class",
            f"y {labels.shape} and P {P.shape}",
            "Give one row of probabilities for each label.",
        )
    if (
        labels.dtype.kind not in "iu"
        or not 0 <= labels.min() <= labels.max() < P.shape[1]
    ):
        raise UsageError(
            f"whole class indices from 0 to {P.shape[1] - 1}",
            f"{labels.dtype} labels from {labels.min()} to {labels.max()}",
            "Number the classes in the order of the probability columns.",
        )
    # Written so that NaN fails it too.
    if not (P.min() >= 0 and np.abs(P.sum(axis=1) - 1).max() < 1e-3):
        raise UsageError(
            "probabilities: no negative number, rows that sum to one",
            f"values from {P.min():.3g} to {P.max():.3g}, "
            f"row sums from {P.sum(axis=1).min():.3g} to {P.sum(axis=1).max():.3g}",
            "Give the output of predict_proba, not of decision_function.",
        )
    return labels.astype(np.int64), P
