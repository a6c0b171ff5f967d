"""Zones: whether a class is ruled out, ruled in, or neither, at a probability."""

from collections.abc import Mapping, Sequence

import numpy as np

from featcache.evaluation.operating_points import OperatingPoints, Triage

OUT, BETWEEN, IN = "ruled out", "between", "ruled in"


def known_triage(points: OperatingPoints | None) -> list[Triage]:
    """The pairs of thresholds that are numbers, one a class at most."""
    pairs = points.triage if points else []
    return [
        one
        for one in pairs
        if np.isfinite([one.rule_out.threshold, one.rule_in.threshold]).all()
    ]


def zones(triage: Sequence[Triage], p: np.ndarray) -> Mapping[str, np.ndarray]:
    """Where probabilities (n, C) lie, (n,) "ruled out", "between" or "ruled in".

    By the name of the class. Below the lower threshold a class is ruled out, from the
    higher on it is ruled in.
    """
    by_class = {}
    for one in triage:
        values = p[:, one.rule_out.column]
        ruled = [values >= one.rule_in.threshold, values < one.rule_out.threshold]
        by_class[one.class_name] = np.select(ruled, [IN, OUT], BETWEEN)
    return by_class
