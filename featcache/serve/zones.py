"""Zones of an answer, with their thresholds, and how a person reads them."""

from dataclasses import dataclass

import numpy as np

from featcache.deploy.trained import TrainedModel
from featcache.deploy.zones import BETWEEN, IN, OUT

WORDS = {OUT: OUT, IN: IN, BETWEEN: "let a person look"}


@dataclass(frozen=True)
class Zone:
    """Where a probability of a class lies.

    Attributes:
        zone: "ruled out", "between" or "ruled in", as ``featcache predict`` says it.
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
    if not model.triage:
        return {}
    zones = model.zones(p[None])
    return {
        one.class_name: Zone(
            str(zones[f"zone_{one.class_name}"][0]),
            float(one.rule_out.threshold),
            float(one.rule_in.threshold),
        )
        for one in model.triage
    }
