"""Zones: what the operating points of a class say of a probability."""

from dataclasses import dataclass

import numpy as np

from featcache.deploy.trained import TrainedModel

OUT, IN, LOOK = "rule out", "rule in", "look"
WORDS = {OUT: "ruled out", IN: "ruled in", LOOK: "let a person look"}


@dataclass(frozen=True)
class Zone:
    """Where a probability of a class lies.

    Attributes:
        zone: "rule out", "rule in" or "look".
        rule_out: Below this it is ruled out.
        rule_in: From this on it is ruled in.
    """

    zone: str
    rule_out: float
    rule_in: float


def zones_of(model: TrainedModel, p: np.ndarray) -> dict[str, Zone]:
    """The zone of each class that has both thresholds.

    Args:
        model: Whose operating points these are.
        p: (C,) calibrated probabilities.
    """
    zones = {}
    points = model.operating_points
    for triage in points.triage if points else ():
        low, high = triage.rule_out.threshold, triage.rule_in.threshold
        if np.isfinite(low) and np.isfinite(high):
            value = p[triage.rule_out.column]
            zone = IN if value >= high else OUT if value < low else LOOK
            zones[triage.class_name] = Zone(zone, float(low), float(high))
    return zones
