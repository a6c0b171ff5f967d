"""Building: from a network as asked for to a frozen Keras graph."""

import hashlib
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcache.backbones.base import (
    GREY,
    IMAGENET,
    RANDOM,
    Backbone,
    Network,
    Preprocess,
)
from featcache.backbones.cut import cut, refuse_classifier
from featcache.backbones.pooling import POOLINGS, last_map
from featcache.backbones.unroll import maps_of, unrolled
from featcache.backbones.weights import fetch_weights
from featcache.core import keras_file
from featcache.core.registry import Registry
from featcache.core.taps import FEATURES, split_tap
from featcache.core.text import first_line
from featcache.core.tf import seeded, tensorflow
from featcache.errors import UsageError, WeightsError

if TYPE_CHECKING:
    import keras


def build(network: Network) -> "keras.Model":
    """Builds the frozen network: a flat graph from preprocessed pixels to (N, D).

    Raises:
        WeightsError: The weights cannot be had or do not fit.
    """
    if network.row:
        return _build_from_table(network, network.row)
    assert network.file is not None
    if network.is_graph:
        raise WeightsError(
            f"{network.file.name} is run by OpenVINO and is no network of Keras: it "
            "cannot be trained, and has no gradients",
            "Use a network of the table, such as densenet121, or a .keras file.",
        )
    tensorflow()
    return _frozen(_pooled(_load(network.file), network))


def with_pixels(
    core: "keras.Model",
    network: Network,
    *,
    taps: Sequence[str] = (),
    statistics: Preprocess | None = None,
) -> "keras.Model":
    """Puts preprocessing in front of a network and taps beside it, for engines.

    Args:
        core: What ``build`` gave.
        network: What it was built from.
        taps: Maps to pool: "layer" for the average, "layer:max" and the like for
            another of ``POOLINGS``; "features:max" for the network's last map.
        statistics: The scaling of "featurewise" preprocessing.

    Returns:
        A graph from (N, H, W, 3) uint8 pixels, RGB, to {"features": (N, D)} and,
        by its name, each tap's (N, D_l).

    Raises:
        UnknownNameError: The network has no such layer, or it has no map.
        UsageError: A tap of the embedding's name, or one of the last map of a network
            that has none.
    """
    import keras

    side = network.input_size
    scaling = statistics or network.scaling or Preprocess()
    pixels = keras.Input((side, side, 3), dtype="uint8", name="pixels")
    x = keras.ops.cast(pixels, "float32")
    if scaling.bgr:
        x = x[..., ::-1]
    if scaling != Preprocess(bgr=scaling.bgr):
        scaled = keras.layers.Rescaling(scaling.scale, scaling.offset, name="scale")
        x = scaled(x)
    x = as_channels(x, core.input_shape[-1])
    if FEATURES in taps:
        raise UsageError(
            "layers of other names than features for `taps`",
            repr(FEATURES),
            "The mean of the last map is the embedding and always there; "
            "features:max is its maximum.",
        )
    layers = {tap: split_tap(tap) for tap in taps}
    maps = {f"map {layer}": map_of(core, layer) for layer, _ in layers.values()}
    inner = keras.Model(core.input, {FEATURES: core.output} | maps, trainable=False)
    result = inner(x, training=False)
    outputs = {FEATURES: result[FEATURES]}
    for tap, (layer, pooling) in layers.items():
        outputs[tap] = POOLINGS[pooling](result[f"map {layer}"], keras.ops)
    return keras.Model(pixels, outputs)


def as_channels(x: Any, channels: int | None) -> Any:
    """Scaled RGB as a network takes it: for one channel the luminance (BT.601)."""
    import keras

    if channels != 1:
        return x
    red, green, blue = keras.ops.split(x, 3, axis=-1)
    return red * GREY[0] + green * GREY[1] + blue * GREY[2]


def map_of(core: "keras.Model", layer: str) -> Any:
    """The map (N, h, w, c) of a layer by its name; "features" is the last map.

    Raises:
        UnknownNameError: The network has no such layer, or it has no map.
        UsageError: Its embedding is not the mean of a map.
    """
    if layer != FEATURES:
        return Registry("layer for `taps`", maps_of(core))[layer]
    last = last_map(core)
    if last is None:
        raise UsageError(
            "a network whose embedding is the mean of a map, for `pooling`",
            f"{core.name}, which ends in {type(core.layers[-1]).__name__} "
            f"({core.layers[-1].name}) and gives vectors",
            "Leave `pooling` out, or name its last layer that has a map with `taps` "
            "and pool that with `tap_pooling`.",
        )
    return last


