"""What a validation needs of a model, and what it says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from featcache.core import records
from featcache.core.progress import Reporter
from featcache.core.records import OPTIONAL
from featcache.dataset.manifest import Manifest
from featcache.deploy.trained import Answers
from featcache.evaluation.external import Scores, Subgroups
from featcache.evaluation.figures import Figure
from featcache.evaluation.operating_points import OperatingPoint
from featcache.evaluation.runs import Predictions


class Model(Protocol):
    """A frozen model."""

    @property
    def classes(self) -> Sequence[str]:
        """Names of the C classes, in the order of the probabilities."""

    @property
    def training_ids(self) -> frozenset[str]:
        """The image_id of every image that it was trained or tuned on."""

    @property
    def training_thumbs(self) -> Mapping[str, np.ndarray]:
        """Their grey pictures, (1024,) uint8 by image_id; empty where not at hand."""

    @property
    def training_shares(self) -> Sequence[float]:
        """Share of each class among the training images, C numbers above 0."""

    @property
    def internal(self) -> Predictions | None:
        """Its out-of-fold predictions; None where they are not at hand."""

    @property
    def points(self) -> Sequence[OperatingPoint]:
        """Its operating points."""

    def score(self, manifest: Manifest, *, reporter: Reporter) -> Answers:
        """Applies it to the usable images of a manifest."""


@dataclass(frozen=True)
class OverlapImage:
    """An image that was left out, as it or its group was in training.

    Attributes:
        image_id: Of the image.
        path: Its path.
        how: "identical", "near-duplicate", or "group" for one whose group has
            another such image.
        training_id: The training image; empty for "group".
        correlation: Of the two small pictures; None but for "near-duplicate".
    """

    image_id: str
    path: str
    how: str
    training_id: str = ""
    correlation: float | None = None


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """The images that were left out.

    Attributes:
        n: How many.
        identical: Of these, the same bytes as a training image.
        near_duplicates: The same picture as one.
        same_group: In the group of such an image.
        near_duplicates_checked: Whether the training images were at hand to look for
            near-duplicates; identical images are always looked for.
        images: One row each.
    """

    n: int
    identical: int
    near_duplicates: int
    same_group: int
    near_duplicates_checked: bool
    images: list[OverlapImage] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class PrevalenceCorrected:
    """The scores after correction for another prevalence; no label is used for it.

    Attributes:
        training: Share of each class in training.
        estimated: Its share in the external set, as estimated by EM.
        converged: Whether EM came to rest.
        scores: Of the corrected probabilities.
    """

    training: dict[str, float]
    estimated: dict[str, Figure]
    converged: bool
    scores: Scores


@dataclass(frozen=True, kw_only=True)
class Recalibrated:
    """The scores after recalibration on the other folds of the external set.

    Attributes:
        scores: Of the recalibrated probabilities; None where it is not applicable.
        method: The kind that was chosen over all folds: "none", "temperature" or
            "sigmoid"; None likewise.
        folds: Of groups.
        reason: Why it is not applicable.
    """

    scores: Scores | None
    method: str | None
    folds: int
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Validation:
    """A frozen model on a dataset that it never saw.

    Attributes:
        dataset: Name of the external dataset.
        classes: Of the model.
        mapping: The external labels that are not named as the model's classes are.
        n: Images that were scored, without overlap.
        n_groups: Their groups.
        unreadable: Images that the model could not read.
        excluded_overlap: Images that were in training.
        as_found: Scores of the probabilities as they are.
        prevalence_corrected: After correction for another prevalence.
        recalibrated: After recalibration inside the external set.
        difference: External, as found, minus internal: out-of-fold on images of the
            classes that both have. Empty where there are no internal predictions.
        subgroups: By column.
        refused_share: Share of images that the model would refuse; they count in all
            other figures.
        without_refused: Scores, as found, without these; None where none is refused,
            or all are.
    """

    dataset: str
    classes: list[str]
    mapping: dict[str, str]
    n: int
    n_groups: int
    unreadable: int
    excluded_overlap: Overlap
    as_found: Scores
    prevalence_corrected: PrevalenceCorrected
    recalibrated: Recalibrated
    difference: dict[str, Figure]
    subgroups: list[Subgroups] = field(default_factory=list)
    refused_share: Figure
    without_refused: Scores | None = field(default=None, metadata=OPTIONAL)

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        return records.to_json(self)
