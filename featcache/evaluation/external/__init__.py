"""External validation: a frozen model on images from elsewhere.

`scores` has the scores as they are and their differences to internal ones, `priors` the
correction for another prevalence, `recalibration` the calibration on the other folds,
`subgroups` the parts of the set, `calibration_lines` intercept, slope and curve,
`sample_size` how large a set has to be, `base` the records of scores, `validation` that
of all of it.
"""

from featcache.evaluation.external.base import (
    ClassScores,
    CurvePoint,
    Needed,
    PointScores,
    Scores,
    conditional,
)
from featcache.evaluation.external.priors import PriorCorrection, correct_priors
from featcache.evaluation.external.recalibration import Recalibration, recalibrate
from featcache.evaluation.external.scores import (
    differences,
    evaluate,
    internal_scores,
    sample_sizes,
)
from featcache.evaluation.external.subgroups import (
    Heterogeneity,
    Level,
    Subgroups,
    levels_of,
    subgroups,
)
from featcache.evaluation.external.validation import (
    SCHEMA,
    Overlap,
    OverlapImage,
    OwnImages,
    PrevalenceCorrected,
    Recalibrated,
    Validation,
    ValidationRecord,
    read_validations,
    record_path,
    write_validation,
)

__all__ = [
    "SCHEMA",
    "ClassScores",
    "CurvePoint",
    "Heterogeneity",
    "Level",
    "Needed",
    "Overlap",
    "OverlapImage",
    "OwnImages",
    "PointScores",
    "PrevalenceCorrected",
    "PriorCorrection",
    "Recalibrated",
    "Recalibration",
    "Scores",
    "Subgroups",
    "Validation",
    "ValidationRecord",
    "conditional",
    "correct_priors",
    "differences",
    "evaluate",
    "internal_scores",
    "levels_of",
    "read_validations",
    "recalibrate",
    "record_path",
    "sample_sizes",
    "subgroups",
    "write_validation",
]
