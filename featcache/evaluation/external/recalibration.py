"""Recalibration on an external set, without an image's own say."""

from dataclasses import dataclass

import numpy as np

from featcache.dataset.splits import assign_folds
from featcache.errors import SplitError
from featcache.evaluation.calibration import cross_fit
from featcache.evaluation.external.base import conditional
from featcache.evaluation.metrics.base import Array
from featcache.evaluation.record import CalibrationInfo
from featcache.evaluation.runs import Predictions

FEWEST = 3  # groups of each class: as many as folds, to choose a kind inside them
_MOST = 5


@dataclass(frozen=True, eq=False)
class Recalibration:
    """Recalibrated probabilities, or why there are none.

    Attributes:
        p: (N, C), each image's from the other folds of groups; None where there are
            too few groups.
        folds: How many.
        record: Kinds and parameters, over the classes present; None likewise.
        reason: Why it is not applicable; empty where it is.
    """

    p: Array | None = None
    folds: int = 0
    record: CalibrationInfo | None = None
    reason: str = ""


def recalibrate(data: Predictions, *, seed: int = 0) -> Recalibration:
    """Fits a calibrator on the other folds of groups for each fold of an external set.

    `calibration.cross_fit` chooses between none, temperature and sigmoid (a line on
    the log-odds of each class) inside the other folds. Probabilities are conditional
    on the classes present.

    Args:
        data: Predictions of the external set.
        seed: Of the folds.
    """
    y, groups = np.asarray(data.y), np.asarray(data.groups).astype(str)
    present = np.unique(y)
    if len(present) < 2:
        return Recalibration(reason="one class cannot be recalibrated")
    counts = [len(np.unique(groups[y == c])) for c in present]
    folds = min(_MOST, *counts)
    if folds < FEWEST:
        return Recalibration(
            reason=f"the rarest class has {folds} of the {FEWEST} groups needed"
        )
    codes = np.searchsorted(present, y)
    p = conditional(data.p, present)[:, present]
    ids = [str(i) for i in range(len(y))]
    try:
        fold_of = assign_folds(
            ids, codes, groups, folds=folds, test_size=0.0, seed=seed
        )
    except SplitError as error:
        return Recalibration(reason=error.problem)
    fold = np.array([fold_of[i] for i in ids])
    fitted = cross_fit(codes, p, fold, groups=groups)
    whole = np.zeros_like(data.p, dtype=np.float64)
    whole[:, present] = fitted.p
    return Recalibration(whole, folds, fitted.record)
