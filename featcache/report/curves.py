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
            f"{test.foretold:.3f} ({test.low:.3f} to {test.high:.3f} with 99 % "
            "confidence) for all of them; "
            f"they give {test.measured:.3f}."
        )
    elif curve.fit and not curve.fit.refused:
        lines.append(
            f"This could not be checked: too few sizes up to half of the {curve.unit}."
        )
    return [*lines, *_needs(curve)]


def _outlook(curve: LearningCurve) -> str:
    if curve.fit is None:
        return f"Nothing can be said of more {curve.unit}: {curve.note}."
    if curve.fit.refused:
        return f"No look ahead: {curve.fit.refused}."
    (twice,) = [one for one in curve.fit.ahead if one.times == 2]
    band = f"{_points(twice.low)} to {_points(twice.high)}"
    return (
        f"Doubling your {curve.unit} is expected to add {_points(twice.gain)} points "
        f"of {METRIC_NAMES[curve.metric]} ({band})."
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
    cost = f"Training without {whose} costs {_points(need.loss)} points"
    if math.isnan(need.low):
        return f"{cost}; no interval can be given."
    return f"{cost} ({_points(need.low)} to {_points(need.high)})."


def _points(difference: float) -> str:
    """A difference of scores in hundredths; a small negative one is no -0.0."""
    return f"{round(100 * difference, 1) + 0.0:.1f}"


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


def gain_bands(curve: LearningCurve) -> list[tuple[float, float, float]]:
    """Groups and both ends of the score that is expected of more of them."""
    return [
        (a.groups, a.score - a.gain + a.low, a.score - a.gain + a.high)
        for a in (curve.fit.ahead if curve.fit else ())
    ]
