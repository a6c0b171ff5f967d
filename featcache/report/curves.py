"""A learning curve in words, and its law as a line."""

import math

import numpy as np

from featcache.evaluation.curves import LearningCurve
from featcache.evaluation.curves.base import ClassNeed
from featcache.evaluation.curves.power_law import PowerLaws
from featcache.report.tables import METRIC_NAMES


def sentences(curve: LearningCurve) -> list[str]:
    """What a curve says, the most important first."""
    lines = [_outlook(curve)]
    if curve.fit and curve.fit.back_test and not curve.fit.refused:
        test = curve.fit.back_test
        lines.append(
            f"Check: the law of up to {test.share:.0%} of the {curve.unit} foretold "
            f"{test.foretold:.3f} ({test.low:.3f} to {test.high:.3f}) for all of them; "
            f"they give {test.measured:.3f}."
        )
    return [*lines, *_needs(curve)]


def _outlook(curve: LearningCurve) -> str:
    name = METRIC_NAMES.get(curve.metric, curve.metric.replace("_", " "))
    if curve.fit is None:
        return f"Nothing can be said of more {curve.unit}: {curve.note}."
    if curve.fit.refused:
        return f"No look ahead: {curve.fit.refused}."
    (twice,) = [one for one in curve.fit.ahead if one.times == 2]
    return (
        f"Doubling your {curve.unit} is expected to add {100 * twice.gain:.1f} points "
        f"of {name} ({100 * twice.low:.1f} to {100 * twice.high:.1f})."
    )


def _needs(curve: LearningCurve) -> list[str]:
    """A line a class, the largest loss first, and whose loss is no accident."""
    ordered = sorted(curve.classes, key=lambda one: -np.nan_to_num(one.loss))
    lines = [_of_class(curve, one) for one in ordered]
    if sure := [one.class_name for one in ordered if one.low > 0]:
        names = ", ".join(sure)
        lines.append(
            f"More {curve.unit} of {names} would help: without half of them the score "
            "is lower, with 95 % confidence."
        )
    return lines


def _of_class(curve: LearningCurve, need: ClassNeed) -> str:
    whose = f"half of the {need.groups:.0f} {need.class_name} {curve.unit}"
    if math.isnan(need.loss):
        return f"Without {whose} there is no score."
    return (
        f"Training without {whose} costs {100 * need.loss:.1f} points "
        f"({100 * need.low:.1f} to {100 * need.high:.1f})."
    )


def law_line(curve: LearningCurve) -> tuple[np.ndarray, np.ndarray]:
    """The fitted law, (M,) groups and (M,) scores; as far as it is trusted."""
    fit = curve.fit
    if fit is None:
        return np.empty(0), np.empty(0)
    floor, scale, exponent = np.array([[fit.floor], [fit.scale], [fit.exponent]])
    law = PowerLaws(floor, scale, exponent, fit.unit, np.zeros(1))
    last = fit.ahead[-1].groups if fit.ahead else fit.unit
    groups = np.geomspace(curve.points[0].groups, last, 80)
    return groups, 1 - law.errors(groups)[0]
