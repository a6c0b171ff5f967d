"""Scores of predicted probabilities, their intervals over groups, and tests in pairs.

`base` has the scores, `resampling` the bootstrap, `interval` the intervals,
`paired` the tests, `ranking` what an order of runs is worth, `agreement` the kappa of
two readers.
"""

from featcache.evaluation.metrics.agreement import Kappa, cohen_kappa
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
    LARGE_SHARE,
    corrected_t,
    difference,
    holm,
    mcnemar,
    share_of_gain,
    sign_flip,
)
from featcache.evaluation.metrics.ranking import at_least_as_good, rank_intervals
from featcache.evaluation.metrics.resampling import (
    RESAMPLES,
    Draws,
    bayesian_bootstrap,
    bootstrap,
    bootstrap_parts,
    bootstrap_sums,
    bootstrap_weights,
)

__all__ = [
    "ECE_BINS",
    "LARGE_SHARE",
    "METRICS",
    "RESAMPLES",
    "Draws",
    "Interval",
    "Kappa",
    "accuracy",
    "at_least_as_good",
    "auc_ovr",
    "auc_per_class",
    "balanced_accuracy",
    "bayesian_bootstrap",
    "bootstrap",
    "bootstrap_parts",
    "bootstrap_sums",
    "bootstrap_weights",
    "brier",
    "checked",
    "class_intervals",
    "cohen_kappa",
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
    "rank_intervals",
    "scores",
    "sensitivity",
    "share_of_gain",
    "sign_flip",
    "specificity",
    "wilson",
]
