"""From a run's record back to its networks, as they were when features were stored."""

from collections.abc import Sequence
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from featcache import backbones
from featcache.backbones import Baseline, Network, Preprocess
from featcache.backbones.engines.base import Engine
from featcache.backbones.engines.openvino import OpenVINOEngine
from featcache.backbones.graphs import pixels as graph_pixels
from featcache.backbones.graphs import reading
from featcache.backbones.graphs.pixels import CLASS_TOKEN, CLS, CLS_MEAN
from featcache.backbones.pooling import POOLINGS, Pooling, last_map
from featcache.backbones.unroll import maps_of
from featcache.core.taps import AVG, split_tap
from featcache.core.text import some
from featcache.deploy import networks
from featcache.errors import RunError, StoreError
from featcache.evaluation.runs import Run
from featcache.features.keys import is_plain
from featcache.features.store import FEATURES, Store

if TYPE_CHECKING:
    import keras

BATCH = 16
Pixels = np.ndarray  # (N, S, S, 3) uint8


class Part(NamedTuple):
    """Features of a network that are pooled from one map.

    Attributes:
        name: Of the block of features.
        width: Its columns.
        pooling: How they are pooled.
        has_places: Whether the map shows places; that of a class token is one cell.
    """

    name: str
    width: int
    pooling: Pooling
    has_places: bool = True


class Net:
    """One network of a run, with the blocks of features that it gives.

    Args:
        store: The store whose features the run was trained on.
        network: What made it.
        matrices: Names of its blocks, in the order of the head's columns.
    """

    is_graph = False

    def __init__(self, store: Store, network: Network, matrices: Sequence[str]) -> None:
        self.store, self.network, self.matrices = store, network, tuple(matrices)
        self.resize = network.resize

    @property
    def parts(self) -> list[Part]:
        """Its features, in the order of the head's columns."""
        return [
            Part(name, self.store.dims[name], POOLINGS[split_tap(name)[1]])
            for name in self.matrices
        ]

    @property
    def name(self) -> str:
        """Its backbone."""
        return self.network.name

    @property
    def taps(self) -> Sequence[str]:
        """The ends of its blocks."""
        return self.network.taps

    @property
    def is_int8(self) -> bool:
        """Whether its stored features are of a network of 8 bits."""
        return self.store.header.contract.precision == "int8"

    def mean(self, image_ids: Sequence[str]) -> np.ndarray:
        """Mean (D,) of the plain views of images.

        Raises:
            StoreError: Its store has none of them.
        """
        keys = self.store.keys
        rows = is_plain(keys) & keys["image_id"].isin(image_ids).to_numpy()
        if not rows.any():
            raise StoreError(
                f"training images of the run in {self.store.path.name}",
                "none",
                "Extract the dataset again with the same options.",
            )
        parts = [self.store.read(name)[rows].mean(axis=0) for name in self.matrices]
        return np.concatenate(parts)

    @cached_property
    def has_maps(self) -> bool:
        """Whether each of its features is pooled from a map."""
        return not self.network.is_baseline and last_map(self._core) is not None

    @property
    def layers(self) -> list[str]:
        """Names of its layers that give maps, from the input on."""
        return [*maps_of(self._core)]

    def embed(self, pixels: Pixels) -> np.ndarray:
        """Features (N, D of all its blocks) of rendered pixels."""
        if isinstance(self.network.row, Baseline):
            return _measured(self.network.row, pixels)
        outputs = passed(self._pooled, pixels)
        return np.concatenate([outputs[name] for name in self.matrices], axis=1)

    def see(self, pixels: Pixels) -> list[np.ndarray]:
        """Maps (N, h, w, c) of each block, from which its features are pooled."""
        outputs = passed(self._mapping, pixels)
        normalised = self._normalised(outputs[FEATURES])
        return [
            normalised if name == FEATURES else outputs[split_tap(name)[0]]
            for name in self.matrices
        ]

    def maps(self, pixels: Pixels, layers: Sequence[str]) -> dict[str, np.ndarray]:
        """Maps (N, h, w, c) of any inner layers, by their names."""
        return passed(self._mapper(layers), pixels)

    @property
    def _statistics(self) -> Preprocess | None:
        """The scaling of featurewise features, which is in their contract."""
        return Preprocess.from_statistics(self.store.header.contract.statistics)

    @cached_property
    def _core(self) -> "keras.Model":
        core = backbones.build(self.network)
        self._refuse_other_weights(backbones.weights_digest(core))
        return core

    def _refuse_other_weights(self, got: str) -> None:
        expected = self.store.header.contract.weights_digest
        if got != expected:
            raise StoreError(
                f"the weights {str(expected)[:8]} of {self.store.path.name}",
                f"{got[:8]} in {self.network.file or self.network.name}",
                "Pass the original weights file with -b, or extract and train again.",
            )

    @cached_property
    def _pooled(self) -> Engine:
        taps = [name for name in self.matrices if name != FEATURES]
        graph = backbones.with_pixels(
            self._core, self.network, taps=taps, statistics=self._statistics
        )
        return engine(graph)

    @cached_property
    def _mapping(self) -> Engine:
        return self._mapper(self._layers)

    @property
    def _layers(self) -> list[str]:
        """Whose maps its features are pooled from."""
        return [split_tap(name)[0] for name in self.matrices]

    def _mapper(self, layers: Sequence[str]) -> Engine:
        import keras

        core = self._core
        outputs = {
            name: core.get_layer(name).output for name in layers if name != FEATURES
        }
        outputs[FEATURES] = last_map(core)
        inner = keras.Model(core.input, outputs)
        graph = backbones.with_pixels(inner, self.network, statistics=self._statistics)
        # with_pixels puts all that the network gives under one name.
        return engine(keras.Model(graph.input, graph.output[FEATURES]))

    def _normalised(self, A: np.ndarray) -> np.ndarray:
        """Maps behind the layer normalisation that some networks put after the mean.

        It is linear but for the mean and the deviation of the image's embedding; with
        these given, the mean of the normalised maps is the normalised mean.
        """
        last = self._core.layers[-1]
        if type(last).__name__ != "LayerNormalization":
            return A
        mean = A.mean(axis=(1, 2), keepdims=True)
        centre = mean.mean(axis=-1, keepdims=True)
        deviation = np.sqrt(mean.var(axis=-1, keepdims=True) + last.epsilon)
        gamma, beta = (weight.numpy() for weight in (last.gamma, last.beta))
        return np.asarray((A - centre) / deviation * gamma + beta)


