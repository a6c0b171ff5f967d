"""The whole model: networks, heads, calibration, the mean of an ensemble."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from featcache.dataset.views import Resize
from featcache.deploy.graph.calibrators import calibrated
from featcache.deploy.graph.heads import head_proba
from featcache.deploy.graph.layers import dense, rounded_to_float16
from featcache.deploy.graph.networks import (
    CarriedNetwork,
    NetworkGraph,
    Outputs,
    PixelGraph,
    Pixels,
)
from featcache.deploy.graph.tracing import PROBABILITIES
from featcache.deploy.model import FeatureNetwork
from featcache.errors import ExportError
from featcache.evaluation.calibration import Calibrator

if TYPE_CHECKING:
    import keras

PIXELS = "pixels"  # of an input; with several followed by the size


class MemberLike(Protocol):
    """A head and what it sees.

    Attributes:
        columns: (number of the network, output) of each block of its features.
        head: The fitted head.
        renderings: Views that its probabilities are a mean of.
        calibrator: Applied to its probabilities.
    """

    @property
    def columns(self) -> Sequence[tuple[int, str]]: ...  # noqa: D102
    @property
    def head(self) -> Any: ...  # noqa: D102
    @property
    def renderings(self) -> Sequence[Any]: ...  # noqa: D102
    @property
    def calibrator(self) -> Calibrator: ...  # noqa: D102


@dataclass(frozen=True, eq=False)
class ModelParts:
    """What a model is made of.

    Attributes:
        classes: Labels, in the order of the probabilities.
        networks: Each once.
        members: One, or those of an ensemble.
        weights: (M,) of the members; they sum to 1.
        calibrator: Of the weighted mean; that of a single member is its own.

    Raises:
        ExportError: A member averages over augmented views.
    """

    classes: Sequence[str]
    networks: Sequence[NetworkGraph]
    members: Sequence[MemberLike]
    weights: Sequence[float] = (1.0,)
    calibrator: Calibrator = field(default_factory=Calibrator)

    def __post_init__(self) -> None:
        _refuse_views(self.members)

    @property
    def resizes(self) -> list[Resize]:
        """How images are brought to the inputs, each way once, the smallest first."""
        ways = {network.resize for network in self.networks}
        return sorted(ways, key=lambda one: (one.side, one.rule, one.text))

    @property
    def inputs(self) -> dict[str, Resize]:
        """Names of the inputs, in the order of `resizes`."""
        if len(self.resizes) == 1:
            return {PIXELS: self.resizes[0]}
        inputs: dict[str, Resize] = {}
        for one in self.resizes:
            own = [other for other in inputs.values() if other.side == one.side]
            suffix = f"_{len(own) + 1}" if own else ""
            inputs[f"{PIXELS}_{one.side}{suffix}"] = one
        return inputs

    @property
    def carried(self) -> list[str]:
        """Names of the networks that are there in OpenVINO's format alone."""
        return [one.name for one in self._carried]

    @property
    def in_files(self) -> list[str]:
        """Names of those among them that are in ONNX or OpenVINO files."""
        return [one.name for one in self._carried if one.network]

    @property
    def _carried(self) -> list[FeatureNetwork]:
        networks = (one for one in self.networks if isinstance(one, CarriedNetwork))
        return [one.network for one in networks]

    def column_name(self, number: int, output: str) -> str:
        """Of the input of a `head_graph` for an output of a network."""
        return f"network_{number}_{list(self.networks[number].widths).index(output)}"

    def embed(self, pixels: Pixels) -> list[Outputs]:
        """Outputs of each network for pixels, as they are stored."""
        return [network.embed(pixels[network.resize]) for network in self.networks]

    def proba(self, embedded: Sequence[Outputs]) -> np.ndarray:
        """Calibrated probabilities (N, C), by the heads themselves."""
        by_member = []
        for member in self.members:
            blocks = [embedded[number][name] for number, name in member.columns]
            of_head = member.head.predict_proba(np.concatenate(blocks, axis=1))
            p = np.zeros((len(of_head), len(self.classes)))
            p[:, member.head.classes_] = of_head
            by_member.append(member.calibrator(p))
        if len(by_member) == 1:
            return by_member[0]
        mean = np.einsum("mnc,m->nc", np.stack(by_member), np.asarray(self.weights))
        return self.calibrator(mean)


