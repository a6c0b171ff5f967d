"""Heads behind networks that are there in OpenVINO's format alone."""

from typing import Any

import numpy as np

from featcache.backbones.engines import openvino
from featcache.core.tf import tensorflow
from featcache.deploy.graph.networks import NetworkGraph
from featcache.deploy.graph.tracing import function_of
from featcache.deploy.graph.whole import ModelParts, head_graph


def joined_model(parts: ModelParts, *, probe: bool = False) -> Any:
    """Joins networks with heads and calibration, as a model of OpenVINO.

    The networks are those of a bundle or of a file, to the bit; heads and calibration
    are built as in ``model_graph``, on their outputs.

    Args:
        parts: The model.
        probe: Put the embeddings in columns behind the classes.

    Returns:
        With the inputs and the output of ``model_graph``.

    Raises:
        ExportError: See ``model_graph``.
    """
    ov = openvino.openvino()
    tensorflow()  # quiet, before Keras brings it
    head = openvino.converted(
        function_of(head_graph(parts, probe=probe)).get_concrete_function()
    )
    pixels = {
        one: ov.opset13.parameter([-1, one.side, one.side, 3], np.uint8, name=name)
        for name, one in parts.inputs.items()
    }
    for name, one in parts.inputs.items():
        pixels[one].output(0).set_names({name})
    columns = {one.any_name: one for one in head.inputs}
    for number, network in enumerate(parts.networks):
        for name, output in _outputs(network, pixels[network.resize]).items():
            columns[parts.column_name(number, name)].replace(output)
    return ov.Model([head.outputs[0].node], list(pixels.values()), "featcache")


def _outputs(network: NetworkGraph, pixels: Any) -> dict[str, Any]:
    """Outputs of a network on pixels, by their names."""
    model = network.converted()
    outputs = {
        one.node.friendly_name: one.node.input_value(0)
        for one in model.outputs
        if one.node.friendly_name in network.widths
    }
    for output in outputs.values():
        output.tensor.set_names(set())  # those of two networks would be the same
    model.inputs[0].replace(pixels.output(0))
    return outputs
