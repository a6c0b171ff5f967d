"""What a validation needs of a model."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from featcache.core.progress import Reporter
from featcache.dataset.manifest import Manifest
from featcache.deploy.trained import Answers
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
    def other_ids(self) -> frozenset[str] | None:
        """The image_id of the other images of its dataset; None where not known."""

    @property
    def training_hashes(self) -> Mapping[str, np.ndarray]:
        """Their perceptual hashes, (72,) uint8 by image_id; empty where not at hand."""

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
