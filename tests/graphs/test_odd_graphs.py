"""Networks in files of unusual numbers and names, and descriptors that mislead."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from toy_graphs import KERNEL, SIDE, conv, patches_of, save, vector_network
from toys import Heard, train_flat

from featcache.backbones import resolve
from featcache.backbones.engines.openvino import OpenVINOEngine
from featcache.backbones.graphs import pixels, reading
from featcache.commands.backbone import checking
from featcache.commands.backbone.describe import describe
from featcache.commands.bundle import make_bundle
from featcache.commands.explain import explain
from featcache.commands.extract import extract
from featcache.dataset.manifest import Manifest
from featcache.deploy.bundle.open import open_bundle
from featcache.deploy.bundle.verify import verify
from featcache.errors import FeatcacheError, UsageError
from featcache.features import store

IMAGES = np.random.default_rng(3).integers(0, 256, (5, SIDE, SIDE, 3), dtype=np.uint8)
OPTIONS: dict[str, Any] = {"folds": 2, "test_size": 0.3, "jobs": 1, "tune": False}
ODD = "a/b%2F:\"c' dé"  # of a node


def features(path: Path) -> np.ndarray:
    """What a network gives for the images."""
    model = pixels.with_pixels(resolve(str(path)))
    (outputs,) = OpenVINOEngine(model, batch_size=8).run([IMAGES])
    return outputs["features"]


def test_a_network_in_half_precision(tmp_path: Path) -> None:
    """Input, weights and output of 16 bits: featcache gives and takes 32."""
    path = vector_network(tmp_path / "net.onnx", preprocess="tf")
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    (kernel,) = model.graph.initializer
    kernel.CopyFrom(numpy_helper.from_array(KERNEL.astype(np.float16), "kernel"))
    onnx.save(model, path)
    got, expected = features(path), patches_of(IMAGES / 127.5 - 1).mean(axis=(1, 2))
    assert got.dtype == np.float32
    assert np.abs(got - expected).max() < 5e-3 * np.abs(expected).max()


class Scaled(CalibrationDataReader):
    """The images, one by one, as the network takes them."""

    def __init__(self) -> None:
        self._rows = iter(np.float32(IMAGES / 127.5 - 1).transpose(0, 3, 1, 2))

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next, or None."""
        row = next(self._rows, None)
        return None if row is None else {"pixels": row[None]}


def test_a_quantised_network(tmp_path: Path) -> None:
    """Weights and activations of 8 bits (QDQ) run, near the network in float32."""
    plain = vector_network(tmp_path / "plain.onnx", preprocess="tf")
    path = tmp_path / "net.onnx"
    quantize_static(
        plain, path, Scaled(), quant_format=QuantFormat.QDQ,
        weight_type=QuantType.QInt8, activation_type=QuantType.QUInt8,
    )  # fmt: skip
    shutil.copy(plain.with_suffix(".json"), path.with_suffix(".json"))
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    got, near = features(path), features(plain)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    rows = np.float32(IMAGES / 127.5 - 1).transpose(0, 3, 1, 2)
    (expected,) = session.run(["features"], {"pixels": rows})
    largest = np.abs(expected).max()
    assert np.abs(got - expected).max() < 0.05 * largest  # kernels round otherwise
    assert np.abs(got - near).max() < 0.1 * largest
    digests = [reading.weights_digest(resolve(str(one))) for one in (path, plain)]
    assert digests[0] != digests[1]
    assert {one.status for one in checking.check(path)} <= {"PASS", "WARN"}


def test_a_layout_that_the_graph_contradicts(tmp_path: Path) -> None:
    """NCHW described as NHWC is refused where channels cannot be the last axis."""
    path = save(
        tmp_path / "net.onnx", [conv(y="features")], {"kernel": KERNEL},
        inputs={"pixels": ("N", "a", "b", "c")}, preprocess="tf", input_size=SIDE,
        layout="nhwc",
    )  # fmt: skip
    with pytest.raises(UsageError, match=r"net\.onnx to take .*\(\?, 32, 32, 3\)"):
        resolve(str(path))
    fixed = save(
        tmp_path / "fixed.onnx", [conv(y="features")], {"kernel": KERNEL},
        inputs={"pixels": ("N", 3, SIDE, SIDE)}, preprocess="tf", layout="nhwc",
    )  # fmt: skip
    with pytest.raises(UsageError, match=r'"layout" in fixed\.json'):
        resolve(str(fixed))


def odd_network(path: Path) -> Path:
    """The mean of a map that has an odd name."""
    nodes = [
        conv(y=ODD),
        helper.make_node("ReduceMean", [ODD], ["features"], axes=[2, 3], keepdims=0),
    ]
    inputs: dict[str, Any] = {"pixels": ("N", 3, SIDE, SIDE)}
    return save(path, nodes, {"kernel": KERNEL}, inputs=inputs, preprocess="tf")


@pytest.mark.parametrize("name", ["a net (1) – Größe 'x' \"y\" %2F.onnx", "-b.onnx"])
def test_files_of_odd_names(name: str, dataset: Manifest, tmp_path: Path) -> None:
    """Spaces, quotes, signs and letters of any script: a store, a run, a bundle."""
    path = odd_network(tmp_path / name)
    (result,) = extract(dataset, [resolve(str(path))])
    assert store.open_store(result.path).header.contract.backbone == path.stem
    (run,) = train_flat(dataset, tmp_path / "r", heads=["logreg"], **OPTIONS).runs
    make_bundle(dataset, run, tmp_path / "model.fcb")
    bundle = open_bundle(tmp_path / "model.fcb")
    assert bundle.record.networks[0].name == path.stem
    assert all(stage.passed for stage in verify(bundle))


@pytest.mark.parametrize("name", ["a+b.onnx", "a@1.onnx", "a,b.onnx", "n\nm.onnx"])
def test_names_that_mean_something_are_refused(name: str, tmp_path: Path) -> None:
    """Signs of feature sets, and what would break a line, are named in the error."""
    with pytest.raises(UsageError, match="Rename the file"):
        resolve(str(odd_network(tmp_path / name)))


def test_taps_of_odd_names(dataset: Manifest, tmp_path: Path) -> None:
    """A node with slashes, percent signs and quotes: stored, trained on, explained."""
    path = odd_network(tmp_path / "net.onnx")
    assert ODD in describe(str(path)).layers
    (result,) = extract(dataset, [resolve(str(path))], taps=ODD, tap_pooling="grid2")
    opened = store.open_store(result.path)
    assert opened.taps == (f"{ODD}:grid2",) or [*opened.taps] == [f"{ODD}:grid2"]
    assert opened.read(f"{ODD}:grid2").shape == (len(dataset.ok), 24)
    options = OPTIONS | {"taps": "all"}
    (run,) = train_flat(dataset, tmp_path / "r", heads=["logreg"], **options).runs
    heard = Heard()
    (one, *_) = explain(dataset, run, per_class=1, mean=0, reporter=heard).maps
    assert one.map_sum == pytest.approx(one.score - one.base, abs=1e-4)
    make_bundle(dataset, run, tmp_path / "model.fcb")
    assert all(s.passed for s in verify(open_bundle(tmp_path / "model.fcb")))


def test_nothing_is_stored_of_a_network_that_cannot_run(
    dataset: Manifest, tmp_path: Path
) -> None:
    """A tap that is no map ends the call before a store is there."""
    path = odd_network(tmp_path / "net.onnx")
    with pytest.raises(FeatcacheError):
        extract(dataset, [resolve(str(path))], taps="no/such%node")
    assert not list((dataset.folder / "features").glob("*.h5"))
