"""Keras graphs as functions of TensorFlow, which converters take."""

from typing import TYPE_CHECKING, Any

from featcache.core.tf import as_written, tensorflow

if TYPE_CHECKING:
    import keras

PROBABILITIES = "probabilities"  # the name of the output


def function_of(graph: "keras.Model") -> Any:
    """A graph as a function of TensorFlow, with named inputs and output."""
    tf = tensorflow()

    def forward(*arrays: Any) -> dict[str, Any]:
        inputs = list(arrays) if len(arrays) > 1 else arrays[0]
        return {PROBABILITIES: graph(inputs, training=False)}

    signature = [tf.TensorSpec(x.shape, x.dtype, name=x.name) for x in graph.inputs]
    return tf.function(as_written(forward), input_signature=signature)
