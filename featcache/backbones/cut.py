"""Cutting: which layer of a network gives the embedding."""

from typing import TYPE_CHECKING, Any

from featcache.backbones.base import Network
from featcache.core.registry import Registry
from featcache.errors import WeightsError

if TYPE_CHECKING:
    import keras

_ENDS = ("softmax", "sigmoid")
_LOGITS = ("Dense", "Conv2D")
_PASSING = ("Dropout", "SpatialDropout2D", "Flatten")


def cut(model: "keras.Model", name: str) -> "keras.Model":
    """The part of a graph up to a layer.

    Raises:
        UnknownNameError: It has no such layer; the nearest are offered.
    """
    import keras

    layers = Registry("layer for `output`", {one.name: one for one in model.layers})
    return keras.Model(model.input, layers[name].output, name=model.name)


def refuse_classifier(model: "keras.Model", network: Network) -> None:
    """Refuses a network that ends in probabilities, which are no embedding.

    Raises:
        WeightsError: Names the layer to cut at, and how.
    """
    assert network.file is not None
    last = _layer(model.outputs[0])
    kind = _activation(last)
    if kind not in _ENDS:
        return
    before = _before_classifier(last)
    beside = network.file.with_suffix(".json").name
    cut_there = f'Write "output": "{before}" to {beside} to cut it there' * bool(before)
    raise WeightsError(
        f"{network.file.name} is a classifier: its last layer, {last.name}, gives a "
        f"{kind} of {model.output_shape[-1]}, which is no embedding",
        f'{cut_there or "Save it without its last layers"} ("output": "{last.name}" '
        "keeps these numbers).",
    )


def _before_classifier(last: Any) -> str:
    """The layer whose output the classifier takes; empty where there is none."""
    layer = last
    if type(layer).__name__ not in _LOGITS:
        layer = _layer(layer.input)
    if type(layer).__name__ in _LOGITS:
        layer = _layer(layer.input)
    while type(layer).__name__ in _PASSING:
        layer = _layer(layer.input)
    return "" if type(layer).__name__ == "InputLayer" else str(layer.name)


def _activation(layer: Any) -> str:
    activation = getattr(layer, "activation", None)
    return str(getattr(activation, "__name__", type(layer).__name__)).lower()


def _layer(tensor: Any) -> Any:
    return tensor._keras_history.operation