class GraphNet(Net):
    """A network in a file that OpenVINO reads; see `Net`."""

    is_graph = True

    @property
    def parts(self) -> list[Part]:  # noqa: D102
        parts = []
        for part in super().parts:
            if part.name != FEATURES or self._pooling in (AVG, CLS):
                parts.append(part)
            elif self._pooling == CLS_MEAN:
                token, half = part.width // 2, part.pooling
                parts.append(Part(CLASS_TOKEN, token, half, has_places=False))
                parts.append(Part(FEATURES, part.width - token, half))
            else:
                parts.append(part._replace(pooling=POOLINGS[self._pooling]))
        return parts

    @cached_property
    def has_maps(self) -> bool:  # noqa: D102
        return self._map_graph(self._layers) is not None

    @cached_property
    def layers(self) -> list[str]:  # noqa: D102
        return graph_pixels.layers_with_maps(self.network)

    def see(self, pixels: Pixels) -> list[np.ndarray]:  # noqa: D102
        outputs = passed(self._mapping, pixels)
        return [
            outputs[part.name if part.name in outputs else split_tap(part.name)[0]]
            for part in self.parts
        ]

    def maps(self, pixels: Pixels, layers: Sequence[str]) -> dict[str, np.ndarray]:  # noqa: D102
        outputs = passed(self._mapper(layers), pixels)
        return {name: outputs[name] for name in (*layers, FEATURES)}

    @property
    def _pooling(self) -> str:
        """How the embedding is pooled."""
        assert self.network.readout
        return self.network.readout.pooling

    @cached_property
    def _pooled(self) -> Engine:
        taps = [name for name in self.matrices if name != FEATURES]
        scaling = self._statistics
        return self._engine(
            graph_pixels.with_pixels(self.network, taps=taps, statistics=scaling)
        )

    def _mapper(self, layers: Sequence[str]) -> Engine:
        return self._engine(self._map_graph(layers))

    def _map_graph(self, layers: Sequence[str]) -> Any:
        scaling = self._statistics
        return graph_pixels.with_maps(self.network, layers, statistics=scaling)

    def _engine(self, model: Any) -> Engine:
        self._refuse_other_weights(reading.weights_digest(self.network))
        return OpenVINOEngine(model, batch_size=BATCH)


def of_run(run: Run, folder: Path, *, files: Sequence[Path] = ()) -> list[Net]:
    """The networks of a run, in the order of its features.

    Args:
        run: The run.
        folder: ``cache/<dataset>``.
        files: ``.keras`` and weights files to look for the networks' weights in.

    Raises:
        RunError: It has no features of its own.
        StoreError: A store is gone, or was made of other images' pixels.
        WeightsError: A network's file cannot be found.
    """
    blocks, members = run.record.features, run.record.members
    if members:
        raise RunError(
            "a run with a head of its own to explain",
            f"the ensemble {run.run_id}; its members are: {some(members)}",
            "Explain its members.",
        )
    nets = []
    for _, parts in groupby(blocks, key=lambda block: block.contract_id):
        own = list(parts)
        of_blocks = networks.store_of(run, folder, own[0])
        network = networks.resolve(of_blocks.header, folder, files)
        if not network.input_size:
            raise RunError(
                "features computed from pixels",
                f"{network.name}, which describes the file",
                "Explain a run on a backbone, on pixels48 or on border.",
            )
        kind = GraphNet if network.is_graph else Net
        nets.append(kind(of_blocks, network, [b.tap or FEATURES for b in own]))
    return nets


def _measured(row: Baseline, pixels: Pixels) -> np.ndarray:
    """A baseline of rendered pixels, each of the baseline's own size."""
    nothing: Any = None  # the picture, which those that are left do not ask for

    def one(view: np.ndarray) -> np.ndarray:
        return row.measure(nothing, lambda _: view)

    return np.stack([one(view) for view in pixels])


def engine(graph: "keras.Model") -> Engine:
    """What runs a graph from pixels to a dictionary of outputs."""
    from featcache.backbones.engines.tensorflow import TensorFlowEngine

    return TensorFlowEngine(graph, batch_size=BATCH)


def passed(runner: Engine, pixels: Pixels) -> dict[str, np.ndarray]:
    """All outputs of an engine for rendered pixels (N, S, S, 3)."""
    batches = (pixels[at : at + BATCH] for at in range(0, len(pixels), BATCH))
    outputs = list(runner.run(batches))
    return {name: np.concatenate([o[name] for o in outputs]) for name in outputs[0]}
