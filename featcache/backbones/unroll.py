"""Unrolling: a network with models inside it as one graph of plain layers."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras


def unrolled(model: "keras.Model") -> "keras.Model":
    """The same graph, where the layers of models inside it are its own.

    So each of them can be tapped, unfrozen and explained. A layer whose name another
    has gets that of its model in front, such as "base_conv". Models that are more than
    a graph of layers stay as they are.

    Args:
        model: A graph from one input; its layers may be renamed.

    Returns:
        Another graph with the same weights and the same numbers; the model itself
        where there is nothing to unroll.
    """
    import keras

    if not any(map(_is_nested, model.layers)):
        return model
    _rename(model)
    flat = model
    while any(map(_is_nested, flat.layers)):
        flat = keras.models.clone_model(
            flat, clone_function=lambda layer: layer, call_function=_open
        )
    # Each layer is now in several graphs; cloned, in one.
    copy = keras.models.clone_model(flat)
    copy_weights(flat, copy)
    return copy


def copy_weights(source: "keras.Model", target: "keras.Model") -> None:
    """Gives the layers of a graph the weights of those of the same names."""
    import keras

    for layer in source.layers:
        if layer.weights:
            target.get_layer(layer.name).set_weights(layer.get_weights())
    for leaf in leaves(target):
        if isinstance(leaf, keras.layers.Normalization):
            leaf.finalize_state()  # it computes with copies of its weights


def leaves(layer: Any) -> Iterator[Any]:
    """The layers inside a layer or model that have none inside them."""
    inner = getattr(layer, "layers", None)
    if inner is None:
        yield layer
    for one in inner or ():
        yield from leaves(one)


def maps_of(model: "keras.Model") -> dict[str, Any]:
    """The maps (N, h, w, c) of a graph's layers by name, from the input on.

    A model inside the graph has none: its own layers are in another graph.
    """
    outputs = {
        layer.name: layer.output for layer in model.layers if not _has_inner(layer)
    }
    return {
        name: output
        for name, output in outputs.items()
        if len(getattr(output, "shape", ())) == 4
    }


def _has_inner(layer: Any) -> bool:
    return hasattr(layer, "layers")


def _is_nested(layer: Any) -> bool:
    import keras

    return isinstance(layer, keras.Sequential | keras.Function)


def _open(layer: Any, *inputs: Any, **options: Any) -> Any:
    if _is_nested(layer):
        return layer.call(*inputs, training=False)
    return layer(*inputs, **options)


def _rename(model: "keras.Model") -> None:
    """Gives each layer, at any depth, a name of its own."""
    names = {layer.name for layer in model.layers}

    def visit(inner: Any) -> None:
        for layer in inner.layers:
            name, number = layer.name, 1
            while name in names:
                name = f"{inner.name}_{layer.name}" + f"_{number}" * (number > 1)
                number += 1
            names.add(name)
            layer.name = name
            if _is_nested(layer):
                visit(layer)

    for layer in list(filter(_is_nested, model.layers)):
        visit(layer)
