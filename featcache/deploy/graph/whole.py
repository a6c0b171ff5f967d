"""The whole model: networks, heads, calibration, the mean of an ensemble."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from featcache.backbones import Network, Preprocess, build, with_pixels
from featcache.backbones.engines.tensorflow import TensorFlowEngine
from featcache.deploy.graph.calibrators import calibrated
from featcache.deploy.graph.heads import head_proba
from featcache.deploy.graph.layers import dense, rounded_to_float16
from featcache.errors import ExportError
from featcache.evaluation.calibration import Calibrator
from featcache.features.contract import Contract

if TYPE_CHECKING:
    import keras

PROBABILITIES = "probabilities"  # the name of the output
PIXELS = "pixels"  # of an input; with several sizes followed by the size
_BATCH = 16
Pixels = Mapping[int, np.ndarray]  # (N, S, S, 3) uint8 by size
Outputs = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class PixelGraph:
    """A network as a Keras graph.

    Attributes:
        model: From (N, S, S, 3) uint8 pixels to a dictionary of outputs (N, width),
            as ``backbones.with_pixels`` gives it.
        dtype: In which its outputs are stored, and so rounded: float32 or float16.
    """

    model: "keras.Model"
    dtype: str = "float32"

    @classmethod
    def of(cls, network: Network, contract: Contract, taps: Sequence[str] = ()) -> Self:
        """Builds a network as its stored features were made.

        Args:
            network: The network.
            contract: That of its features.
            taps: Outputs beside the embedding, as "layer" or "layer:max".

        Raises:
            ExportError: There is no network, or it was run in 8 bits.
            WeightsError: The weights cannot be had or do not fit.
        """
        if network.is_baseline:
            raise ExportError(
                "a model with a network",
                f"the baseline {network.name}, which measures the image in Python",
                "Export a run on a backbone.",
            )
        if contract.precision == "int8":
            raise ExportError(
                "features of a network in float32",
                f"int8 features of {network.name}: OpenVINO's quantised network is "
                "the only one that gives them",
                "Extract with `precision='float32'` and train on that, or use a "
                "bundle.",
            )
        statistics = Preprocess.from_statistics(contract.statistics)
        graph = with_pixels(build(network), network, taps=taps, statistics=statistics)
        return cls(graph, contract.dtype or "float32")

    @property
    def size(self) -> int:
        """Side of its input in pixels."""
        return int(self.model.input_shape[1])

    def embed(self, pixels: np.ndarray) -> Outputs:
        """Its outputs (N, width) float32, rounded as they are stored.

        Args:
            pixels: (N, S, S, 3) uint8.
        """
        engine = TensorFlowEngine(self.model, batch_size=_BATCH)
        batches = (pixels[at : at + _BATCH] for at in range(0, len(pixels), _BATCH))
        results = list(engine.run(batches))
        return {
            name: np.concatenate([result[name] for result in results])
            .astype(self.dtype)
            .astype(np.float32)
            for name in results[0]
        }


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
    """

    classes: Sequence[str]
    networks: Sequence[PixelGraph]
    members: Sequence[MemberLike]
    weights: Sequence[float] = (1.0,)
    calibrator: Calibrator = field(default_factory=Calibrator)

    @property
    def sizes(self) -> list[int]:
        """Sides of the inputs in pixels, each once, in ascending order."""
        return sorted({network.size for network in self.networks})

    def embed(self, pixels: Pixels) -> list[Outputs]:
        """Outputs of each network for pixels of each size, as they are stored."""
        return [network.embed(pixels[network.size]) for network in self.networks]

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


def model_graph(parts: ModelParts) -> "keras.Model":
    """Joins networks, heads and calibration.

    Returns:
        From (N, S, S, 3) uint8 pixels, RGB, to (N, C) probabilities, "probabilities".
        With networks of several input sizes it has an input for each, in ascending
        order, "pixels_224" and so on; else "pixels".

    Raises:
        ExportError: A member averages over augmented views, or has a head or features
            that cannot be built.
    """
    pixels, _, p = _joined(parts)
    return _graph(pixels, p)


def probe_graph(parts: ModelParts) -> "keras.Model":
    """The graph of `model_graph`, with the embeddings in columns behind the classes.

    It shows what a converted file makes of them; see `split_probe`.
    """
    import keras

    pixels, outputs, p = _joined(parts)
    values = [x for one in outputs for x in one.values()]
    return _graph(pixels, keras.ops.concatenate([p, *values], axis=1))


def split_probe(
    probed: np.ndarray, n_classes: int, like: Sequence[Outputs]
) -> tuple[np.ndarray, list[Outputs]]:
    """Takes the output of a `probe_graph` apart.

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


def _joined(parts: ModelParts) -> tuple[list[Any], list[dict[str, Any]], Any]:
    """Symbolic pixels, outputs of the networks, and probabilities."""
    import keras

    _refuse_views(parts.members)
    inputs = _inputs(parts.sizes)
    outputs = [_outputs(one, inputs[one.size]) for one in parts.networks]
    n_classes = len(parts.classes)
    member_proba = [_member(member, outputs, n_classes) for member in parts.members]
    p = member_proba[0]
    if len(member_proba) > 1:
        pairs = zip(member_proba, parts.weights, strict=True)
        weighted = keras.ops.stack([one * float(weight) for one, weight in pairs])
        p = calibrated(keras.ops.sum(weighted, axis=0), parts.calibrator)
    return list(inputs.values()), outputs, p


def _graph(pixels: list[Any], output: Any) -> "keras.Model":
    import keras

    named = keras.layers.Activation("linear", name=PROBABILITIES)(output)
    return keras.Model(pixels if len(pixels) > 1 else pixels[0], named)


def _inputs(sizes: Sequence[int]) -> dict[int, Any]:
    import keras

    names = [PIXELS] if len(sizes) == 1 else [f"{PIXELS}_{size}" for size in sizes]
    return {
        size: keras.Input((size, size, 3), dtype="uint8", name=name)
        for size, name in zip(sizes, names, strict=True)
    }


def _outputs(network: PixelGraph, pixels: Any) -> dict[str, Any]:
    outputs: dict[str, Any] = network.model(pixels)
    if network.dtype == "float32":
        return outputs
    if network.dtype != "float16":
        raise ExportError(
            "features stored as float32 or float16", network.dtype, "Extract them anew."
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
            "Train the head with `tta=False`, or use predict.",
        )