def _build_from_table(network: Network, row: Backbone) -> "keras.Model":
    weights = fetch_weights(row) if network.weights == IMAGENET else network.file
    tensorflow()
    with seeded(network.seed) if network.weights == RANDOM else nullcontext():
        model = _build_by_keras(network, row, weights)
        return _frozen(_flat(model, row.rescale))


def _build_by_keras(
    network: Network, row: Backbone, weights: Path | None
) -> "keras.Model":
    import keras

    factory = getattr(keras.applications, row.factory)
    side = network.input_size
    try:
        model = factory(
            include_top=False, weights=None, input_shape=(side, side, 3), pooling="avg"
        )
        if weights:
            model.load_weights(weights)
    except (ValueError, OSError, KeyError) as error:
        raise WeightsError(
            f"weights and an input size that fit {network.name}",
            f"{weights or 'random weights'} at {side} px ({first_line(error)})",
            "Use another file or `input_size`.",
        ) from error
    return model


def _flat(model: "keras.Model", rescale: Sequence[float]) -> "keras.Model":
    """Unrolls Sequentials, so that each layer can be tapped, and adds ``rescale``."""
    import keras

    def call(layer: Any, *inputs: Any, **options: Any) -> Any:
        if isinstance(layer, keras.Sequential):
            (x,) = inputs
            for inner in layer.layers:
                x = type(inner).from_config(inner.get_config())(x)
            return x
        output = layer(*inputs, **options)
        if rescale and isinstance(layer, keras.layers.Normalization):
            return keras.layers.Rescaling(rescale, name="imagenet_scale")(output)
        return output

    if not rescale and not any(isinstance(x, keras.Sequential) for x in model.layers):
        return model
    flat = keras.models.clone_model(model, call_function=call)
    for new, loaded in zip(flat.weights, model.weights, strict=True):
        new.assign(loaded)
    for layer in flat.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # it computes with copies of its weights
    return flat


def _load(path: Path) -> "keras.Model":
    import keras

    try:
        keras_file.refuse_unsafe(path)
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # what a file can cause has no common base
        raise WeightsError(
            f"a network that Keras can load in {path}",
            first_line(error),
            "Save it again with the installed Keras; Lambda and custom layers cannot "
            "be loaded safely.",
        ) from error


def _pooled(model: "keras.Model", network: Network) -> "keras.Model":
    """From the network of a file to one from pixels to vectors."""
    import keras

    _check_input(model, network)
    if isinstance(model, keras.Sequential):  # which has no `output`
        model = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    model = _unrolled(model, network)
    if network.output:
        model = cut(model, network.output)
    else:
        refuse_classifier(model, network)
    rank = len(model.output_shape) if isinstance(model.output_shape, tuple) else 0
    if rank == 2:
        return model
    if rank != 4:
        raise WeightsError(
            "feature maps (N, H, W, D) or vectors (N, D) as output",
            f"output shape {model.output_shape} in {network.file}",
            "Save the network up to its last convolution.",
        )
    pooled = keras.layers.GlobalAveragePooling2D(name="pool")(model.output)
    return keras.Model(model.input, pooled, name=network.name)


def _check_input(model: "keras.Model", network: Network) -> None:
    side = network.input_size
    shape = getattr(model, "input_shape", None)
    channels = (network.channels, None)
    if not isinstance(shape, tuple) or len(shape) != 4 or shape[-1] not in channels:
        raise WeightsError(
            "a network with one input of pixels, RGB (N, H, W, 3) or grey (N, H, W, 1)",
            f"input shape {shape} in {network.file}",
            "Save only the part of the network whose input is pixels; put a layer in "
            "front that makes its channels of three.",
        )
    if any(size not in (None, side) for size in shape[1:3]):
        raise WeightsError(
            f"`input_size={shape[1]}` for {network.file}", str(side), "Change it."
        )


def _unrolled(model: "keras.Model", network: Network) -> "keras.Model":
    try:
        return unrolled(model)
    except Exception as error:  # a layer that cannot be made again, in Keras' words
        raise WeightsError(
            f"layers that Keras can make again in {network.file}",
            first_line(error),
            "Save the network without models inside it.",
        ) from error


def _frozen(model: "keras.Model") -> "keras.Model":
    model.trainable = False
    return model


def weights_digest(model: "keras.Model") -> str:
    """SHA-256 (64 hex digits) over the values of all weights in order."""
    sha = hashlib.sha256()
    for variable in model.variables:
        if "seed_generator" in variable.path:
            continue  # state of a random layer, not a weight
        value = variable.numpy()
        sha.update(f"{value.dtype.str}{value.shape}".encode())
        sha.update(value.tobytes())
    return sha.hexdigest()
