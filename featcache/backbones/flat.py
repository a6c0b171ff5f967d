"""Flat graphs for training: preprocessing and backbone without a model inside."""

from typing import TYPE_CHECKING, Any

from featcache.backbones.base import Network, Preprocess
from featcache.backbones.build import as_channels
from featcache.backbones.unroll import copy_weights, leaves

if TYPE_CHECKING:
    import keras


def graph(
    core: "keras.Model",
    network: Network,
    *,
    statistics: Preprocess | None = None,
    dtype: str | None = None,
) -> "keras.Model":
    """Rebuilds a network on raw pixels, layer by layer, to be trained.

    ``with_pixels`` puts the whole network into the graph as one frozen layer. Here
    each of its layers is one of the graph, with its name and a value of its own, so
    that it can be unfrozen, tapped and explained. Numbers are those of
    ``with_pixels``.

    Args:
        core: What ``build`` gave; it is not changed.
        network: What it was built from.
        statistics: The scaling of "featurewise" preprocessing.
        dtype: Dtype policy of the layers, such as "mixed_float16"; by default what
            they have.

    Returns:
        A frozen graph from (N, H, W, 3) uint8 pixels, RGB, to (N, D).
    """
    import keras

    side = network.input_size
    pixels = keras.Input((side, side, 3), dtype="uint8", name="pixels")
    scaled = _preprocessed(pixels, statistics or network.scaling or Preprocess())
    scaled = as_channels(scaled, core.input_shape[-1])

    def new(layer: Any) -> Any:
        policy = {"dtype": dtype} if dtype else {}
        return type(layer).from_config(layer.get_config() | policy)

    def call(layer: Any, *inputs: Any, **options: Any) -> Any:
        inputs = keras.tree.map_structure(
            lambda x: scaled if x is pixels else x, inputs
        )
        return layer(*inputs, **options)

    functional = keras.Model(core.inputs[0], core.outputs[0], name=core.name)
    model = keras.models.clone_model(functional, pixels, new, call_function=call)
    copy_weights(functional, model)
    model.trainable = False
    return model


def _preprocessed(pixels: Any, scaling: Preprocess) -> Any:
    import keras

    x = keras.ops.flip(pixels, -1) if scaling.bgr else pixels
    # Also turns uint8 into float32, whatever the dtype of the network.
    return keras.layers.Rescaling(
        scaling.scale, scaling.offset, dtype="float32", name="scale"
    )(x)


def blocks(model: "keras.Model") -> dict[str, int]:
    """Parts a network into blocks: one ends where the maps get smaller.

    Args:
        model: What ``graph`` gave.

    Returns:
        The block, from 0 at the input, of each layer that could be trained, in
        order. Layers behind the last map are of the last block.
    """
    sizes = [_side(layer) for layer in model.layers]
    # The largest map from here on: padding, and the 1x1 maps of squeeze-and-excite
    # branches, begin no block.
    ahead = [max(sizes[i:]) for i in range(len(sizes))]
    smallest = min(side for side in ahead if side) if any(ahead) else 0
    sides = {
        layer.name: side or smallest
        for layer, side in zip(model.layers, ahead, strict=True)
        if any(_can_learn(leaf) for leaf in leaves(layer))
    }
    order = sorted({*sides.values()}, reverse=True)
    return {name: order.index(side) for name, side in sides.items()}


def unfreeze(layer: Any) -> None:
    """Makes a layer trainable; BatchNormalization stays in inference mode.

    With its own statistics of small batches, a network that was trained on millions
    of images forgets what it knows (Keras' guide on transfer learning).
    """
    layer.trainable = True
    for leaf in leaves(layer):
        leaf.trainable = _can_learn(leaf)


def _can_learn(leaf: Any) -> bool:
    import keras

    fixed = (keras.layers.BatchNormalization, keras.layers.Normalization)
    return bool(leaf.weights) and not isinstance(leaf, fixed)


def _side(layer: Any) -> int:
    """Rows of a layer's map; 0 if it gives none."""
    shape: tuple[Any, ...] = getattr(layer.output, "shape", ())
    return int(shape[1]) if len(shape) == 4 else 0
