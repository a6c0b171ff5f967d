"""Maps in a network of a file: what its embedding and its taps are pooled from."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from featcache.backbones.base import MAP, NCHW, NHWC, TOKENS, Readout
from featcache.backbones.engines import openvino
from featcache.backbones.graphs.reading import shape_of, shape_text
from featcache.backbones.graphs.readout import KINDS
from featcache.errors import UsageError

_LAST = 2**62  # behind the last token
# What stands between a mean and the output without changing its numbers.
_SHAPING = ("Reshape", "Squeeze", "Unsqueeze", "Convert")


class InnerMap(NamedTuple):
    """A map in a network.

    Attributes:
        values: The tensor (N, h, w, D) in float32.
        shape: Its sizes; None where they are free.
        has_grid: Whether rows and columns are places; tokens without a grid are one
            row.
    """

    values: Any
    shape: list[int | None]
    has_grid: bool = True


def map_of(output: Any, how: Readout, name: str) -> InnerMap | None:
    """What an output is pooled from; None for a vector or anything else.

    Args:
        output: Of the network, or of an inner node.
        how: The layout of maps, and how many tokens stand in front of the patches.
        name: Of the output, for errors.

    Raises:
        UsageError: Tokens that are not those of the grid.
    """
    ops = openvino.openvino().opset13
    shape = shape_of(output)
    kind = KINDS.get(len(shape))
    value = ops.convert(output, "f32")
    if kind == MAP:
        if how.layout == NCHW:
            value = ops.transpose(value, np.array([0, 2, 3, 1]))
            shape = [shape[0], *shape[2:], shape[1]]
        return InnerMap(value, shape)
    if kind != TOKENS:
        return None
    _, count, width = shape
    rows, columns = how.grid or (1, -1)  # without one, a row of them
    prefix = 0 if count == rows * columns else how.prefix
    if how.grid and count not in (None, prefix + rows * columns):
        raise UsageError(
            f"tokens of {rows} x {columns} patches",
            f"{name.partition(':')[0]} {shape_text(shape)}",
            "Choose another layer.",
        )
    patches = ops.slice(value, *[np.array([n]) for n in (prefix, _LAST, 1, 1)])
    maps = ops.reshape(patches, np.array([0, rows, columns, width]), True)
    return InnerMap(maps, [None, rows, columns, width], how.grid is not None)


def class_token(output: Any) -> Any:
    """The first of tokens (N, T, D): (N, D)."""
    ops = openvino.openvino().opset13
    return ops.gather(ops.convert(output, "f32"), np.int64(0), np.int64(1))


def averaged(output: Any, how: Readout, name: str) -> InnerMap | None:
    """The map, or the patches, that a vector is the mean of; None if of neither."""
    before = output
    while before.get_node().get_type_name() in _SHAPING:
        before = before.get_node().input_value(0)
    node = before.get_node()
    if node.get_type_name() != "ReduceMean":
        return None
    source = node.input_value(0)
    shape = shape_of(source)
    if _axes(node, shape) != _spatial_axes(shape, how.layout):
        return None
    count = shape[1] if KINDS.get(len(shape)) == TOKENS else None
    if count and math.isqrt(count) ** 2 == count:
        how = replace(how, prefix=0, grid=(math.isqrt(count),) * 2)
    return map_of(source, how, name)


def _axes(node: Any, shape: Sequence[int | None]) -> list[int]:
    """Which axes a mean is over; none where the network computes them."""
    axes = node.input_value(1).get_node()
    if axes.get_type_name() == "Constant":
        return sorted(int(axis) % len(shape) for axis in np.ravel(axes.data))
    if not node.get_attributes()["keep_dims"]:
        return []
    means = shape_of(node.output(0))
    return [n for n, size in enumerate(means) if (size, shape[n]) == (1, shape[n])]


def _spatial_axes(shape: Sequence[int | None], layout: str) -> list[int]:
    """The axes of rows and columns, or of tokens."""
    if KINDS.get(len(shape)) == MAP:
        return {NCHW: [2, 3], NHWC: [1, 2]}[layout]
    return [1] if KINDS.get(len(shape)) == TOKENS else []
