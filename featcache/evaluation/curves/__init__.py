"""Learning curves over groups: what more patients are expected to bring.

`subsamples` draws the groups, `estimate` scores predictions at several sizes,
`power_law` fits them, `base` has the records.
"""

from featcache.evaluation.curves.base import (
    Ahead,
    BackTest,
    ClassNeed,
    CurveFit,
    CurvePoint,
    LearningCurve,
)
from featcache.evaluation.curves.estimate import (
    LEAST_SIZES,
    METRICS,
    Measured,
    Size,
    class_need,
    fit_curve,
    measure,
)
from featcache.evaluation.curves.subsamples import SHARES, group_classes, subsample

__all__ = [
    "LEAST_SIZES",
    "METRICS",
    "SHARES",
    "Ahead",
    "BackTest",
    "ClassNeed",
    "CurveFit",
    "CurvePoint",
    "LearningCurve",
    "Measured",
    "Size",
    "class_need",
    "fit_curve",
    "group_classes",
    "measure",
    "subsample",
]
