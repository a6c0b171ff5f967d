"""Small ONNX networks, whose numbers can be computed beside them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 32
RNG = np.random.default_rng(5)
KERNEL = RNG.normal(0, 0.1, (6, 3, 8, 8)).astype(np.float32)  # patches of 8 x 8
Shape = Sequence[int | str]


def save(
    path: Path,
    nodes: Sequence[Any],
    weights: dict[str, np.ndarray],
    *,
    inputs: dict[str, Shape] | None = None,
    outputs: Sequence[str] = ("features",),
    **descriptor: Any,
) -> Path:
    """Writes a network, and its descriptor beside it if it says anything."""
    inputs = inputs or {"pixels": ("N", 3, "H", "W")}
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))
        for name, shape in inputs.items()
    ]
    results = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs
    ]
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(list(nodes), "toy", values, results, tensors)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("custom", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    if descriptor:
        path.with_suffix(".json").write_text(json.dumps(descriptor))
    return path


def conv(x: str = "pixels", y: str = "map", kernel: str = "kernel") -> Any:
    return helper.make_node("Conv", [x, kernel], [y], strides=[8, 8])


def map_network(path: Path, **descriptor: Any) -> Path:
    """Patches of 8 x 8 pixels to 6 numbers each, without a bias."""
    nodes = [conv(y="features")]
    return save(path, nodes, {"kernel": KERNEL}, **descriptor)


def vector_network(path: Path, *, batch: int | str = "N", **descriptor: Any) -> Path:
    """The mean of that map; the map is an inner node."""
    nodes = [
        conv(),
        helper.make_node("ReduceMean", ["map"], ["features"], axes=[2, 3], keepdims=0),
    ]
    inputs: dict[str, Shape] = {"pixels": (batch, 3, SIDE, SIDE)}
    return save(path, nodes, {"kernel": KERNEL}, inputs=inputs, **descriptor)


def token_network(path: Path, **descriptor: Any) -> Path:
    """A class token of fixed numbers, then the 16 patches, row by row."""
    weights = {
        "kernel": KERNEL,
        "class": np.arange(6, dtype=np.float32).reshape(1, 1, 6),
        "shape": np.array([0, 6, 16], np.int64),
        "zero": np.zeros((), np.float32),
    }
    nodes = [
        conv(),
        helper.make_node("Reshape", ["map", "shape"], ["flat"]),
        helper.make_node("Transpose", ["flat"], ["patches"], perm=[0, 2, 1]),
        helper.make_node("ReduceMean", ["patches"], ["m"], axes=[1, 2], keepdims=1),
        helper.make_node("Mul", ["m", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "class"], ["cls"]),
        helper.make_node("Concat", ["cls", "patches"], ["features"], axis=1),
    ]
    inputs: dict[str, Shape] = {"pixels": ("N", 3, SIDE, SIDE)}
    return save(path, nodes, weights, inputs=inputs, **descriptor)


def patches_of(values: np.ndarray) -> np.ndarray:
    """What the kernel gives for (N, 32, 32, 3) numbers: (N, 4, 4, 6)."""
    cells = values.reshape(-1, 4, 8, 4, 8, 3).astype(np.float64)
    return np.asarray(np.einsum("nhawbc,fcab->nhwf", cells, KERNEL.astype(float)))
