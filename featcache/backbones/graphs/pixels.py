"""Preprocessing in front of a network in a file, pooling and taps behind it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from featcache.backbones.base import (
    GREY,
    MAP,
    NCHW,
    TOKENS,
    VECTOR,
    Network,
    Preprocess,
    Readout,
)
from featcache.backbones.descriptor import Descriptor
from featcache.backbones.engines import openvino
from featcache.backbones.graphs.maps import averaged, class_token, map_of
from featcache.backbones.graphs.reading import (
    named_outputs,
    output_of,
    read,
    resized,
    shape_of,
    shape_text,
)
from featcache.backbones.graphs.readout import KINDS
from featcache.backbones.pooling import LEAST, POOLINGS, POWER, Pooling, averaging
from featcache.core.taps import AVG, FEATURES, MAX, split_tap
from featcache.errors import UsageError

CLS, CLS_MEAN = "cls", "cls+mean"
CLASS_TOKEN = "class token"  # no node of a network has a name with a space


def with_pixels(
    network: Network, *, taps: Sequence[str] = (), statistics: Preprocess | None = None
) -> Any:
    """Puts preprocessing in front of a network, and pooling and taps behind it.

    Args:
        network: In a file that OpenVINO reads.
        taps: Inner nodes to pool: "node", "node:max" and the like.
        statistics: The scaling of "featurewise" preprocessing.

    Returns:
        A model from (N, S, S, 3) uint8 pixels, RGB, to "features" (N, D) and, by its
        name, each tap's (N, D_l). N is fixed where the file says so.

    Raises:
        UnknownNameError: It has no such node.
        UsageError: A node that gives no map, tokens or vectors.
    """
    assert network.readout
    model = _resized(network)
    values = {
        name: _pooled(_layer(model, network, name), network.readout, name)
        for name in (FEATURES, *taps)
    }
    return _joined(model, statistics, values, network)


def with_maps(
    network: Network, layers: Sequence[str], *, statistics: Preprocess | None = None
) -> Any:
    """A network up to the maps that its features are pooled from.

    Args:
        network: In a file that OpenVINO reads.
        layers: Inner nodes; the last map is always there.
        statistics: The scaling of "featurewise" preprocessing.

    Returns:
        A model from (N, S, S, 3) uint8 pixels to maps (N, h, w, D), "features" and by
        its name each layer's; for embeddings of a class token and the mean of the
        patches the token as well, (N, 1, 1, D), named as `CLASS_TOKEN`. None where one
        of them gives no map.

    Raises:
        UnknownNameError: It has no such node.
    """
    assert network.readout
    how, model, values = network.readout, _resized(network), {}
    for name in dict.fromkeys((FEATURES, *layers)):
        output = _layer(model, network, name)
        inner = map_of(output, how, name)
        if inner is None and name == FEATURES:
            inner = averaged(output, how, name)
        if inner is None or not inner.has_grid:
            return None
        values[name] = inner.values
    if how.pooling == CLS:
        return None
    if how.pooling == CLS_MEAN:
        token = class_token(_layer(model, network, FEATURES))
        ops = openvino.openvino().opset13
        values[CLASS_TOKEN] = ops.unsqueeze(token, np.array([1, 2]))
    return _joined(model, statistics, values, network)


def layers_with_maps(network: Network) -> list[str]:
    """Names of the inner nodes that give maps, or tokens on a grid, in their order."""
    assert network.readout
    shapes = {n: shape_of(one) for n, one in named_outputs(_resized(network)).items()}
    rows, columns = network.readout.grid or (0, 0)
    patches = (rows * columns, rows * columns + network.readout.prefix)
    return [
        name
        for name, shape in shapes.items()
        if KINDS.get(len(shape)) == MAP
        or (rows and KINDS.get(len(shape)) == TOKENS and shape[1] in patches)
    ]


def _resized(network: Network) -> Any:
    assert network.file
    graph = read(network.file, network.descriptor or Descriptor())
    return resized(graph, network.input_size)


def _layer(model: Any, network: Network, name: str) -> Any:
    """What a node gives, by its name or that of a tap; "features" is the output."""
    layer, _ = split_tap(name)
    option = "output" if name == FEATURES else "taps"
    return output_of(model, network.output if layer == FEATURES else layer, option)


def _joined(
    model: Any,
    statistics: Preprocess | None,
    values: dict[str, Any],
    network: Network,
) -> Any:
    scaling = statistics or network.scaling or Preprocess()
    ov = openvino.openvino()
    ops = ov.opset13
    taken, side = model.input(), network.input_size
    batch = -1 if shape_of(taken)[0] is None else shape_of(taken)[0]
    pixels = ops.parameter(ov.PartialShape([batch, side, side, 3]), ov.Type.u8)
    x = ops.convert(pixels, "f32")
    if scaling.bgr:
        x = ops.gather(x, np.array([2, 1, 0]), np.int64(3))
    x = ops.add(ops.multiply(x, _row(scaling.scale)), _row(scaling.offset))
    if network.channels == 1:
        x = ops.reduce_sum(ops.multiply(x, _row(GREY)), np.array([3]), keep_dims=True)
    if network.readout and network.readout.layout == NCHW:
        x = ops.transpose(x, np.array([0, 3, 1, 2]))
    x = ops.convert(x, taken.get_element_type().to_string())
    for node in model.get_ordered_ops():  # an output's name has to be its own
        node.set_friendly_name(f"{node.get_friendly_name()} (inner)")
    taken.get_node().output(0).replace(x.output(0))
    pixels.set_friendly_name("pixels")
    results = []
    for name, value in values.items():
        result = ops.result(ops.convert(value, "f32"))
        result.set_friendly_name(name)
        results.append(result)
    return ov.Model(results, [pixels], network.name)


def _row(numbers: Sequence[float]) -> np.ndarray:
    return np.array(numbers, np.float32)


def _pooled(output: Any, how: Readout, name: str) -> Any:
    """(N, D) of an output; of tokens without a grid the mean."""
    ops = openvino.openvino().opset13
    shape = shape_of(output)
    pooling = how.pooling if name == FEATURES else split_tap(name)[1]
    if KINDS.get(len(shape)) == VECTOR and pooling == AVG:
        return ops.convert(output, "f32")
    inner = map_of(output, how, name)
    if inner is None:
        raise UsageError(
            "maps or tokens to pool",
            f"{name.partition(':')[0]} {shape_text(shape)}",
            "Numbers without places have no regions: leave the pooling out, or name "
            'the map before them with "output" in the JSON beside the network.',
        )
    if pooling == CLS:
        return class_token(output)
    if pooling == CLS_MEAN:
        mean = ops.reduce_mean(inner.values, np.array([1, 2]))
        return ops.concat([class_token(output), mean], 1)
    return _pooled_map(inner.values, inner.shape, POOLINGS[pooling], name)


def _pooled_map(
    maps: Any, shape: Sequence[int | None], pooling: Pooling, name: str
) -> Any:
    """Pools maps (N, h, w, D) as ``backbones.pooling`` does."""
    ops = openvino.openvino().opset13
    axes = np.array([1, 2])
    if pooling.kind == MAX:
        return ops.reduce_max(maps, axes)
    if pooling.kind == AVG and pooling.grid == 1:
        return ops.reduce_mean(maps, axes)
    if pooling.kind == AVG:
        return _region_means(maps, shape, pooling, name)
    powers = ops.power(ops.maximum(maps, np.float32(LEAST)), np.float32(POWER))
    return ops.power(ops.reduce_mean(powers, axes), np.float32(1 / POWER))


def _region_means(
    maps: Any, shape: Sequence[int | None], pooling: Pooling, name: str
) -> Any:
    ops = openvino.openvino().opset13
    _, height, width, channels = shape
    if height is None or width is None or min(height, width) < 1:
        raise UsageError(
            f"maps of a fixed size for the regions of {name}",
            shape_text(shape),
            'Give "grid" in the JSON beside the network.',
        )
    cells = ops.reshape(maps, np.array([0, height * width, channels]), True)
    means = ops.matmul(averaging(pooling.grid, height, width), cells, False, False)
    return ops.reshape(means, np.array([0, pooling.factor * (channels or 0)]), True)
