"""A trained model on new images: networks, heads and calibration, as in training."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from featcache.backbones import Baseline, Network
from featcache.backbones.engines.base import Engine
from featcache.core.parallel import one_thread
from featcache.dataset import images, rendering
from featcache.dataset.views import Policy, Resize
from featcache.errors import StoreError
from featcache.evaluation.calibration import Calibrator
from featcache.evaluation.runs import Run
from featcache.features.store import Store

PROBABILITIES = "probabilities"  # the output of a fine-tuned network


@dataclass(frozen=True)
class Rendering:
    """One way an image is shown to a network.

    Attributes:
        view: Its number; 0 is the plain view.
        policy: The recipe that draws it; None for the plain view.
    """

    view: int = 0
    policy: Policy | None = None


PLAIN = Rendering()


@dataclass(frozen=True, eq=False)
class Candidate:
    """An image to answer for.

    Attributes:
        image_id: SHA-256 of its file's bytes.
        picture: Its pixels.
        path: As the user named it.
        n_bytes: Size of its file.
        header: What its DICOM header states, or nothing.
    """

    image_id: str
    picture: images.Picture
    path: str = ""
    n_bytes: int = 0
    header: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class FeatureNetwork:
    """A network, or a baseline, and those of its outputs that heads use.

    Attributes:
        name: Of the backbone.
        resize: How images are brought to the size of its input.
        outputs: Names of the outputs: "features", taps, or "probabilities".
        widths: Columns of each.
        dtype: In which features are stored, and so rounded.
        make: Makes what runs it.
        network: What it is, as ``backbones.resolve`` gives it; None in a bundle that
            carries the network itself.
        contract_id: Of its features; None for a network that was fine-tuned.
        store: That of its features, where there is one.
        run: The run that it was fine-tuned in.
    """

    name: str
    resize: Resize
    outputs: tuple[str, ...]
    widths: tuple[int, ...]
    make: Callable[[], Engine]
    dtype: str = "float32"
    network: Network | None = None
    contract_id: str | None = None
    store: Store | None = None
    run: Run | None = None

    @property
    def size(self) -> int:
        """Side of its input in pixels; 0 where it looks at none."""
        return self.resize.side

    @cached_property
    def engine(self) -> Engine:
        """What runs it, made at the first use."""
        return self.make()

    def pixels(self, candidate: Candidate, cut: Callable[[Resize], np.ndarray]) -> Any:
        """What its engine takes of an image: (S, S, 3) uint8, or (D,) measured."""
        row = self.network.row if self.network else None
        if isinstance(row, Baseline):
            return row.measure(candidate.picture, lambda side: cut(Resize(side)))
        return cut(self.resize)

    def embed(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Each output (n, width) float32, rounded as it is stored.

        Args:
            inputs: (n, S, S, 3) uint8, or what was measured, (n, D).

        Raises:
            StoreError: The network gives other outputs than it did in training.
        """
        size = self.engine.batch_size
        batches = (inputs[at : at + size] for at in range(0, len(inputs), size))
        results = list(self.engine.run(batches))
        values = {
            name: np.concatenate([result[name] for result in results])
            for name in self.outputs
        }
        got = tuple(value.shape[1] for value in values.values())
        if got != self.widths:
            raise StoreError(
                f"outputs of {self.name} with {self.widths} columns",
                str(got),
                "The network is another one. Restore its file.",
            )
        return {
            name: value.astype(self.dtype).astype(np.float32)
            for name, value in values.items()
        }


Outputs = dict[str, np.ndarray]  # (n, renderings, width) by output


class FeatureStorage(Protocol):
    """Where embeddings of images are kept between calls."""

    def find(self, number: int, image_ids: Sequence[str]) -> dict[str, Outputs]:
        """Outputs (renderings, width) of a network for the images that are stored."""

    def add(self, number: int, image_ids: Sequence[str], outputs: Outputs) -> None:
        """Keeps outputs (n, renderings, width) of a network."""


