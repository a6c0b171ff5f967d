"""Records of an external validation, and probabilities where classes are absent."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featcache.core import records
from featcache.core.records import OPTIONAL, MaybeNaN
from featcache.evaluation.figures import Figure
from featcache.evaluation.metrics.base import Array
from featcache.evaluation.operating_points import Kind
from featcache.evaluation.runs import Predictions

NAMES = (
    *("accuracy", "balanced_accuracy", "macro_f1", "auc"),
    *("log_loss", "brier", "ece"),
)


@dataclass(frozen=True)
class CurvePoint:
    """One point of a calibration curve.

    Attributes:
        predicted: The predicted probability of the class.
        observed: The share of images of the class about there.
    """

    predicted: float
    observed: Figure


@dataclass(frozen=True, kw_only=True)
class ClassScores:
    """One class against the rest.

    Attributes:
        n: Images of the class.
        n_groups: Groups with such an image.
        sensitivity: Where the most probable class is predicted, as is specificity.
        auc: Area under the ROC curve.
        calibration_intercept: Of logistic recalibration with the slope 1; 0 is ideal,
            above it the class is more frequent than predicted.
        calibration_slope: Of logistic recalibration; 1 is ideal, below it
            probabilities are too extreme.
        curve: The flexible calibration curve; empty where there is none.
    """

    n: int
    n_groups: int
    sensitivity: Figure
    specificity: Figure
    auc: Figure
    calibration_intercept: Figure
    calibration_slope: Figure
    curve: list[CurvePoint] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class PointScores:
    """A frozen threshold on these images."""

    class_name: str
    kind: Kind
    threshold: MaybeNaN
    sensitivity: Figure
    specificity: Figure


@dataclass(frozen=True, kw_only=True)
class Needed:
    """How large a set would have an interval of so many points either way.

    Attributes:
        half_width: Half the length of the interval.
        groups: How many groups it takes, of as many images as these have; None where
            it cannot be said.
        images: How many images those would have.
        design_effect: The variance over groups, divided by that of independent images;
            None where the figure is no share of images.
        reason: Why it cannot be said.
    """

    half_width: float
    groups: int | None
    images: int | None
    design_effect: float | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Scores:
    """All that a set of predictions is worth.

    Attributes:
        n: Images.
        n_groups: Groups.
        absent: Classes without an image; they are left out of every mean.
        conditional: Whether probabilities were divided by their sum over the classes
            present, so that they are those given that an image is of one of these.
            Frozen thresholds are applied to the probabilities as they were.
        predicted_absent: Share of images whose most probable class is absent.
        accuracy: And so on: the scores of `metrics.METRICS`.
        per_class: By class; classes that are absent are not in it.
        points: Frozen thresholds.
        needed: How large a set would give shorter intervals, by score; of a class's
            sensitivity as "sensitivity of CLASS".
    """

    n: int
    n_groups: int
    absent: list[str]
    conditional: bool
    predicted_absent: Figure
    accuracy: Figure
    balanced_accuracy: Figure
    macro_f1: Figure
    auc: Figure
    log_loss: Figure
    brier: Figure
    ece: Figure
    per_class: dict[str, ClassScores]
    points: list[PointScores] = field(default_factory=list, metadata=OPTIONAL)
    needed: dict[str, Needed] = field(default_factory=dict, metadata=OPTIONAL)

    def to_json(self) -> dict[str, Any]:
        """As a record has it."""
        return records.to_json(self)


def conditional(p: Array, present: NDArray[np.integer[Any]]) -> Array:
    """Probabilities given that the image is of one of these classes, (N, C).

    Other columns are 0. Rows without any probability there are level over these
    classes.

    Args:
        p: Probabilities (N, C).
        present: Indices of the classes.
    """
    inside = np.isin(np.arange(p.shape[1]), present)
    kept = np.where(inside, p, 0.0)
    total = kept.sum(axis=1, keepdims=True)
    level = np.where(inside, 1 / inside.sum(), 0.0)
    return np.where(total > 0, kept / np.where(total > 0, total, 1.0), level)


def is_conditional(present: NDArray[np.integer[Any]], classes: int) -> bool:
    """Whether probabilities have to be conditional on the classes present.

    With a single class present they would all be one, and say nothing.
    """
    return 2 <= len(present) < classes


def restricted(data: Predictions, present: NDArray[np.integer[Any]]) -> Predictions:
    """The images of these classes alone, with probabilities as they are."""
    rows = np.isin(data.y, present)
    return Predictions(data.y[rows], data.p[rows], data.groups[rows])
