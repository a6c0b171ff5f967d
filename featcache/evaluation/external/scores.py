"""Scores of a model on images that it never saw, as they are, with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featcache.evaluation import figures, metrics
from featcache.evaluation.external.base import (
    NAMES,
    ClassScores,
    Needed,
    PointScores,
    Scores,
    conditional,
    is_conditional,
    restricted,
)
from featcache.evaluation.external.calibration_lines import (
    curve,
    intercept_and_slope,
)
from featcache.evaluation.external.sample_size import HALF_WIDTH, needed
from featcache.evaluation.figures import ONE_GROUP, Figure, groups_of, shares
from featcache.evaluation.metrics import Draws
from featcache.evaluation.operating_points import OperatingPoint, at_points
from featcache.evaluation.runs import Predictions


def evaluate(
    data: Predictions, classes: Sequence[str], points: Sequence[OperatingPoint] = ()
) -> Scores:
    """Every score of a set of predictions, with intervals over groups.

    Where classes are absent, probabilities are taken given the classes present; with
    one class present, as they are.

    Args:
        data: Class indices, probabilities (N, C) and groups of the images.
        classes: Names of the C classes.
        points: Operating points, whose thresholds are applied as they are.

    Raises:
        UsageError: Labels and probabilities do not fit together.
    """
    return _Scored(data, list(classes), list(points)).scores()


def sample_sizes(
    data: Predictions, classes: Sequence[str], half_width: float = HALF_WIDTH
) -> dict[str, Needed]:
    """How many groups give each score an interval of this length.

    Args:
        data: Class indices, probabilities (N, C) and groups of images like those.
        classes: Names of the C classes.
        half_width: Half the length of the interval.

    Returns:
        By score: accuracy, balanced_accuracy, auc, and "sensitivity of CLASS".
    """
    return _Scored(data, list(classes), []).needed(half_width)


def differences(external: Scores, internal: Scores) -> dict[str, Figure]:
    """External minus internal, for each score that both have.

    By `figures.difference` of the two intervals, which come from a bootstrap of each
    set's own groups. Scores of a class are named "sensitivity of CLASS", those of an
    operating point "sensitivity of CLASS at KIND".

    Args:
        external: Scores of `evaluate`.
        internal: Those of out-of-fold predictions, of `internal_scores`.
    """
    one, other = _flat(external), _flat(internal)
    return {
        name: figures.difference(one[name], other[name])
        for name in one
        if name in other
    }


def internal_scores(
    internal: Predictions,
    external: Predictions,
    classes: Sequence[str],
    points: Sequence[OperatingPoint] = (),
) -> Scores:
    """Scores of the internal set that those of the external one can be held against.

    They leave out images of classes that the external set lacks, and are conditional
    on the classes present just as those are.
    """
    present = np.unique(external.y)
    return evaluate(restricted(internal, present), classes, points)


def _flat(scores: Scores) -> dict[str, Figure]:
    flat: dict[str, Figure] = {name: getattr(scores, name) for name in NAMES}
    for name, one in scores.per_class.items():
        for score in _OF_CLASS:
            flat[f"{score} of {name}"] = getattr(one, score)
    for point in scores.points:
        where = f"of {point.class_name} at {point.kind}"
        flat[f"sensitivity {where}"] = point.sensitivity
        flat[f"specificity {where}"] = point.specificity
    return flat


_OF_CLASS = (
    *("sensitivity", "specificity", "auc"),
    *("calibration_intercept", "calibration_slope"),
)


@dataclass(frozen=True, eq=False)
class _Scored:
    """Predictions with their resamples."""

    data: Predictions
    classes: list[str]
    points: list[OperatingPoint]

    @cached_property
    def present(self) -> NDArray[np.integer[Any]]:
        return np.unique(self.data.y)

    @cached_property
    def p(self) -> NDArray[np.float64]:
        if is_conditional(self.present, len(self.classes)):
            return conditional(self.data.p, self.present)
        return self.data.p

    @cached_property
    def draws(self) -> Draws:
        return metrics.bootstrap(self.data.y, self.p, self.data.groups)

    @cached_property
    def values(self) -> dict[str, float]:
        return metrics.scores(self.data.y, self.p)

    @cached_property
    def class_values(self) -> dict[str, NDArray[np.float64]]:
        return metrics.per_class(self.data.y, self.p)

    def scores(self) -> Scores:
        y, groups = self.data.y, self.data.groups
        by_class = self._per_class()
        absent = np.setdiff1d(np.arange(len(self.classes)), self.present)
        astray = np.isin(self.data.p.argmax(axis=1), absent)[:, None]
        rates = at_points(self.points, y, self.data.p, groups) if self.points else []
        (predicted_absent,) = shares(
            astray, np.ones_like(astray), groups, reasons=[ONE_GROUP]
        )
        return Scores(
            n=len(y),
            n_groups=self.draws.groups,
            absent=[self.classes[c] for c in absent],
            conditional=is_conditional(self.present, len(self.classes)),
            predicted_absent=predicted_absent,
            per_class=by_class,
            points=[
                PointScores(
                    class_name=point.class_name,
                    kind=point.kind,
                    threshold=point.threshold,
                    sensitivity=rate[0],
                    specificity=rate[1],
                )
                for point, rate in zip(self.points, rates, strict=True)
            ],
            needed=self.needed(),
            **self._overall(),
        )

    def _overall(self) -> dict[str, Figure]:
        y, groups = self.data.y, self.data.groups
        ends = metrics.intervals(y, self.p, groups, draws=self.draws)
        return {
            name: Figure.of(self.values[name], ends[name], self._reason(name))
            for name in NAMES
        }

    def _reason(self, name: str) -> str:
        """Why a score, or its interval, is not there."""
        if name == "auc" and len(self.present) < 2:
            return "one class has no AUC"
        if self.draws.groups < 2:
            return ONE_GROUP
        if self.draws.basis(name) < 2:
            return "a class of one group has no interval"
        return "nothing is lost: no interval"

    def _per_class(self) -> dict[str, ClassScores]:
        y, groups = self.data.y, np.asarray(self.data.groups)
        ends = metrics.class_intervals(y, self.p, groups, draws=self.draws)
        held_by = groups_of(y[:, None] == np.arange(len(self.classes)), groups)
        result = {}
        for c in self.present:
            rates = {
                name: Figure.of(
                    float(values[c]),
                    ends[name][c],
                    self._class_reason(float(values[c])),
                )
                for name, values in self.class_values.items()
            }
            inside = y == c
            intercept, slope = intercept_and_slope(inside, self.p[:, c], groups)
            result[self.classes[c]] = ClassScores(
                n=int(inside.sum()),
                n_groups=int(held_by[c]),
                calibration_intercept=intercept,
                calibration_slope=slope,
                curve=curve(inside, self.p[:, c], groups)
                if len(self.present) > 1
                else [],
                **rates,
            )
        return result

    def _class_reason(self, value: float) -> str:
        return ONE_GROUP if np.isfinite(value) else "one class"

    def needed(self, half_width: float = HALF_WIDTH) -> dict[str, Needed]:
        sizes: dict[str, Any] = {
            "groups": self.draws.groups,
            "images": len(self.data.y),
            "half_width": half_width,
        }
        result = {
            name: needed(
                self.values[name],
                self.draws.scores[name],
                basis=self.draws.basis(name),
                of_images=len(self.data.y) if name == "accuracy" else None,
                **sizes,
            )
            for name in ("accuracy", "balanced_accuracy", "auc")
        }
        inside = self.data.y[:, None] == np.arange(len(self.classes))
        held_by = groups_of(inside, self.data.groups)
        for c in self.present:
            result[f"sensitivity of {self.classes[c]}"] = needed(
                float(self.class_values["sensitivity"][c]),
                self.draws.per_class["sensitivity"][:, c],
                basis=int(held_by[c]),
                of_images=int(inside[:, c].sum()),
                **sizes,
            )
        return result
