"""The TensorFlow engine: for GPUs, and the reference for all others."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from featcache.backbones.engines.base import Engine, Outputs
from featcache.core.tf import as_written, tensorflow

if TYPE_CHECKING:
    import keras


class TensorFlowEngine(Engine):
    """Calls a compiled function on batches of one fixed shape.

    A short batch is filled up, so that the graph is traced once and an image's
    embedding does not depend on how many stand beside it.

    Args:
        graph: From (N, H, W, 3) uint8 pixels to a dictionary of outputs.
        batch_size: Images in a pass.
    """

    name = "tensorflow"

    def __init__(self, graph: "keras.Model", *, batch_size: int = 32) -> None:
        tf = tensorflow()
        self.batch_size = batch_size

        def forward(pixels: Any) -> Any:
            return graph(pixels, training=False)

        spec = [tf.TensorSpec((batch_size, *graph.input_shape[1:]), tf.uint8)]
        # Concrete: TensorFlow would otherwise warn of the fifth network's tracing.
        self._forward = tf.function(as_written(forward), input_signature=spec)
        self._forward = self._forward.get_concrete_function()

    def run(self, batches: Iterable[np.ndarray]) -> Iterator[Outputs]:  # noqa: D102
        tf = tensorflow()
        for pixels in batches:
            count = len(pixels)
            if count < self.batch_size:
                shape = (self.batch_size - count, *pixels.shape[1:])
                pixels = np.concatenate([pixels, np.zeros(shape, pixels.dtype)])
            outputs = self._forward(tf.constant(pixels))
            yield {name: value.numpy()[:count] for name, value in outputs.items()}
