"""Scores of predicted probabilities, their intervals over groups, and tests in pairs.

`base` has the scores, `resampling` the bootstrap, `interval` the intervals,
`paired` the tests.
"""

from featcache.evaluation.metrics.base import (
    ECE_BINS,
    METRICS,
    accuracy,
    auc_ovr,
    auc_per_class,
    balanced_accuracy,
    brier,
    checked,
    confusion,
    ece,
    log_loss,
    macro_f1,
    per_class,
    scores,
    sensitivity,
    specificity,
)
from featcache.evaluation.metrics.interval import (
    Interval,
    class_intervals,
    group_bootstrap,
    intervals,
    wilson,
)
from featcache.evaluation.metrics.paired import (
    corrected_t,
    difference,
    holm,
    mcnemar,
    sign_flip,
)
from featcache.evaluation.metrics.resampling import (
    RESAMPLES,
    Draws,
    bootstrap,
    bootstrap_parts,
    bootstrap_sums,
    bootstrap_weights,
)

__all__ = [
    "ECE_BINS",
    "METRICS",
    "RESAMPLES",
    "Draws",
    "Interval",
    "accuracy",
    "auc_ovr",
    "auc_per_class",
    "balanced_accuracy",
    "bootstrap",
    "bootstrap_parts",
    "bootstrap_sums",
    "bootstrap_weights",
    "brier",
    "checked",
    "class_intervals",
    "confusion",
    "corrected_t",
    "difference",
    "ece",
    "group_bootstrap",
    "holm",
    "intervals",
    "log_loss",
    "macro_f1",
    "mcnemar",
    "per_class",
    "scores",
    "sensitivity",
    "sign_flip",
    "specificity",
    "wilson",
]
