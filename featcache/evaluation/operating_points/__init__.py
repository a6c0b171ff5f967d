"""Operating points: thresholds of each class against the rest, and what they cost.

`base` has the records, `thresholds` the rules, `selection` the choice on out-of-fold
predictions, `rates` sensitivity, specificity and predictive values.
"""

from featcache.evaluation.operating_points.base import (
    Kind,
    OperatingPoint,
    OperatingPoints,
    PredictiveValues,
    Triage,
    apply,
)
from featcache.evaluation.operating_points.rates import (
    at_points,
    groups_needed,
    predictive_values,
    rates,
)
from featcache.evaluation.operating_points.selection import (
    PointOptions,
    operating_points,
)

__all__ = [
    "Kind",
    "OperatingPoint",
    "OperatingPoints",
    "PointOptions",
    "PredictiveValues",
    "Triage",
    "apply",
    "at_points",
    "groups_needed",
    "operating_points",
    "predictive_values",
    "rates",
]
