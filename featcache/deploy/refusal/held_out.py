"""Training images that would be refused, were they new."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcache.deploy.refusal.base import SHARE, checked_rows
from featcache.deploy.refusal.model import PARTS, calibrate
from featcache.deploy.refusal.rules import PlainRules


def held_out_reasons(
    X: ArrayLike,
    statistics: ArrayLike,
    groups: ArrayLike,
    labels: ArrayLike,
    folds: ArrayLike,
    *,
    share: float = SHARE,
) -> tuple[list[int], list[str]]:
    """Which rows are refused by what is fitted on the other folds, and why.

    Headers are not looked at: a fact in which all images but one agree is no rule.

    Args:
        X: Embeddings of the plain views, (N, D).
        statistics: Rows of `picture_statistics`, (N, 264).
        groups: Group of each image, (N,).
        labels: Class of each image, (N,).
        folds: Its fold, (N,), 0 or above; at least two.
        share: Of groups that are refused, above 0 to 0.5.

    Returns:
        Numbers of the refused rows, the farthest beyond a threshold first; and of each
        of the N rows why, "" where it is not refused.

    Raises:
        UsageError: Arguments of other shapes, or not finite.
        SplitError: A group is in two folds, or there is one fold.
    """
    data = checked_rows(X, statistics, groups, labels, folds, 0)
    scores = data.held_out_scores()
    thresholds = np.array(calibrate(scores, data.groups, share).thresholds)
    beyond = scores / thresholds
    worst = beyond.max(axis=1)
    order = np.argsort(-worst, kind="stable")
    rules = PlainRules.fit(data.statistics)
    reasons = [""] * len(scores)
    refused = [int(row) for row in order if worst[row] > 1]
    for row in refused:
        part = int(beyond[row].argmax())
        reasons[row] = (
            rules.reason(data.statistics[row], float(thresholds[0]))
            if PARTS[part] == "statistics"
            else _distance(PARTS[part], scores[row, part], thresholds[part])
        )
    return refused, reasons


def _distance(part: str, score: NDArray[np.float64], threshold: float) -> str:
    kind = "Mahalanobis" if part == "mahalanobis" else "cosine"
    return (
        f"unlike the images of the other folds: {kind} distance {score:.3g} > "
        f"{threshold:.3g}"
    )
