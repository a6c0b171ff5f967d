"""Scores of predicted probabilities.

Throughout, ``y`` (N,) holds class indices and ``P`` (N, C) probabilities whose rows
sum to one; the predicted class is the column of the largest. A class without an
image has no sensitivity and no AUC (NaN) and is left out of every mean.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from featcache.errors import UsageError

Array = NDArray[np.float64]
Labels = NDArray[np.int64]

ECE_BINS = 15
# Name of each score that is one number, and whether more of it is better.
METRICS = {
    "accuracy": True,
    "balanced_accuracy": True,
    "macro_f1": True,
    "auc": True,
    "log_loss": False,
    "brier": False,
    "ece": False,
}
# These hang on the class with the fewest images most.
MEANS_OVER_CLASSES = ("balanced_accuracy", "macro_f1", "auc")


def confusion(y: ArrayLike, P: ArrayLike) -> Labels:
    """Counts (C, C) of images by true class (row) and predicted class (column)."""
    y, P = checked(y, P)
    classes = P.shape[1]
    cells = np.bincount(y * classes + P.argmax(axis=1), minlength=classes**2)
    return cells.reshape(classes, classes)


def accuracy(y: ArrayLike, P: ArrayLike) -> float:
    """Share of images whose predicted class is the true one."""
    return _score("accuracy", y, P)


def balanced_accuracy(y: ArrayLike, P: ArrayLike) -> float:
    """Mean sensitivity over the classes present (Brodersen et al., ICPR 2010)."""
    return _score("balanced_accuracy", y, P)


def macro_f1(y: ArrayLike, P: ArrayLike) -> float:
    """Mean over classes of 2 TP / (2 TP + FP + FN).

    Classes that are neither true nor predicted anywhere are left out.
    """
    return _score("macro_f1", y, P)


def log_loss(y: ArrayLike, P: ArrayLike) -> float:
    """Mean of -ln of the true class's probability, in nats, clipped at 1e-15."""
    return _score("log_loss", y, P)


def brier(y: ArrayLike, P: ArrayLike) -> float:
    """Mean squared distance to the one-hot truth, 0 to 2 (Brier, MWR 1950)."""
    return _score("brier", y, P)


def ece(y: ArrayLike, P: ArrayLike) -> float:
    """Expected calibration error of the top probability over 15 equal-width bins.

    Sum over bins of (share of images) x |accuracy - mean probability| (Guo et al.,
    ICML 2017); a bin includes its upper edge.
    """
    return _score("ece", y, P)


def sensitivity(y: ArrayLike, P: ArrayLike) -> Array:
    """TP / (TP + FN) of each class against the rest, (C,)."""
    return class_shares(rows(y, P).sum(axis=0))["sensitivity"]


def specificity(y: ArrayLike, P: ArrayLike) -> Array:
    """TN / (TN + FP) of each class against the rest, (C,)."""
    return class_shares(rows(y, P).sum(axis=0))["specificity"]


def auc_per_class(y: ArrayLike, P: ArrayLike) -> Array:
    """Area under the ROC curve of each class against the rest, (C,).

    The Mann-Whitney statistic by mid-ranks, so ties count one half (Hanley and
    McNeil, Radiology 1982).
    """
    y, P = checked(y, P)
    positive = y[:, None] == np.arange(P.shape[1])
    inside = positive.sum(axis=0)
    rank_sum = np.where(positive, rankdata(P, axis=0), 0.0).sum(axis=0)
    wins = rank_sum - inside * (inside + 1) / 2
    return ratio(wins, inside * (len(y) - inside))


def auc_ovr(y: ArrayLike, P: ArrayLike) -> float:
    """Mean of `auc_per_class` over the classes present; NaN with one class."""
    return float(mean_of_known(auc_per_class(y, P)))


