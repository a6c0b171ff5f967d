"""Operating points of a run, chosen on its out-of-fold predictions."""

from collections.abc import Sequence

import numpy as np

from featcache.evaluation import runs
from featcache.evaluation.operating_points import (
    OperatingPoints,
    PointOptions,
    operating_points,
)
from featcache.evaluation.runs import Run


def points_of(
    run: Run, sensitivity: float = 0.95, *, prevalences: Sequence[float] = ()
) -> OperatingPoints | None:
    """The operating points of a run; None without out-of-fold predictions.

    Args:
        run: The run; its calibrated probabilities are used.
        sensitivity: At which specificity is to be as high as it can be.
        prevalences: Of any class, at which predictive values are stated as well.

    Raises:
        UsageError: A sensitivity that is no share.
    """
    table = run.table[run.table["split"] == runs.TRAIN]
    if table["fold"].nunique() < 2:
        return None
    part = run.predictions(runs.TRAIN)
    options = PointOptions(
        sensitivity=sensitivity,
        specificity=sensitivity,
        prevalences=dict.fromkeys(run.classes, tuple(prevalences)),
        unit=run.record.split.unit,
    )
    folds = table["fold"].to_numpy(np.int64)
    return operating_points(part.y, part.p, part.groups, folds, run.classes, options)
