"""How the output of a network in a file becomes an embedding."""

import math
from collections.abc import Sequence
from typing import Any

from featcache.backbones.base import MAP, NCHW, NHWC, TOKENS, VECTOR, Readout
from featcache.backbones.descriptor import POOLINGS, Descriptor
from featcache.backbones.graphs.reading import (
    Graph,
    name_of,
    output_of,
    resized,
    shape_of,
    shape_text,
)
from featcache.core.taps import AVG
from featcache.errors import UsageError, WeightsError

KINDS = {2: VECTOR, 3: TOKENS, 4: MAP}  # by rank
_PROBABILITIES = ("Softmax", "Sigmoid", "LogSoftmax")


def readout(graph: Graph, side: int, descriptor: Descriptor) -> Readout:
    """How its output becomes the embedding.

    Raises:
        UnknownNameError: It has no such output.
        UsageError: The descriptor says otherwise of its output, or has to say more.
        WeightsError: The output is no vector, map or tokens, or gives probabilities.
    """
    model = resized(graph, side)
    output = output_of(model, descriptor.output)
    shape, is_real = shape_of(output), output.get_element_type().is_real()
    kind = KINDS.get(len(shape)) if is_real and 0 not in shape else None
    if kind is None or shape[-1 if graph.layout == NHWC or kind != MAP else 1] is None:
        raise WeightsError(
            "vectors (N, D), maps (N, D, h, w) or tokens (N, T, D) as output",
            f"{name_of(output)} {shape_text(shape)} of "
            f"{output.get_element_type().to_string()} in {graph.path.name}",
            f'Name another output with "output" in {graph.beside}.',
        )
    pooling = descriptor.pooling or AVG
    pooling = AVG if pooling == "mean" else pooling
    described = descriptor.output_kind
    if described not in (None, kind) or pooling not in POOLINGS[kind]:
        raise UsageError(
            f"what {graph.beside} says to fit the output {name_of(output)} "
            f"{shape_text(shape)}, a {kind}",
            f'"output_kind": "{described or kind}" and "pooling": "{pooling}"',
            f"Correct {graph.beside}.",
        )
    if kind == VECTOR and not descriptor.output:
        _refuse_probabilities(graph, output)
    prefix, grid = _tokens(graph, shape, descriptor) if kind == TOKENS else (0, None)
    width = shape[1] if kind == MAP and graph.layout == NCHW else shape[-1]
    assert width is not None
    width *= 2 if pooling == "cls+mean" else 1
    return Readout(kind, graph.layout, prefix, grid, pooling, width)


def _tokens(
    graph: Graph, shape: Sequence[int | None], descriptor: Descriptor
) -> tuple[int, tuple[int, int] | None]:
    """How many tokens stand in front, and the rows and columns of the others."""
    count, prefix = shape[1], descriptor.prefix_tokens
    if count is not None and prefix is None:
        squares = [n for n in (1, 0) if math.isqrt(count - n) ** 2 == count - n]
        prefix = squares[0] if squares else None
    if prefix is None:
        raise UsageError(
            f'"prefix_tokens" in {graph.beside}: how many of the {count} tokens stand '
            "in front of those of the patches",
            "none",
            "It is 1 for a class token alone, and more with registers.",
        )
    if count is not None and prefix >= count:
        raise UsageError(
            f'"prefix_tokens" in {graph.beside} below the number of tokens, {count}',
            str(prefix),
            f"Correct {graph.beside}.",
        )
    grid = descriptor.grid
    if count is not None and grid is None:
        root = math.isqrt(count - prefix)
        grid = [root, root] if root**2 == count - prefix else None
    if count is not None and grid and prefix + grid[0] * grid[1] != count:
        raise UsageError(
            f'"prefix_tokens" and "grid" in {graph.beside} that make {count} tokens',
            f"{prefix} and {grid[0]} x {grid[1]}",
            f"Correct {graph.beside}.",
        )
    return prefix, (grid[0], grid[1]) if grid else None


def _refuse_probabilities(graph: Graph, output: Any) -> None:
    node = output.get_node()
    if node.get_type_name() == "Result":
        node = node.input_value(0).get_node()
    if node.get_type_name() not in _PROBABILITIES:
        return
    before = node.input_value(0)
    while before.get_node().get_type_name() in ("Add", "MatMul", "Reshape"):
        before = before.get_node().input_value(0)
    raise WeightsError(
        f"{graph.path.name} is a classifier: it ends in {node.get_type_name()}, whose "
        "probabilities are no embedding",
        f'Write "output": "{name_of(before)}" to {graph.beside} to cut it there '
        f'("output": "{name_of(output)}" keeps these numbers).',
    )