def scores(y: ArrayLike, P: ArrayLike) -> dict[str, float]:
    """Every score of `METRICS`, by name.

    Raises:
        UsageError: ``y`` or ``P`` is not what this module's first lines ask for.
    """
    values = of_sums(rows(y, P).sum(axis=0)) | {"auc": np.asarray(auc_ovr(y, P))}
    return {name: float(values[name]) for name in METRICS}


def per_class(y: ArrayLike, P: ArrayLike) -> dict[str, Array]:
    """Sensitivity, specificity and AUC of each class, (C,) each."""
    return class_shares(rows(y, P).sum(axis=0)) | {"auc": auc_per_class(y, P)}


def rows(y: ArrayLike, P: ArrayLike) -> Array:
    """What every score but the AUC is made of, (N, 3 C + 2 + bins).

    For each image and class: is right, is true, is predicted; then its log-loss, its
    squared distance, and in the column of its calibration bin by how much being right
    is more than the probability. The scores of any part of the images, or of images
    drawn several times, follow from the sums of these columns.
    """
    y, P = checked(y, P)
    top, best = P.max(axis=1), P.argmax(axis=1)
    one_hot = np.eye(P.shape[1])
    true, predicted = one_hot[y], one_hot[best]
    losses = -np.log(np.clip(P[np.arange(len(y)), y], 1e-15, 1.0))
    distances = np.square(P - true).sum(axis=1)
    bins = np.clip(np.ceil(top * ECE_BINS) - 1, 0, ECE_BINS - 1).astype(int)
    gaps = np.eye(ECE_BINS)[bins] * ((best == y) - top)[:, None]
    return np.column_stack([true * predicted, true, predicted, losses, distances, gaps])


def of_sums(sums: Array) -> dict[str, Array]:
    """Every score but the AUC from column sums (..., K) of `rows`, (...) each."""
    hits, true, predicted = _tally(sums)
    images = true.sum(axis=-1)
    losses, distances, *gaps = np.moveaxis(sums[..., -2 - ECE_BINS :], -1, 0)
    return {
        "accuracy": ratio(hits.sum(axis=-1), images),
        "balanced_accuracy": mean_of_known(ratio(hits, true)),
        "macro_f1": mean_of_known(ratio(2 * hits, true + predicted)),
        "log_loss": ratio(losses, images),
        "brier": ratio(distances, images),
        "ece": ratio(np.abs(gaps).sum(axis=0), images),
    }


def class_shares(sums: Array) -> dict[str, Array]:
    """Sensitivity and specificity from column sums (..., K) of `rows`, (..., C)."""
    hits, true, predicted = _tally(sums)
    others = true.sum(axis=-1, keepdims=True) - true
    return {
        "sensitivity": ratio(hits, true),
        "specificity": ratio(others - (predicted - hits), others),
    }


def mean_of_known(values: Array) -> Array:
    """Mean over the last axis of what is not NaN; NaN where there is nothing."""
    known = ~np.isnan(values)
    return ratio(np.where(known, values, 0.0).sum(axis=-1), known.sum(axis=-1))


def ratio(part: ArrayLike, whole: ArrayLike) -> Array:
    """``part / whole``, NaN where there is nothing to divide by."""
    nothing = np.full(np.shape(whole), np.nan)
    return np.asarray(np.divide(part, whole, out=nothing, where=np.greater(whole, 0)))


def _tally(sums: Array) -> Array:
    """Images of each class that are right, true, predicted: (3, ..., C)."""
    counts = sums[..., : -2 - ECE_BINS]
    return np.moveaxis(counts.reshape(*counts.shape[:-1], 3, -1), -2, 0)


def _score(name: str, y: ArrayLike, P: ArrayLike) -> float:
    return float(of_sums(rows(y, P).sum(axis=0))[name])


def checked(y: ArrayLike, P: ArrayLike) -> tuple[Labels, Array]:
    """``y`` and ``P`` as arrays.

    Raises:
        UsageError: They are not what this module's first lines ask for.
    """
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