def model_graph(parts: ModelParts, *, probe: bool = False) -> "keras.Model":
    """Joins networks, heads and calibration.

    Args:
        parts: The model, whose networks are all in Keras.
        probe: Put the embeddings in columns behind the classes: they show what a
            converted file makes of them; see `split_probe`.

    Returns:
        From (N, S, S, 3) uint8 pixels, RGB, to (N, C) probabilities, "probabilities".
        With networks that take images in several ways it has an input for each, the
        smallest first, "pixels_224" and so on, and "pixels_224_2" for a second way of
        that size; else "pixels".

    Raises:
        ExportError: A member has a head or features that cannot be built.
    """
    import keras

    pixels = {
        one: keras.Input((one.side, one.side, 3), dtype="uint8", name=name)
        for name, one in parts.inputs.items()
    }
    networks = (one for one in parts.networks if isinstance(one, PixelGraph))
    outputs = [one.model(pixels[one.resize]) for one in networks]
    return _graph(parts, list(pixels.values()), outputs, probe)


def head_graph(parts: ModelParts, *, probe: bool = False) -> "keras.Model":
    """Joins heads and calibration.

    Args:
        parts: The model.
        probe: As for `model_graph`.

    Returns:
        From the outputs (N, width) float32 of the networks, one input for each, to
        (N, C) probabilities.

    Raises:
        ExportError: As `model_graph`.
    """
    import keras

    outputs: list[dict[str, Any]] = [
        {
            name: keras.Input((width,), name=parts.column_name(number, name))
            for name, width in one.widths.items()
        }
        for number, one in enumerate(parts.networks)
    ]
    columns = [x for by_name in outputs for x in by_name.values()]
    return _graph(parts, columns, outputs, probe)


def split_probe(
    probed: np.ndarray, n_classes: int, like: Sequence[Outputs]
) -> tuple[np.ndarray, list[Outputs]]:
    """Takes the output of a graph with ``probe`` apart.

    Args:
        probed: (N, C + all widths).
        n_classes: C.
        like: Outputs of the networks, with these widths.

    Returns:
        The probabilities (N, C), and the outputs of each network.
    """
    start, embedded = n_classes, []
    for outputs in like:
        parts = {}
        for name, values in outputs.items():
            parts[name] = probed[:, start : start + values.shape[1]]
            start += values.shape[1]
        embedded.append(parts)
    return probed[:, :n_classes], embedded


def _graph(
    parts: ModelParts, inputs: list[Any], outputs: list[dict[str, Any]], probe: bool
) -> "keras.Model":
    import keras

    pairs = zip(parts.networks, outputs, strict=True)
    stored = [_rounded(network.dtype, by_name) for network, by_name in pairs]
    p = _proba(parts, stored)
    if probe:
        values = [x for by_name in stored for x in by_name.values()]
        p = keras.ops.concatenate([p, *values], axis=1)
    named = keras.layers.Activation("linear", name=PROBABILITIES)(p)
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], named)


def _proba(parts: ModelParts, outputs: list[dict[str, Any]]) -> Any:
    """Symbolic probabilities (N, C)."""
    import keras

    n_classes = len(parts.classes)
    member_proba = [_member(member, outputs, n_classes) for member in parts.members]
    if len(member_proba) == 1:
        return member_proba[0]
    pairs = zip(member_proba, parts.weights, strict=True)
    weighted = keras.ops.stack([one * float(weight) for one, weight in pairs])
    return calibrated(keras.ops.sum(weighted, axis=0), parts.calibrator)


def _rounded(dtype: str, outputs: dict[str, Any]) -> dict[str, Any]:
    if dtype == "float32":
        return outputs
    if dtype != "float16":
        raise ExportError(
            "features stored as float32 or float16", dtype, "Extract them anew."
        )
    return {name: rounded_to_float16(x) for name, x in outputs.items()}


def _member(
    member: MemberLike, outputs: Sequence[dict[str, Any]], n_classes: int
) -> Any:
    import keras

    blocks = [outputs[number][name] for number, name in member.columns]
    x = keras.ops.concatenate(blocks, axis=1) if len(blocks) > 1 else blocks[0]
    p = head_proba(member.head, x)
    classes = [int(code) for code in member.head.classes_]
    if classes != list(range(n_classes)):  # of those it was not trained on: 0
        p = dense(p, np.eye(n_classes)[classes])
    return calibrated(p, member.calibrator)


def _refuse_views(members: Sequence[MemberLike]) -> None:
    if any(len(member.renderings) > 1 for member in members):
        raise ExportError(
            "a model that looks at each image once",
            "one that averages over augmented views (`tta=True`), which are drawn "
            "outside the graph",
            "Train the head without `tta=True`, or use predict.",
        )