class ProbabilityModel(Protocol):
    """A fitted head."""

    @property
    def classes_(self) -> Any:
        """(c,) class codes."""

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Probabilities (n, c) of features (n, D)."""


class PassOn:
    """The head of a network that gives probabilities itself.

    Args:
        n_classes: C.
    """

    def __init__(self, n_classes: int) -> None:
        self.classes_ = np.arange(n_classes)

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """The probabilities (n, C) as they are, in float64."""
        p = X.astype(np.float64)
        return np.asarray(p / p.sum(axis=1, keepdims=True))


@dataclass(frozen=True, eq=False)
class Member:
    """One trained head, or fine-tuned network, and its calibration.

    Attributes:
        name: Id of the run.
        columns: (number of the network, output) of each block of its features.
        head: From features to probabilities.
        renderings: Over which it averages.
        calibrator: Applied to the mean.
    """

    name: str
    columns: tuple[tuple[int, str], ...]
    head: ProbabilityModel
    renderings: tuple[Rendering, ...]
    calibrator: Calibrator


@dataclass(frozen=True)
class Probabilities:
    """What a model says, stage by stage.

    Attributes:
        raw: (M, n, C) means of the members' heads over the renderings.
        p: (n, C) calibrated, and averaged over the members.
    """

    raw: np.ndarray
    p: np.ndarray


@dataclass(frozen=True, eq=False)
class Model:
    """A trained model: what a run, or a bundle of it, says of an image.

    Attributes:
        name: Id of the run.
        classes: Labels, in the order of the probabilities.
        networks: Each once.
        members: One, or those of an ensemble.
        weights: (M,) of the members; they sum to 1.
        calibrator: Of the weighted mean; that of a single member is its own.
        storage: Keeps embeddings between calls; None keeps none.
    """

    name: str
    classes: tuple[str, ...]
    networks: tuple[FeatureNetwork, ...]
    members: tuple[Member, ...]
    weights: tuple[float, ...] = (1.0,)
    calibrator: Calibrator = field(default_factory=Calibrator)
    storage: FeatureStorage | None = None

    @cached_property
    def renderings(self) -> list[list[Rendering]]:
        """How each network sees an image; the plain view comes first."""
        by_network: list[dict[Rendering, None]] = [{PLAIN: None} for _ in self.networks]
        for member in self.members:
            for number, _ in member.columns:
                by_network[number] |= dict.fromkeys(member.renderings)
        return [list(renderings) for renderings in by_network]

    def embed(self, candidates: Sequence[Candidate]) -> list[Outputs]:
        """Outputs of each network for all renderings of images.

        What the storage has is read; no network runs for it.
        """
        numbers = range(len(self.networks))
        return [self.embed_network(number, candidates) for number in numbers]

    def embed_network(self, number: int, candidates: Sequence[Candidate]) -> Outputs:
        """Outputs (n, renderings, width) of one network."""
        network = self.networks[number]
        ids = [one.image_id for one in candidates]
        stored = self.storage.find(number, ids) if self.storage else {}
        new = {o.image_id: o for o in candidates if o.image_id not in stored}
        missing = list(new.values())
        if missing:
            computed = self._computed(number, missing)
            new_ids = [one.image_id for one in missing]
            if self.storage:
                self.storage.add(number, new_ids, computed)
            stored |= {
                image_id: {name: values[row] for name, values in computed.items()}
                for row, image_id in enumerate(new_ids)
            }
        return {
            name: np.stack([stored[image_id][name] for image_id in ids])
            for name in network.outputs
        }

    def _computed(self, number: int, candidates: Sequence[Candidate]) -> Outputs:
        network, renderings = self.networks[number], self.renderings[number]
        inputs = np.stack(
            [
                pixels
                for one in candidates
                for pixels in _pixels(network, one, renderings)
            ]
        )
        shape = len(candidates), len(renderings), -1
        return {k: v.reshape(shape) for k, v in network.embed(inputs).items()}

    def probabilities(self, embedded: Sequence[Outputs]) -> Probabilities:
        """What the heads say of embeddings, as `embed` gives them."""
        with one_thread():
            raw = np.stack([self.raw(member, embedded) for member in self.members])
            return Probabilities(raw, self.calibrated(raw))

    def raw(self, member: Member, embedded: Sequence[Outputs]) -> np.ndarray:
        """A member's mean probabilities (n, C), before calibration."""
        blocks = []
        for number, name in member.columns:
            renderings = self.renderings[number]
            rows = [renderings.index(one) for one in member.renderings]
            blocks.append(embedded[number][name][:, rows])
        X = np.concatenate(blocks, axis=2)
        flat = np.ascontiguousarray(X.reshape(-1, X.shape[2]))
        p = np.zeros((len(X), len(self.classes)))
        of_head = member.head.predict_proba(flat)
        p[:, member.head.classes_] = of_head.reshape(*X.shape[:2], -1).mean(axis=1)
        return p

    def calibrated(self, raw: np.ndarray) -> np.ndarray:
        """Calibrated probabilities (n, C) of the members' means (M, n, C)."""
        calibrated = [
            member.calibrator(p) for member, p in zip(self.members, raw, strict=True)
        ]
        if len(calibrated) == 1:
            return np.asarray(calibrated[0])
        mean = np.einsum("mnc,m->nc", np.stack(calibrated), np.asarray(self.weights))
        return np.asarray(self.calibrator(mean))

    def predict_proba(self, candidates: Sequence[Candidate]) -> np.ndarray:
        """Calibrated probabilities (n, C) of images."""
        if not candidates:
            return np.zeros((0, len(self.classes)))
        return self.probabilities(self.embed(candidates)).p


def _pixels(
    network: FeatureNetwork, candidate: Candidate, renderings: Iterable[Rendering]
) -> Iterator[np.ndarray]:
    for one in renderings:
        yield network.pixels(candidate, _cutter(candidate, one))


def _cutter(candidate: Candidate, one: Rendering) -> Callable[[Resize], np.ndarray]:
    policy = one.policy or Policy()
    cut = rendering.cutter(candidate.picture.image, policy, candidate.image_id)
    return lambda resize: cut(resize, one.view)
