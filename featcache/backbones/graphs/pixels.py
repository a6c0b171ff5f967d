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
from featcache.backbones.graphs.reading import (
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

_LAST = 2**62  # behind the last token


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
    assert network.file
    descriptor = network.descriptor or Descriptor()
    graph = read(network.file, descriptor)
    model = resized(graph, network.input_size)
    scaling = statistics or network.scaling or Preprocess()
    values = {
        FEATURES: _pooled(output_of(model, network.output), network.readout, FEATURES)
    }
    for tap in taps:
        layer, _ = split_tap(tap)
        output = output_of(
            model, network.output if layer == FEATURES else layer, "taps"
        )
        values[tap] = _pooled(output, network.readout, tap)
    return _joined(model, scaling, values, network)


def _joined(
    model: Any, scaling: Preprocess, values: dict[str, Any], network: Network
) -> Any:
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
    kind = KINDS.get(len(shape))
    _, pooling = split_tap(name)
    pooling = how.pooling if name == FEATURES else pooling
    value = ops.convert(output, "f32")
    if kind == VECTOR and pooling == AVG:
        return value
    if kind == MAP:
        if how.layout == NCHW:
            value = ops.transpose(value, np.array([0, 2, 3, 1]))
            shape = [shape[0], *shape[2:], shape[1]]
        return _pooled_map(value, shape, POOLINGS[pooling], name)
    if kind == TOKENS:
        return _pooled_tokens(value, shape, how, pooling, name)
    raise UsageError(
        "maps or tokens to pool",
        f"{name.partition(':')[0]} {shape_text(shape)}",
        "Numbers without places have no regions: leave the pooling out, or name the "
        'map before them with "output" in the JSON beside the network.',
    )


def _pooled_tokens(
    tokens: Any, shape: Sequence[int | None], how: Readout, pooling: str, name: str
) -> Any:
    ops = openvino.openvino().opset13
    _, count, width = shape
    rows, columns = how.grid or (1, -1)  # without one, a row of them
    prefix = 0 if count == rows * columns else how.prefix
    if how.grid and count not in (None, prefix + rows * columns):
        raise UsageError(
            f"tokens of {rows} x {columns} patches",
            f"{name.partition(':')[0]} {shape_text(shape)}",
            "Choose another layer.",
        )
    first = ops.gather(tokens, np.int64(0), np.int64(1))
    ends = [np.array([number]) for number in (prefix, _LAST, 1, 1)]
    patches = ops.slice(tokens, *ends)
    if pooling == "cls":
        return first
    if pooling == "cls+mean":
        return ops.concat([first, ops.reduce_mean(patches, np.array([1]))], 1)
    maps = ops.reshape(patches, np.array([0, rows, columns, width]), True)
    return _pooled_map(maps, [None, rows, columns, width], POOLINGS[pooling], name)


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
