"""Reading a network's file, and what it takes and gives."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from featcache.backbones.base import NCHW, NHWC, Network
from featcache.backbones.descriptor import Descriptor
from featcache.backbones.engines import openvino
from featcache.backbones.graphs.files import weights_files
from featcache.core.registry import Registry
from featcache.core.text import some
from featcache.errors import UsageError, WeightsError

_WHOLE = ("u8", "u16", "u32", "u64", "i16", "i32", "i64")  # hold 0 to 255


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
    def is_open(self) -> bool:
        """Whether its file leaves open which axis has the channels."""
        return {*shape_of(self.model.input())[1:]} == {None}

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
    model = _read(path)
    inputs = {name_of(one): shape_of(one) for one in model.inputs}
    text = ", ".join(f"{name} {shape_text(shape)}" for name, shape in inputs.items())
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


def refuse_type(graph: Graph, preprocess: str) -> None:
    """Refuses an input whose numbers cannot hold the pixels that it is given.

    Args:
        graph: The network.
        preprocess: The scaling of pixels: one of ``PREPROCESS``, or another.

    Raises:
        UsageError: It takes whole numbers and the pixels are scaled, or it takes
            truth values, text, or whole numbers below 255.
    """
    kind = graph.model.input().get_element_type()
    is_whole = kind.to_string() in _WHOLE
    if kind.is_real() or (is_whole and preprocess == "none"):
        return
    itself = ', or give `preprocess="none"` if it scales pixels itself' * is_whole
    raise UsageError(
        f"an input of floating-point numbers in {graph.path.name}",
        f"one of {kind.to_string()} with `preprocess={preprocess!r}`",
        f"Export it with an input of float32{itself}.",
    )


def _read(path: Path) -> Any:
    files = [path, *weights_files(path)]
    whole = f"{some([one.name for one in files])} {'is' if len(files) == 1 else 'are'}"
    try:
        return openvino.core().read_model(path)
    except (RuntimeError, ValueError) as error:
        raise WeightsError(
            f"a network that OpenVINO can read in {path}",
            _reason(error),
            f"Check that {whole} complete, or export it again with operations of the "
            "ONNX standard alone.",
        ) from error


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
    if not possible:
        raise WeightsError(
            f"an input of 3 channels, or of 1, in {path.name}",
            text,
            "Export it for images in RGB or in grey.",
        )
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
    outputs = [f"{name_of(o)} {shape_text(shape_of(o))}" for o in graph.model.outputs]
    reason = f"it gives {some(outputs)}, not an embedding of each image"
    for batch in (-1, shape_of(graph.model.input())[0] or 1):
        model = graph.model.clone()
        try:
            model.reshape({model.input(): ov.PartialShape([batch, *shape])})
        except RuntimeError as error:
            reason = _reason(error)
            continue
        firsts = {shape_of(output)[0] for output in model.outputs if shape_of(output)}
        if firsts == {None if batch == -1 else batch}:
            return model
    raise UsageError(
        f"{graph.path.name} to take images of {side} px as "
        f"{shape_text([None, *shape])}",
        reason,
        "Use the size that it was exported for"
        + (f', and the "layout" in {graph.beside}.' if graph.is_open else "."),
    )


def output_of(model: Any, name: str | None, option: str = "output") -> Any:
    """An output, or what an inner node gives, by its name."""
    beside = '"output" in the JSON beside the network'
    if name is None:
        if len(model.outputs) > 1:
            names = [name_of(one) for one in model.outputs]
            raise UsageError(
                f"the output that is the embedding: one of {some(names)}",
                f"{len(names)} outputs and no choice",
                f"Write {beside}.",
            )
        return model.output().get_node().input_value(0)
    place = beside if option == "output" else f"`{option}`"
    return Registry(f"output for {place}", named_outputs(model))[name]


def named_outputs(model: Any) -> dict[str, Any]:
    """All that its nodes give, by their names."""
    outputs: dict[str, Any] = {}
    for node in model.get_ordered_ops():
        if node.get_type_name() in ("Constant", "Parameter", "Result"):
            continue
        if node.get_output_size() == 1:
            outputs.setdefault(node.get_friendly_name(), node.output(0))
        for one in node.outputs():
            outputs |= dict.fromkeys(one.get_names(), one)
    return outputs


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


def name_of(output: Any) -> str:
    """How the file calls an output."""
    names = sorted(output.get_names())
    return str(names[0] if names else output.get_node().get_friendly_name())


def shape_of(output: Any) -> list[int | None]:
    """Its sizes, None where they are free; empty where their number is, too."""
    shape = output.get_partial_shape()
    if shape.rank.is_dynamic:
        return []
    return [None if one.is_dynamic else one.get_length() for one in shape]


def shape_text(shape: Sequence[int | None]) -> str:
    """A shape for people, such as (?, 3, 224, 224)."""
    return f"({', '.join('?' if one is None else str(one) for one in shape)})"


def _reason(error: Exception) -> str:
    """What an error of OpenVINO says, without where in its sources it arose."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kept = [line for line in lines if not line.startswith(("Exception", "Check '"))]
    return " ".join(kept or lines)[:300].rstrip(".") or type(error).__name__
