"""What predictions are worth to somebody who acts on them.

`net_benefit` has decision curves, `risk_coverage` what is gained by leaving uncertain
images to a person. Both are of out-of-fold or test predictions, never of training rows.
"""

from featcache.evaluation.utility.net_benefit import DecisionCurve, decision_curves
from featcache.evaluation.utility.risk_coverage import (
    Deferral,
    RiskCoverage,
    risk_coverage,
)

__all__ = [
    "DecisionCurve",
    "Deferral",
    "RiskCoverage",
    "decision_curves",
    "risk_coverage",
]
