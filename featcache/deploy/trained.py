"""A trained model with all that it needs to answer, or to refuse to."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np

from featcache.core.progress import SILENT, Reporter
from featcache.dataset.manifest import Manifest
from featcache.dataset.perceptual_hashes import nearest, perceptual_hash
from featcache.dataset.sources.inputs import InputImage
from featcache.dataset.sources.reading import read_scanned
from featcache.deploy.answers import REFUSED, Scored, stream
from featcache.deploy.model import Candidate, Model, Outputs
from featcache.deploy.refusal import PARTS, Refusal, picture_statistics
from featcache.deploy.zones import known_triage
from featcache.deploy.zones import zones as zones_of_classes
from featcache.evaluation import operating_points
from featcache.evaluation.operating_points import (
    OperatingPoint,
    OperatingPoints,
    Triage,
)
from featcache.evaluation.runs import Predictions

# Cosine distance of embeddings. By SqueezeNet, 40 X-rays that were saved again as JPEG
# of quality 80, also at 90 % of their size, are at most 0.019 from their originals; 223
# other X-rays are at least 0.051 from the nearest training image.
_NEAR = 0.02


@dataclass(frozen=True, eq=False)
class RefusalRule:
    """Which images a model refuses.

    Attributes:
        refusal: What the training images are like.
        network: Number of the network whose embedding is looked at.
        output: Name of its output.
    """

    refusal: Refusal
    network: int
    output: str


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """What is known of the images that a model was trained on.

    Attributes:
        image_ids: Of each.
        counts: Images of each class.
        internal: Out-of-fold predictions on them; None where there are none.
        hashes: Their perceptual hashes, (72,) uint8 by image_id, where at hand.
        other_ids: Of the other images of their dataset, such as the test set; None
            where that is not known.
    """

    image_ids: frozenset[str]
    counts: Mapping[str, int]
    internal: Predictions | None
    hashes: Mapping[str, np.ndarray] = field(default_factory=dict)
    other_ids: frozenset[str] | None = None


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model says of a manifest's usable images.

    Attributes:
        image_ids: Of the images that it could read, (N,).
        p: Their probabilities, (N, C), also of those that it would refuse.
        refused: Whether it would refuse each, (N,); None without a rule for that.
    """

    image_ids: Sequence[str]
    p: np.ndarray
    refused: np.ndarray | None


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """What ``featcache predict`` and ``validate`` ask.

    Attributes:
        model: From images to calibrated probabilities.
        operating_points: Thresholds; None without out-of-fold predictions.
        rule: Which images it refuses; None refuses none.
        training: What it was trained on.
        dataset: Name of the dataset that it was trained on.
        bundle_sha256: Of the bundle's file; None for a run.
    """

    model: Model
    operating_points: OperatingPoints | None
    rule: RefusalRule | None
    training: TrainingSet
    dataset: str
    bundle_sha256: str | None = None

    @property
    def name(self) -> str:
        """Id of the run."""
        return self.model.name

    @property
    def classes(self) -> list[str]:
        """Labels, in the order of the probabilities."""
        return list(self.model.classes)

    @property
    def points(self) -> list[OperatingPoint]:
        """All operating points that have a threshold."""
        pairs = self.operating_points.triage if self.operating_points else []
        of_pairs = [point for one in pairs for point in (one.rule_out, one.rule_in)]
        finite = [point for point in of_pairs if np.isfinite(point.threshold)]
        return [*self.flagging, *finite]

    @cached_property
    def flagging(self) -> list[OperatingPoint]:
        """The operating points of one threshold: those that a column is reached by."""
        points = self.operating_points.points if self.operating_points else []
        return [point for point in points if np.isfinite(point.threshold)]

    @cached_property
    def triage(self) -> list[Triage]:
        """The pairs of thresholds for ruling a class out and in."""
        return known_triage(self.operating_points)

    @cached_property
    def flag_columns(self) -> list[str]:
        """A column an operating point, such as ``sensitivity_COVID``."""
        return [f"{point.kind}_{point.class_name}" for point in self.flagging]

    @cached_property
    def zone_columns(self) -> list[str]:
        """A column a pair of thresholds, such as ``zone_COVID``."""
        return [f"zone_{one.class_name}" for one in self.triage]

    @cached_property
    def score_columns(self) -> list[str]:
        """A column a part of the refusal."""
        return [f"refusal_{part}" for part in PARTS] if self.rule else []

    def answer(self, batch: Sequence[Candidate]) -> Scored:
        """Scores at least one image."""
        embedded = self.model.embed(batch)
        p = self.model.probabilities(embedded).p
        refused: Sequence[str | None] = [None] * len(batch)
        similar: Sequence[Sequence[tuple[str, str, float]]] = [()] * len(batch)
        scores: Mapping[str, np.ndarray] = {}
        if self.rule:
            refused, similar, scores = _refused(self.rule, batch, embedded)
        return Scored(
            p=p,
            refused=refused,
            scores=scores,
            nearest=[images[0] if images else None for images in similar],
            flags=self.flags(p),
            zones=self.zones(p),
            similar=similar,
            in_training=[
                one.image_id in self.training_ids or self._is_copy(one, near)
                for one, near in zip(batch, similar, strict=True)
            ],
        )

    def flags(self, p: np.ndarray) -> dict[str, np.ndarray]:
        """Which operating points probabilities (n, C) reach, (n,) bool by column."""
        flags = operating_points.apply(self.flagging, p)
        return dict(zip(self.flag_columns, flags.T, strict=True))

    def zones(self, p: np.ndarray) -> dict[str, np.ndarray]:
        """The zones of probabilities (n, C), (n,) text by column."""
        zones = zones_of_classes(self.triage, p)
        return {f"zone_{name}": values for name, values in zones.items()}

    def _is_copy(
        self, one: Candidate, similar: Sequence[tuple[str, str, float]]
    ) -> bool:
        """Whether an image shows the picture of one of the nearest training images.

        The hash of a picture takes as long as a small network, so it is computed only
        for what is as near as copies are.
        """
        ids = [name for name, _, distance in similar if distance < _NEAR]
        known = [self.training.hashes[i] for i in ids if i in self.training.hashes]
        if not known:
            return False
        rows, _ = nearest(perceptual_hash(one.picture.image)[None], np.stack(known))
        return bool(rows[0] >= 0)

    @property
    def training_ids(self) -> frozenset[str]:
        """The image_id of every image that it was trained on."""
        return self.training.image_ids

    @property
    def other_ids(self) -> frozenset[str] | None:
        """The image_id of the other images of its dataset; None where not known."""
        return self.training.other_ids

    @property
    def training_hashes(self) -> Mapping[str, np.ndarray]:
        """Their perceptual hashes, (72,) uint8; empty where they are not at hand."""
        return self.training.hashes

    @property
    def training_shares(self) -> list[float]:
        """Share of each class among the training images."""
        counts = Counter(self.training.counts)
        return [counts[name] / counts.total() for name in self.classes]

    @property
    def internal(self) -> Predictions | None:
        """Its out-of-fold predictions; None where there are none."""
        return self.training.internal

    def score(self, manifest: Manifest, *, reporter: Reporter = SILENT) -> Answers:
        """Applies it to the usable images of a manifest, whatever it would refuse.

        Args:
            manifest: Of a dataset that it may never have seen.
            reporter: Hears of the images answered for, as "images".
        """
        ok = manifest.ok
        inputs = [
            InputImage(path, partial(read_scanned, manifest.root, path, image_id))
            for path, image_id in zip(ok["path"], ok["image_id"], strict=True)
        ]
        ids, p, refused = [], [], []
        for done, answer in enumerate(stream(self, inputs, refuse=False), 1):
            if answer.p is not None:
                ids.append(answer.image_id)
                p.append(answer.p)
                refused.append(answer.status == REFUSED)
            reporter.progress("images", done, len(inputs))
        proba = np.array(p).reshape(-1, len(self.classes))
        return Answers(ids, proba, np.array(refused, bool) if self.rule else None)


def _refused(
    rule: RefusalRule, batch: Sequence[Candidate], embedded: Sequence[Outputs]
) -> tuple[list[str | None], list[list[tuple[str, str, float]]], dict[str, np.ndarray]]:
    statistics = [picture_statistics(one.picture, one.n_bytes) for one in batch]
    result = rule.refusal.score(
        embedded[rule.network][rule.output][:, 0],  # the plain view
        np.stack(statistics),
        [one.header for one in batch],
    )
    reasons = [reason or None for reason in result.reasons]
    return (
        reasons,
        result.similar,
        {f"refusal_{k}": v for k, v in result.scores.items()},
    )
