"""Networks without their preprocessing and pooling, so that others can be tried."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from featcache.backbones.base import MAP, NCHW, NHWC, VECTOR, Network
from featcache.backbones.build import build
from featcache.backbones.descriptor import Descriptor
from featcache.backbones.engines import openvino
from featcache.backbones.graphs import reading
from featcache.backbones.graphs.readout import KINDS
from featcache.backbones.pooling import POOLINGS
from featcache.core.taps import AVG, FEATURES
from featcache.errors import FeatcacheError

if TYPE_CHECKING:
    import keras

_ROWS = 8  # images in a pass
_CONFIG = {"INFERENCE_PRECISION_HINT": "f32"}


@dataclass(frozen=True, eq=False)
class RawNetwork:
    """A network from numbers to its outputs as they are.

    Attributes:
        layout: "nchw" or "nhwc", of maps.
        run: From (n, S, S, C) float32, ready for the network, to its outputs by name;
            first the one that the descriptor means.
    """

    layout: str
    run: Callable[[np.ndarray], dict[str, np.ndarray]]


def raw(
    network: Network, descriptor: Descriptor, model: "keras.Model | None" = None
) -> dict[str, RawNetwork]:
    """A network without preprocessing and pooling, by each layout it may have.

    Args:
        network: At the size of the canary.
        descriptor: Of it.
        model: The network as ``build`` gave it, if it is there.
    """
    if not network.readout:
        core = model or build(network)

        def run(values: np.ndarray) -> dict[str, np.ndarray]:
            return {FEATURES: np.asarray(core(values, training=False))}

        return {NHWC: RawNetwork(NHWC, _in_batches(run, _ROWS))}
    layout = network.readout.layout
    networks = {layout: _of_graph(network, descriptor, layout)}
    other = NHWC if layout == NCHW else NCHW
    with suppress(FeatcacheError, RuntimeError):  # where it cannot have that layout
        networks[other] = _of_graph(network, descriptor, other)
    return networks


def _of_graph(network: Network, descriptor: Descriptor, layout: str) -> RawNetwork:
    assert network.file is not None
    ov = openvino.openvino()
    graph = reading.read(network.file, replace(descriptor, layout=layout))
    model = reading.resized(graph, network.input_size)
    values = _outputs(model, network.output)
    results = [ov.opset13.result(value) for value in values.values()]
    taken = model.input()
    plain = ov.Model(results, model.get_parameters(), "raw")
    compiled = openvino.core().compile_model(plain, "CPU", _CONFIG)
    dtype = taken.get_element_type().to_dtype()

    def run(pixels: np.ndarray) -> dict[str, np.ndarray]:
        x = pixels.transpose(0, 3, 1, 2) if layout == NCHW else pixels
        outputs = compiled(np.ascontiguousarray(x.astype(dtype)))
        return {k: np.array(outputs[i], np.float32) for i, k in enumerate(values)}

    rows = reading.shape_of(taken)[0]
    return RawNetwork(layout, _in_batches(run, rows or _ROWS, whole=rows is not None))


def _outputs(model: Any, name: str | None) -> dict[str, Any]:
    """The output of that name, or the only one; then all others that can be pooled."""
    first = reading.output_of(model, name)
    values = {name or FEATURES: first}
    for output in model.outputs:
        source = output.get_node().input_value(0)
        if len(reading.shape_of(output)) in KINDS and source != first:
            values[reading.name_of(output)] = source
    return values


def _in_batches(
    run: Callable[[np.ndarray], dict[str, np.ndarray]],
    rows: int,
    *,
    whole: bool = False,
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Runs any number of images, so many at once; if need be with empty ones."""

    def run_all(values: np.ndarray) -> dict[str, np.ndarray]:
        parts = []
        for start in range(0, len(values), rows):
            batch = values[start : start + rows]
            missing = rows - len(batch) if whole else 0
            if missing:
                batch = np.pad(batch, [(0, missing), (0, 0), (0, 0), (0, 0)])
            outputs = run(batch)
            parts.append({k: v[: len(v) - missing] for k, v in outputs.items()})
        return {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}

    return run_all


def pooled(output: np.ndarray, layout: str, pooling: str, prefix: int) -> np.ndarray:
    """(n, D) of an output, pooled as ``graphs.pixels`` does.

    Args:
        output: (n, D), (n, T, D), or (n, D, h, w) or (n, h, w, D) by the layout.
        layout: "nchw" or "nhwc".
        pooling: One of ``descriptor.POOLINGS`` for its kind.
        prefix: Tokens in front of those of the patches.
    """
    kind = KINDS[output.ndim]
    if kind == VECTOR:
        return output
    if kind == MAP:
        maps = output.transpose(0, 2, 3, 1) if layout == NCHW else output
        return np.asarray(POOLINGS[pooling](maps))
    first, patches = output[:, 0], output[:, prefix:, None]  # a column of them
    if pooling == "cls":
        return first
    if pooling == "cls+mean":
        return np.hstack([first, POOLINGS[AVG](patches)])
    return np.asarray(POOLINGS[pooling](patches))
