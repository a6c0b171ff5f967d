"""Gradients of margins: of Keras heads on features, and of whole networks on maps."""

from typing import TYPE_CHECKING, Any

import numpy as np

from featcache.commands.explain.attribution.base import Array, contrast
from featcache.core.tf import tensorflow

if TYPE_CHECKING:
    import keras


def of_features(model: "keras.Model", Z: Array, codes: np.ndarray) -> Array:
    """Gradient of margins with respect to a Keras head's input.

    Args:
        model: The head; it ends in softmax, as a layer or as a Dense's activation.
        Z: (N, K) what it sees.
        codes: (N,) class whose margin is meant, for each row.

    Returns:
        (N, K).
    """
    tf = tensorflow()
    with tf.device("CPU:0"):
        x = tf.constant(Z, tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = _margin_sum(model, model.input, x, codes)
        return np.asarray(tape.gradient(value, x).numpy(), np.float64)


def of_layer(
    model: "keras.Model", layer: str, pixels: np.ndarray, codes: np.ndarray
) -> tuple[Array, Array]:
    """Maps of an inner layer of a network, and the margins' gradients on them.

    For a network that ends in a head, such as a fine-tuned one. It has to be one flat
    graph: the layer is one of its own.

    Args:
        model: From pixels to probabilities; it ends as a head does.
        layer: Name of a layer that gives maps.
        pixels: (N, H, W, 3), as the network takes them.
        codes: (N,) class whose margin is meant, for each row.

    Returns:
        Maps and gradients, (N, h, w, c) each.
    """
    tf = tensorflow()
    import keras

    maps = model.get_layer(layer).output
    A = keras.Model(model.input, maps)(tf.constant(pixels), training=False)
    with tf.GradientTape() as tape:
        tape.watch(A)
        value = _margin_sum(model, maps, A, codes)
    G = tape.gradient(value, A)
    return A.numpy().astype(np.float64), G.numpy().astype(np.float64)


def _margin_sum(model: "keras.Model", inputs: Any, x: Any, codes: np.ndarray) -> Any:
    """Sum over the rows of the requested margins, from an inner tensor on."""
    tf = tensorflow()
    import keras

    last = model.layers[-1]
    logits = keras.Model(inputs, last.input)(x, training=False)
    if isinstance(last, keras.layers.Dense):  # it has the softmax within
        logits = logits @ last.kernel + last.bias
    pick = tf.constant(contrast(logits.shape[1])[codes], tf.float32)
    return tf.reduce_sum(logits * pick)
