"""Operating points as records: thresholds of each class, and what they cost."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcache.core import records
from featcache.core.records import OPTIONAL, MaybeNaN
from featcache.evaluation.figures import Figure

Kind = Literal["sensitivity", "youden", "rule_out", "rule_in"]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class PredictiveValues:
    """Predictive values at a prevalence of the class.

    Attributes:
        prevalence: Share of images of the class; taken as known.
        of_data: Whether it is that of the data.
        ppv: Share of the flagged images that are of the class.
        npv: Share of the others that are not.
    """

    prevalence: float
    of_data: bool
    ppv: Figure
    npv: Figure


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """A threshold of one class against the rest, and what it costs out of fold.

    Attributes:
        class_name: The class.
        column: Its column of the probabilities.
        kind: How the threshold was chosen: for the highest specificity at a
            sensitivity ("sensitivity", "rule_out"), for the highest sensitivity at a
            specificity ("rule_in"), or for the largest sum of both ("youden").
        target: The sensitivity or specificity that was asked for.
        threshold: An image is flagged where the probability is at least this; NaN
            where the class or all others are absent. The mean of those of the folds.
        sensitivity: Of thresholds from the other folds, as is all that follows.
        specificity: Likewise.
        predictive: At the prevalence of the data, then at those that were stated.
        attainable: Whether there are enough groups to be 95 % confident of the
            target if none is missed; None without a target.
        groups: With the class; for "rule_in", without it.
        groups_needed: How many that would take; None where no number would do.
        note: What to know of the point; empty if nothing.
        fold_thresholds: That of the other folds, for each fold.
    """

    class_name: str
    column: int
    kind: Kind
    target: float | None
    threshold: MaybeNaN
    sensitivity: Figure
    specificity: Figure
    predictive: list[PredictiveValues]
    attainable: bool | None
    groups: int
    groups_needed: int | None
    note: str = ""
    fold_thresholds: list[MaybeNaN] = field(default_factory=list, metadata=OPTIONAL)


@dataclass(frozen=True, kw_only=True)
class Triage:
    """Two thresholds of a class: below the lower it is ruled out, from the higher in.

    Attributes:
        class_name: The class.
        rule_out: The lower threshold.
        rule_in: The higher. Where one threshold attains both targets, it is both.
        ruled_out: Share of images below both, out of fold.
        ruled_in: Share of images above both.
        between: Share of images that are neither.
    """

    class_name: str
    rule_out: OperatingPoint
    rule_in: OperatingPoint
    ruled_out: Figure
    ruled_in: Figure
    between: Figure


@dataclass(frozen=True, kw_only=True)
class OperatingPoints:
    """The operating points of all classes, as bundles and records have them.

    Attributes:
        points: For each class that of kind "sensitivity" and that of kind "youden".
        triage: For each class.
    """

    points: list[OperatingPoint] = field(default_factory=list)
    triage: list[Triage] = field(default_factory=list, metadata=OPTIONAL)

    def to_json(self) -> dict[str, Any]:
        """As a record has it."""
        return records.to_json(self)

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Reads what `to_json` gives.

        Raises:
            ValueError: Names what is missing or of another type.
        """
        return records.from_json(cls, value, "operating_points")


def apply(points: Sequence[OperatingPoint], p: ArrayLike) -> Mask:
    """Whether each image is flagged at each point, (N, number of points).

    Args:
        points: Operating points; one without a threshold flags nothing.
        p: Probabilities (N, C) of the classes that the points were chosen on.
    """
    scores = np.asarray(p, np.float64)[:, [point.column for point in points]]
    return np.asarray(scores >= np.array([point.threshold for point in points]))
