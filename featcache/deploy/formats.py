"""Formats that a model's graph is written in: convert, describe, and run for real."""

import json
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featcache.backbones.engines import openvino
from featcache.core.registry import Registry
from featcache.core.tf import (
    frozen,
    root_logger_kept,
    stderr_held_back,
    tensorflow,
)
from featcache.deploy.graph import PROBABILITIES, function_of
from featcache.errors import UsageError

if TYPE_CHECKING:
    import keras

Inputs = dict[str, np.ndarray]  # (N, S, S, 3) uint8 by the name of the input
Predict = Callable[[Inputs], np.ndarray]
ABOUT = "featcache"  # the name of the description in a file
LABELS = "labels.txt"  # appended to a .tflite file, as TensorFlow's own tools do
OPENVINO = "openvino"
_OPSET = 18


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        suffix: Of the file.
        write: Converts a graph to a file, with a description that JSON can hold.
        load: Opens such a file in the format's own runtime.
        packages: What it needs beyond featcache: the extra "export".
        also: Suffixes of further files beside it.
    """

    suffix: str
    write: Callable[["keras.Model", Path, dict[str, Any]], None]
    load: Callable[[Path], Predict]
    packages: tuple[str, ...] = ()
    also: tuple[str, ...] = ()

    def refuse_missing_packages(self) -> None:
        """Refuses the format where its packages are not installed.

        Raises:
            UsageError: Names those that are missing.
        """
        missing = [name for name in self.packages if find_spec(name) is None]
        if missing:
            raise UsageError(
                f"{' and '.join(missing)} to write {self.suffix} files",
                "not installed",
                "Run: pip install 'featcache[export]'",
            )


def _write_keras(graph: "keras.Model", path: Path, about: dict[str, Any]) -> None:
    graph.save(path)
    described = path.with_name(f"described-{path.name}")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(described, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            if info.filename == "metadata.json":
                data = json.dumps(json.loads(data) | {ABOUT: about}).encode()
            new.writestr(info, data)
    os.replace(described, path)


def _load_keras(path: Path) -> Predict:
    tensorflow()
    import keras

    model = keras.models.load_model(path, compile=False, safe_mode=True)
    names = [x.name for x in model.inputs]

    def predict(inputs: Inputs) -> np.ndarray:
        rows = [inputs[name] for name in names]
        p = model(rows if len(rows) > 1 else rows[0], training=False)
        return np.asarray(p.numpy())

    return predict


def _write_onnx(graph: "keras.Model", path: Path, about: dict[str, Any]) -> None:
    with root_logger_kept(), stderr_held_back():
        import tf2onnx

        constant = frozen(function_of(graph).get_concrete_function())
        inputs, outputs = constant.inputs, constant.outputs
        names = [x.name for x in graph.inputs] + [PROBABILITIES]
        tensors = [x.name for x in (*inputs, *outputs)]
        model, _ = tf2onnx.convert.from_graph_def(
            constant.graph.as_graph_def(add_shapes=True),
            input_names=tensors[:-1],
            output_names=tensors[-1:],
            tensors_to_rename=dict(zip(tensors, names, strict=True)),
            opset=_OPSET,
        )
    model.producer_name, model.doc_string = ABOUT, about["use"]
    for tensor in (*model.graph.input, *model.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "N"
    for key, value in about.items():
        model.metadata_props.add(key=key, value=_text(value))
    path.write_bytes(model.SerializeToString())


def _load_onnx(path: Path) -> Predict:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda inputs: np.asarray(session.run([PROBABILITIES], inputs)[0])


def _write_openvino(graph: "keras.Model", path: Path, about: dict[str, Any]) -> None:
    save_openvino(
        openvino.converted(function_of(graph).get_concrete_function()), path, about
    )


def save_openvino(model: Any, path: Path, about: dict[str, Any]) -> None:
    """Writes a model of OpenVINO, as `Format.write` does a graph of Keras."""
    model.outputs[0].get_tensor().set_names({PROBABILITIES})
    for key, value in about.items():
        model.set_rt_info(_text(value), [ABOUT, key])
    openvino.openvino().save_model(model, path, compress_to_fp16=False)


def _load_openvino(path: Path) -> Predict:
    core = openvino.core()
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    network = core.compile_model(core.read_model(path), "CPU", settings)
    return lambda inputs: np.asarray(network(inputs)[PROBABILITIES])


def _write_tflite(graph: "keras.Model", path: Path, about: dict[str, Any]) -> None:
    tf, function = tensorflow(), function_of(graph)
    owner = tf.Module()  # the converter freezes the variables that it holds
    owner.numbers = [variable.value for variable in graph.variables]
    concrete = function.get_concrete_function()
    with stderr_held_back():
        converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], owner)
        path.write_bytes(converter.convert())
    with zipfile.ZipFile(path, "a") as appended:
        appended.writestr(LABELS, "".join(f"{name}\n" for name in about["classes"]))
        appended.writestr(f"{ABOUT}.json", json.dumps(about, indent=2))


def _load_tflite(path: Path) -> Predict:
    tf = tensorflow()
    with stderr_held_back(), _without_warnings():
        interpreter = tf.lite.Interpreter(str(path), num_threads=os.cpu_count())
        interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner()
    return lambda inputs: np.asarray(runner(**inputs)[PROBABILITIES])


@contextmanager
def _without_warnings() -> Iterator[None]:
    """TensorFlow warns of its own interpreter, which is to move to a package."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


FORMATS: Registry[Format] = Registry(
    "format",
    {
        "onnx": Format(
            ".onnx", _write_onnx, _load_onnx, ("onnx", "onnxruntime", "tf2onnx")
        ),
        OPENVINO: Format(".xml", _write_openvino, _load_openvino, also=(".bin",)),
        "keras": Format(".keras", _write_keras, _load_keras),
        "tflite": Format(".tflite", _write_tflite, _load_tflite),
    },
)
