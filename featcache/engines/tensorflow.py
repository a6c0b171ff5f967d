"""The TensorFlow engine: for GPUs, and the reference for all others."""

from typing import TYPE_CHECKING, Any

import numpy as np

from featcache._tf import tensorflow
from featcache.engines.base import Engine

if TYPE_CHECKING:
    import keras


class TensorFlowEngine(Engine):
    """Calls a compiled function on batches of one fixed shape.

    A short batch is filled up, so that the graph is traced once and an image's
    embedding does not depend on how many stand beside it.

    Args:
        model: Frozen network from preprocessed pixels to (N, D).
        preprocess: Mode of ``keras.applications.imagenet_utils``, or "none".
        input_size: Side of the square input in pixels.
        batch_size: Images in a pass.
    """

    name = "tensorflow"

    def __init__(
        self,
        model: "keras.Model",
        preprocess: str,
        *,
        input_size: int,
        batch_size: int = 32,
    ) -> None:
        tf = tensorflow()
        from keras.applications.imagenet_utils import preprocess_input

        self.dim = int(model.output_shape[-1])
        self.batch_size = batch_size
        shape = (batch_size, input_size, input_size, 3)

        def forward(pixels: Any) -> Any:
            x = tf.cast(pixels, tf.float32)
            if preprocess != "none":
                x = preprocess_input(x, data_format="channels_last", mode=preprocess)
            return model(x, training=False)

        spec = [tf.TensorSpec(shape, tf.uint8)]
        self._forward = tf.function(forward, input_signature=spec)

    def embed(self, pixels: np.ndarray) -> np.ndarray:  # noqa: D102
        count = len(pixels)
        self.passes += count
        if count < self.batch_size:
            fill = np.zeros((self.batch_size - count, *pixels.shape[1:]), pixels.dtype)
            pixels = np.concatenate([pixels, fill])
        return np.asarray(self._forward(pixels).numpy()[:count], dtype=np.float32)
