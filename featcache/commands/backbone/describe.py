"""``featcache backbone describe``: what a network takes and gives."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from featcache import backbones
from featcache.backbones import Network
from featcache.backbones.descriptor import Descriptor
from featcache.backbones.files import is_file
from featcache.backbones.graphs import pixels as graph_pixels
from featcache.backbones.graphs import reading
from featcache.backbones.unroll import maps_of
from featcache.features.contract import Contract

if TYPE_CHECKING:
    import keras

# What the names of scalings mean; x is a pixel from 0 to 255.
_SCALINGS = {
    "torch": "ImageNet's mean and standard deviation on 0 to 1",
    "caffe": "BGR, ImageNet's mean subtracted",
    "tf": "from -1 to 1",
    "none": "pixels as they are, from 0 to 255",
    "featurewise": "mean 0 and variance 1 over the training images",
}


@dataclass(frozen=True, kw_only=True)
class BackboneDescription:
    """What a backbone takes and gives.

    Attributes:
        name: Of the backbone.
        file: Of the network, if it is in one of its own.
        is_baseline: Whether it is measured, without a network.
        input_size: Side of its input in pixels; 0 if it looks at none.
        input_sizes: Smallest and largest that may be asked for, where it is limited.
        channels: Of the input: 3 or 1.
        resize: How images are brought to the input size, as contracts say it.
        scaling: Of pixels, in words.
        scale: A channel: pixels are multiplied by it, in the order of ``order``.
        offset: A channel, added then.
        order: Of the channels as the network takes them: "rgb" or "bgr".
        output: What the embedding is made of: "map", "tokens, ..." or "vector".
        pooling: How the embedding is pooled from it.
        width: Of the embedding.
        taps: Inner layers that `taps='default'` stores.
        layers: Inner layers with maps or tokens; empty for networks of the table, which
            are not built for it.
        licence: Of the weights; empty where it is not stated.
        source: Where they come from, likewise.
        weights_digest: SHA-256 over their values; empty where they are not read.
        canary: Versions of the libraries that computed its canary; None without one.
    """

    name: str
    file: str | None
    is_baseline: bool
    input_size: int
    input_sizes: list[int] | None
    channels: int
    resize: str
    scaling: str
    scale: list[float] = field(default_factory=list)
    offset: list[float] = field(default_factory=list)
    order: str = "rgb"
    output: str
    pooling: str
    width: int
    taps: list[str]
    layers: list[str] = field(default_factory=list)
    licence: str
    source: str
    weights_digest: str = ""
    canary: dict[str, str] | None = None


def describe(name: str, *, input_size: int | None = None) -> BackboneDescription:
    """Describes a backbone by its row in the table, or its file and descriptor.

    Args:
        name: Of the table, or the path of a .keras, .onnx or .xml file.
        input_size: Side in pixels, where the network may take several.

    Raises:
        FeatcacheError: There is none of that name, or its file or descriptor cannot be
            used.
    """
    network = backbones.resolve(name, input_size=input_size)
    if network.is_graph:
        layers = graph_pixels.layers_with_maps(network)
        digest = reading.weights_digest(network)
        assert network.readout
        return _described(network, network.readout.width, layers, digest)
    if is_file(name):
        core = backbones.build(network)
        digest = backbones.weights_digest(core)
        width = int(core.output_shape[-1])
        return _described(network, width, [*maps_of(core)], digest, core)
    assert network.row
    return _described(network, network.row.dim)


def _described(
    network: Network,
    width: int,
    layers: list[str] | None = None,
    digest: str = "",
    core: "keras.Model | None" = None,
) -> BackboneDescription:
    descriptor = network.descriptor or Descriptor()
    contract, scaling = Contract.of(network), network.scaling
    return BackboneDescription(
        name=network.name,
        file=str(network.file) if network.file else None,
        is_baseline=network.is_baseline,
        input_size=network.input_size,
        input_sizes=descriptor.input_sizes,
        channels=network.channels,
        resize=network.resize.text if network.input_size else "none",
        scaling=_scaling_words(network, descriptor),
        scale=list(scaling.scale) if scaling else [],
        offset=list(scaling.offset) if scaling else [],
        order="bgr" if scaling and scaling.bgr else "rgb",
        output=_output(network, core),
        pooling=str(contract.pooling),
        width=width,
        taps=list(network.taps),
        layers=layers or [],
        licence=network.licence,
        source=network.source,
        weights_digest=digest,
        canary=descriptor.canary.framework if descriptor.canary else None,
    )


def _scaling_words(network: Network, descriptor: Descriptor) -> str:
    if network.is_baseline:
        return "none"
    if network.numbers is None:
        return _SCALINGS[network.preprocess]
    low, high = descriptor.range or (0, 255)
    text = f"0 to 255 become {low:g} to {high:g}"
    for words, values in (("less", descriptor.mean), ("over", descriptor.std)):
        if values:
            text += f", {words} " + " ".join(f"{value:g}" for value in values)
    return f"{text}, {(descriptor.order or 'rgb').upper()}"


def _output(network: Network, core: "keras.Model | None") -> str:
    if network.is_baseline:
        return "measurements"
    if network.readout:
        return network.readout.text
    pooled = core is None or type(core.layers[-1]).__name__ == "GlobalAveragePooling2D"
    return "map, nhwc" if pooled else "vector"
