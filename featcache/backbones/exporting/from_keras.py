"""The networks of keras.applications, as ONNX files."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from featcache.backbones.base import IMAGENET, RANDOM, Network
from featcache.backbones.build import build
from featcache.backbones.exporting.original import (
    MAP,
    OPSET,
    PIXELS,
    Original,
    Request,
    quiet,
)
from featcache.backbones.table import NETWORKS
from featcache.core.tf import (
    as_written,
    frozen,
    root_logger_kept,
    stderr_held_back,
    tensorflow,
)
from featcache.core.versions import installed_versions
from featcache.errors import UsageError

PACKAGES = ("onnx", "tf2onnx")
EXTRA = "export"


def load(request: Request) -> Original:
    """A network of keras.applications, with its ``preprocess_input``.

    Args:
        request: The name is one of featcache's table.

    Raises:
        UnknownNameError: No such network; the nearest are offered.
        WeightsError: Its weights cannot be had.
        UsageError: A pooling that it does not have.
    """
    if request.pooling not in (None, "avg", "max"):
        raise UsageError(
            "`pooling` avg, max for maps", repr(request.pooling), "Omit it."
        )
    network = _network(request)
    model = build(network)
    graph = _with_map(model, network)
    pooling = request.pooling or "avg"

    def embed(x: np.ndarray) -> np.ndarray:
        if pooling == "avg":
            return np.asarray(model(x, training=False).numpy())
        return np.asarray(graph(x, training=False)[MAP].numpy().max((1, 2)))

    return Original(
        keys=_keys(request, network) | {"pooling": pooling},
        tensor=lambda image: _transformed(network, image),
        scaled=lambda pixels: _preprocessed(network, pixels),
        embed=embed,
        write=lambda path: _write(graph, path),
        framework=installed_versions(("tensorflow", "keras")),
    )


def _keys(request: Request, network: Network) -> dict[str, Any]:
    source = f"keras.applications {network.name}"
    random = f"random weights (seed {request.seed})"
    return {
        "input_size": network.input_size, "channels": 3, "layout": "nhwc",
        "resize": "exact", "interpolation": "bilinear", "antialias": True,
        "preprocess": network.preprocess, "output": MAP, "output_kind": "map",
        "taps": list(network.taps),
        "source": f"{source}, {random if request.random else 'ImageNet weights'}",
    }  # fmt: skip


def _network(request: Request) -> Network:
    name = NETWORKS.canonical(request.name)
    row = NETWORKS[name]
    return Network(
        name=name,
        weights=RANDOM if request.random else IMAGENET,
        preprocess=row.preprocess,
        input_size=request.input_size or row.input_size,
        row=row,
        seed=request.seed,
        taps=row.taps,
    )


def _with_map(model: Any, network: Network) -> Any:
    """The network with its last map and its taps as outputs."""
    import keras

    layers = {name: model.get_layer(name).output for name in network.taps}
    return keras.Model(model.input, {MAP: model.layers[-1].input} | layers)


def _transformed(network: Network, image: Image.Image) -> np.ndarray:
    """As ``keras.utils.load_img`` resizes with ``interpolation="bilinear"``."""
    import keras

    side = network.input_size
    small = image.resize((side, side), Image.Resampling.BILINEAR)
    return _preprocessed(network, keras.utils.img_to_array(small))


def _preprocessed(network: Network, pixels: np.ndarray) -> np.ndarray:
    assert network.row is not None
    name = f"keras.applications.{network.row.module}"
    preprocess_input = importlib.import_module(name).preprocess_input
    return np.asarray(preprocess_input(np.array(pixels[None], np.float32)))


def _write(graph: Any, path: Path) -> None:
    tf = tensorflow()
    names = list(graph.output)
    spec = tf.TensorSpec((None, *graph.input.shape[1:]), tf.float32, name=PIXELS)
    forward = as_written(lambda pixels: graph(pixels, training=False))
    with root_logger_kept(), stderr_held_back(), quiet():
        import tf2onnx

        traced = tf.function(forward, input_signature=[spec]).get_concrete_function()
        # A function lists its outputs in the order of their sorted names.
        constant = frozen(traced)
        tensors = [x.name for x in (*constant.inputs, *constant.outputs)]
        model, _ = tf2onnx.convert.from_graph_def(
            constant.graph.as_graph_def(add_shapes=True),
            input_names=tensors[:1],
            output_names=tensors[1:],
            tensors_to_rename=dict(zip(tensors, [PIXELS, *sorted(names)], strict=True)),
            opset=OPSET,
        )
    for tensor in (*model.graph.input, *model.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "N"
    path.write_bytes(model.SerializeToString())
