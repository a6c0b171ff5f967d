"""Gradients of margins of Keras heads on features."""

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
