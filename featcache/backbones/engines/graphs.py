"""Networks in ONNX and OpenVINO files: read, checked, and given pixels as input."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from featcache.backbones import graph_files
from featcache.backbones.base import (
    GREY,
    MAP,
    NCHW,
    NHWC,
    TOKENS,
    VECTOR,
    Network,
    Preprocess,
    Readout,
)
from featcache.backbones.descriptor import POOLINGS as POOLINGS_OF_KINDS
from featcache.backbones.descriptor import Descriptor
from featcache.backbones.engines import openvino
from featcache.backbones.pooling import LEAST, POOLINGS, POWER, Pooling, averaging
from featcache.core.registry import Registry
from featcache.core.taps import AVG, FEATURES, MAX, split_tap
from featcache.core.text import some
from featcache.errors import UsageError, WeightsError

_KINDS = {2: VECTOR, 3: TOKENS, 4: MAP}  # by rank
_PROBABILITIES = ("Softmax", "Sigmoid", "LogSoftmax")
_LAST = 2**62  # behind the last token


@dataclass(frozen=True, eq=False)
class Graph:
    """A network as its file has it.

    Attributes:
        path: Of the file.
        model: As OpenVINO reads it.
        layout: "nchw" or "nhwc", of the input and of maps.
        channels: Of the input: 3 or 1.
        side: Of the input in pixels, where it is fixed.
    """

    path: Path
    model: Any
    layout: str
    channels: int
    side: int | None

    @property
    def beside(self) -> str:
        """Name of its descriptor."""
        return self.path.with_suffix(".json").name


def read(path: Path, descriptor: Descriptor) -> Graph:
    """Reads a network's file.

    Raises:
        WeightsError: OpenVINO cannot read it, weights are missing, or it takes
            something else than an image.
        UsageError: Its descriptor says otherwise of its input, or has to say more.
    """
    graph_files.weights_files(path)
    try:
        model = openvino.core().read_model(path)
    except (RuntimeError, ValueError) as error:
        raise WeightsError(
            f"a network that OpenVINO can read in {path}",
            _reason(error),
            "Check that the file is complete, or export it again with operations of "
            "the ONNX standard alone.",
        ) from error
    inputs = {_name(one): _shape(one) for one in model.inputs}
    text = ", ".join(f"{name} {_text(shape)}" for name, shape in inputs.items())
    if [len(shape) for shape in inputs.values()] != [4]:
        raise WeightsError(
            "a network with one input of pixels, such as (N, 3, H, W)",
            f"{text or 'none'} in {path.name}",
            "Export the part alone that makes an embedding of an image.",
        )
    (shape,) = inputs.values()
    layout, channels = _channels(shape, descriptor, path, text)
    sides = shape[2:] if layout == NCHW else shape[1:3]
    if sides[0] != sides[1]:
        raise WeightsError(
            f"a square input in {path.name}", text, "Export it for squares."
        )
    return Graph(path, model, layout, channels, sides[0])


def _channels(
    shape: Sequence[int | None], descriptor: Descriptor, path: Path, text: str
) -> tuple[str, int]:
    """Where the channels of the input stand, and how many there are."""
    sizes = {NCHW: shape[1], NHWC: shape[3]}
    possible = [name for name, size in sizes.items() if size in (1, 3, None)]
    certain = [name for name in possible if sizes[name] is not None]
    clear = certain if len(certain) == 1 else possible
    layout = descriptor.layout or (clear[0] if len(clear) == 1 else None)
    beside = path.with_suffix(".json").name
    if layout not in possible:
        raise UsageError(
            f'"layout" in {beside} that fits the input {text} of {path.name}',
            repr(layout) if layout else "none",
            f'Write "layout": "{clear[0] if clear else NCHW}" to {beside}, if that is '
            "how it was exported.",
        )
    channels = sizes[layout] or descriptor.channels or 3
    if descriptor.channels not in (None, channels):
        raise UsageError(
            f'"channels": {channels} in {beside}, as {path.name} has',
            str(descriptor.channels),
            f"Correct {beside}.",
        )
    return layout, channels


def resized(graph: Graph, side: int) -> Any:
    """The network for images of a side, in batches of any size if it can.

    Raises:
        UsageError: It takes another size.
    """
    if graph.side not in (None, side):
        raise UsageError(
            f"`input_size={graph.side}` for {graph.path.name}, whose input is fixed",
            str(side),
            "Leave it out, or export the network for that size.",
        )
    ov = openvino.openvino()
    shape = [graph.channels, side, side]
    shape = shape if graph.layout == NCHW else [side, side, graph.channels]
    reason = "it gives no batch"
    for batch in (-1, _shape(graph.model.input())[0] or 1):
        model = graph.model.clone()
        try:
            model.reshape({model.input(): ov.PartialShape([batch, *shape])})
        except RuntimeError as error:
            reason = _reason(error)
            continue
        firsts = {_shape(output)[0] for output in model.outputs if _shape(output)}
        if firsts == {None if batch == -1 else batch}:
            return model
    raise UsageError(
        f"an `input_size` that {graph.path.name} can take",
        f"{side} ({reason})",
        "Use the size that it was exported for.",
    )


def readout(graph: Graph, side: int, descriptor: Descriptor) -> Readout:
    """How its output becomes the embedding.

    Raises:
        UnknownNameError: It has no such output.
        UsageError: The descriptor says otherwise of its output, or has to say more.
        WeightsError: The output is no vector, map or tokens, or gives probabilities.
    """
    model = resized(graph, side)
    output = _output(model, descriptor.output)
    shape = _shape(output)
    kind = _KINDS.get(len(shape))
    if kind is None or shape[-1 if graph.layout == NHWC or kind != MAP else 1] is None:
        raise WeightsError(
            "vectors (N, D), maps (N, D, h, w) or tokens (N, T, D) as output",
            f"{_name(output)} {_text(shape)} in {graph.path.name}",
            f'Name another output with "output" in {graph.beside}.',
        )
    pooling = descriptor.pooling or AVG
    pooling = AVG if pooling == "mean" else pooling
    described = descriptor.output_kind
    if described not in (None, kind) or pooling not in POOLINGS_OF_KINDS[kind]:
        raise UsageError(
            f"what {graph.beside} says to fit the output {_name(output)} "
            f"{_text(shape)}, a {kind}",
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
        f'Write "output": "{_name(before)}" to {graph.beside} to cut it there '
        f'("output": "{_name(output)}" keeps these numbers).',
    )


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
        FEATURES: _pooled(_output(model, network.output), network.readout, FEATURES)
    }
    for tap in taps:
        layer, _ = split_tap(tap)
        output = _output(model, network.output if layer == FEATURES else layer, "taps")
        values[tap] = _pooled(output, network.readout, tap)
    return _joined(model, scaling, values, network)


def _joined(
    model: Any, scaling: Preprocess, values: dict[str, Any], network: Network
) -> Any:
    ov = openvino.openvino()
    ops = ov.opset13
    taken, side = model.input(), network.input_size
    batch = -1 if _shape(taken)[0] is None else _shape(taken)[0]
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
    shape = _shape(output)
    kind = _KINDS.get(len(shape))
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
    if kind != TOKENS:
        raise UsageError(
            "maps or tokens to pool",
            f"{name.partition(':')[0]} {_text(shape)}",
            "Vectors can be taken as they are: leave the pooling out.",
        )
    first = ops.gather(value, np.int64(0), np.int64(1))
    if pooling == "cls":
        return first
    if pooling == "cls+mean":
        mean = ops.reduce_mean(_patches(value, how), np.array([1]))
        return ops.concat([first, mean], 1)
    rows, columns = how.grid or (1, 1)
    patches = _patches(value, how)
    if how.grid is None and POOLINGS[pooling].grid == 1:
        rows, columns = 1, -1
    grid = ops.reshape(patches, np.array([0, rows, columns, shape[2]]), True)
    return _pooled_map(grid, [None, rows, columns, shape[2]], POOLINGS[pooling], name)


def _patches(tokens: Any, how: Readout) -> Any:
    ops = openvino.openvino().opset13
    ends = [np.array([number]) for number in (how.prefix, _LAST, 1, 1)]
    return ops.slice(tokens, *ends)


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
        _, height, width, channels = shape
        if height is None or width is None or min(height, width) < 1:
            raise UsageError(
                f"maps of a fixed size for the regions of {name}",
                _text(shape),
                'Give "grid" in the JSON beside the network.',
            )
        cells = ops.reshape(maps, np.array([0, height * width, channels]), True)
        means = ops.matmul(averaging(pooling.grid, height, width), cells, False, False)
        return ops.reshape(means, np.array([0, pooling.factor * (channels or 0)]), True)
    powers = ops.power(ops.maximum(maps, np.float32(LEAST)), np.float32(POWER))
    return ops.power(ops.reduce_mean(powers, axes), np.float32(1 / POWER))


def _output(model: Any, name: str | None, option: str = "output") -> Any:
    """An output, or what an inner node gives, by its name."""
    if name is None:
        if len(model.outputs) > 1:
            names = [_name(one) for one in model.outputs]
            raise UsageError(
                f"the output that is the embedding: one of {some(names)}",
                f"{len(names)} outputs and no choice",
                'Write "output" to the JSON beside the network.',
            )
        return model.output().get_node().input_value(0)
    outputs: dict[str, Any] = {}
    for node in model.get_ordered_ops():
        if node.get_type_name() in ("Constant", "Parameter", "Result"):
            continue
        if node.get_output_size() == 1:
            outputs.setdefault(node.get_friendly_name(), node.output(0))
        for one in node.outputs():
            outputs |= dict.fromkeys(one.get_names(), one)
    return Registry(f"output for `{option}`", outputs)[name]


def weights_digest(network: Network) -> str:
    """SHA-256 (64 hex digits) over the values of all weights, in whatever order."""
    assert network.file is not None
    model = read(network.file, network.descriptor or Descriptor()).model
    digests = []
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Constant" and math.prod(node.shape) > 1:
            values = np.ascontiguousarray(node.data)
            about = f"{node.get_element_type().to_string()}{list(node.shape)}"
            digests.append(sha256(about.encode() + values.tobytes()).hexdigest())
    return sha256("".join(sorted(digests)).encode()).hexdigest()


def _name(output: Any) -> str:
    names = sorted(output.get_names())
    return str(names[0] if names else output.get_node().get_friendly_name())


def _shape(output: Any) -> list[int | None]:
    shape = output.get_partial_shape()
    if shape.rank.is_dynamic:
        return []
    return [None if one.is_dynamic else one.get_length() for one in shape]


def _text(shape: Sequence[int | None]) -> str:
    return f"({', '.join('?' if one is None else str(one) for one in shape)})"


def _reason(error: Exception) -> str:
    """What an error of OpenVINO says, without where in its sources it arose."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(("Exception", "Check '"))]
    return " ".join(kept or lines)[:300].rstrip(".") or type(error).__name__
