"""Learning curves as records."""

from dataclasses import dataclass, field
from typing import Any, Self

from featcache.core import records
from featcache.core.records import NULL, OPTIONAL, MaybeNaN


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """The out-of-fold score of heads that were trained on a share of the groups.

    Attributes:
        share: Of the training groups of each fold.
        groups: Groups trained on, the mean over folds and draws.
        images: Images trained on, likewise.
        score: Mean over the draws.
        low: Lower end of its 95 % interval over groups.
        high: Upper end.
        draws: The score of each draw.
    """

    share: float
    groups: float
    images: float
    score: MaybeNaN
    low: MaybeNaN
    high: MaybeNaN
    draws: list[MaybeNaN]


@dataclass(frozen=True, kw_only=True)
class Ahead:
    """What is expected of more groups than there are.

    Attributes:
        times: As many times the groups of today.
        groups: Trained on in a fold.
        score: Expected.
        gain: By how much it is better than the fitted score of today.
        low: Lower end of the gain's 95 % band.
        high: Upper end.
    """

    times: float
    groups: float
    score: float
    gain: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class BackTest:
    """What the law of the smaller half of the curve foretells of all groups.

    Attributes:
        share: The largest share that it was fitted on.
        foretold: The score that it expects of all groups.
        low: Lower end of the 99 % band for the measured score.
        high: Upper end.
        measured: The score of all groups.
    """

    share: float
    foretold: float
    low: float
    high: float
    measured: float

    @property
    def holds(self) -> bool:
        """Whether the measured score is within the band."""
        return self.low <= self.measured <= self.high


@dataclass(frozen=True, kw_only=True)
class CurveFit:
    """An inverse power law, error = floor + scale x (groups / unit)^-exponent.

    Attributes:
        floor: Of the error, which is 1 - score.
        scale: Likewise.
        exponent: Likewise.
        unit: Groups.
        p_misfit: Chance that points of such a law lie as far from it as these.
        back_test: None where half of the curve has too few points.
        ahead: Empty where it is refused to look ahead.
        refused: Why; None where it is not.
    """

    floor: float
    scale: float
    exponent: float
    unit: float
    p_misfit: float
    back_test: BackTest | None = field(default=None, metadata=NULL)
    ahead: list[Ahead] = field(default_factory=list)
    refused: str | None = field(default=None, metadata=NULL)


@dataclass(frozen=True, kw_only=True)
class ClassNeed:
    """What half of the groups of one class would cost.

    Attributes:
        class_name: The class; the others keep all their groups.
        groups: It has in training, the mean over folds.
        loss: Of the score, by half of them; positive where they are missed.
        low: Lower end of its 95 % interval; NaN where there is none.
        high: Upper end.
    """

    class_name: str
    groups: float
    loss: MaybeNaN
    low: MaybeNaN
    high: MaybeNaN


@dataclass(frozen=True, kw_only=True)
class LearningCurve:
    """How a run's score grows with the groups that it is trained on.

    Attributes:
        run: Its short id.
        run_id: Its id.
        label: Head and features, in words.
        metric: The score; larger is better.
        unit: What groups are called: "patients" or "groups".
        folds: Of the cross-validation.
        groups: In all folds together.
        points: By rising share.
        fit: None where there are too few points; ``note`` says so.
        classes: What each class lacks; empty where it was not asked for.
        note: Why something is not there; empty if nothing is missing.
    """

    run: str
    run_id: str
    label: str
    metric: str
    unit: str
    folds: int
    groups: int
    points: list[CurvePoint]
    fit: CurveFit | None = field(default=None, metadata=NULL)
    classes: list[ClassNeed] = field(default_factory=list, metadata=OPTIONAL)
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """As the record has it."""
        return records.to_json(self)

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Reads what `to_json` gives.

        Raises:
            ValueError: Names what is missing or of another type.
        """
        return records.from_json(cls, value, "curve")
