"""What is known of networks: listed, described, checked, and told of their licences."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_graphs import KERNEL, SIDE, map_network, token_network, vector_network
from toys import finetune_flat, train_flat

from featcache.backbones import NETWORKS, canary, resolve
from featcache.backbones.engines.openvino import OpenVINOEngine
from featcache.backbones.graphs import pixels, reading
from featcache.commands import doctor
from featcache.commands.backbone import checking
from featcache.commands.backbone.describe import describe
from featcache.commands.backbone.listing import list_backbones
from featcache.commands.bundle import make_bundle
from featcache.commands.extract import extract
from featcache.dataset.manifest import Manifest
from featcache.dataset.views import render
from featcache.deploy.bundle.card import card
from featcache.deploy.bundle.open import open_bundle
from featcache.errors import UsageError
from featcache.features.extractions import network_words
from featcache.features.stored_networks import stored_networks

ABOUT = {"preprocess": "tf", "licence": "CC-BY-4.0", "source": "a ward"}
OPTIONS: dict[str, Any] = {"folds": 2, "test_size": 0.3, "jobs": 1, "tune": False}
Run = Callable[..., tuple[int, str, str]]


def with_canary(path: Path) -> Path:
    """A network of vectors whose descriptor has a canary that passes."""
    network = resolve(str(vector_network(path, **ABOUT)))
    engine = OpenVINOEngine(pixels.with_pixels(network), batch_size=1)
    (outputs,) = engine.run([render(canary.picture(), network.resize)[None]])
    return vector_network(
        path,
        **ABOUT,
        weights_digest=reading.weights_digest(network),
        canary={
            "picture": canary.PICTURE,
            "input_size": SIDE,
            "embedding": outputs["features"][0].tolist(),
            "framework": {"torch": "2.15.0"},
        },
    )


def test_the_list_has_table_files_and_baselines(
    dataset: Manifest, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names are as -b takes them; licences are those of Keras and of descriptors."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    path = with_canary(tmp_path / "net.onnx")
    extract(dataset, [resolve(str(path)), resolve("metadata")])
    cache = dataset.folder.parent
    listed = {one.name: one for one in list_backbones(cache)}
    (word,) = [name for name in listed if name.endswith("net.onnx")]
    own = listed[word]
    assert Path(word).resolve() == path
    assert (own.kind, own.weights, own.canary) == ("cache", "here", "passed")
    assert (own.licence, own.source, own.width) == ("CC-BY-4.0", "a ward", 6)
    assert own.datasets == listed["metadata"].datasets == [dataset.dataset]
    assert listed["densenet121"].licence == "BSD-3-Clause"
    assert listed["densenet121"].weights == "not here"
    assert {*NETWORKS} <= {*listed}
    code, out, _ = run("backbone", "ls", "--cache", cache, "--json")
    assert (code, len(json.loads(out))) == (0, len(listed))
    code, out, _ = run("backbone", "ls", "--cache", cache)
    assert code == 0
    assert "CC-BY-4.0" in out


def test_a_description_says_how_pixels_become_features(
    tmp_path: Path, toy_network: Path, run: Run
) -> None:
    """Input, resizing, scaling in words and numbers, output, layers, licence."""
    path = token_network(
        tmp_path / "vit.onnx", range=[0, 1], mean=[0.5], std=[0.25], order="bgr",
        resize="shortest_edge", resize_to=36, interpolation="bicubic",
        pooling="cls+mean", taps=["patches"], licence="MIT",
    )  # fmt: skip
    one = describe(str(path))
    assert one.resize.startswith("shortest edge 36, centre crop, bicubic")
    assert one.scaling == "0 to 255 become 0 to 1, less 0.5, over 0.25, BGR"
    assert one.scale == pytest.approx([1 / 255 / 0.25] * 3)
    assert one.offset == [-2.0] * 3
    assert one.output == "tokens, 1 in front, 4 x 4 patches, nchw"
    assert (one.pooling, one.width, one.taps) == ("cls+mean", 12, ["patches"])
    assert {"map", "patches"} <= {*one.layers}
    assert (one.licence, one.canary) == ("MIT", None)
    assert one.weights_digest == reading.weights_digest(resolve(str(path)))
    keras = describe(str(toy_network), input_size=32)
    assert "conv2d" in keras.layers
    assert describe("xception").scaling == "from -1 to 1"
    code, out, _ = run("backbone", "describe", path)
    assert code == 0
    assert "over 0.25, BGR" in out
    code, out, _ = run("backbone", "describe", "pixels48", "--json")
    assert json.loads(out)["is_baseline"]


def test_a_check_runs_a_network(tmp_path: Path, run: Run) -> None:
    """It reads, runs, mixes no images, has its canary and its weights."""
    path = with_canary(tmp_path / "net.onnx")
    names = ["reads", "runs", "batches", "canary", "weights"]
    assert [one.name for one in checking.check(path)] == names
    assert {one.status for one in checking.check(path)} == {"PASS"}
    record = json.loads(path.with_suffix(".json").read_text())
    record |= {"preprocess": "caffe", "weights_digest": "0" * 64}
    path.with_suffix(".json").write_text(json.dumps(record))
    by_name = {one.name: one for one in checking.check(path)}
    assert by_name["canary"].status == by_name["weights"].status == "FAIL"
    assert '"preprocess": "tf"' in by_name["canary"].fix
    code, out, _ = run("backbone", "check", path)
    assert code == 1
    assert "FAIL" in out
    plain = {one.name: one for one in checking.check(vector_network(path, **ABOUT))}
    assert (plain["canary"].status, plain["weights"].status) == ("WARN", "PASS")
    path.write_bytes(path.read_bytes()[:100])
    (broken,) = checking.check(path)
    assert (broken.name, broken.status) == ("reads", "FAIL")
    with pytest.raises(UsageError, match="file to check"):
        checking.check(Path("densenet121"))


def test_numbers_that_are_not_finite_fail_the_check(tmp_path: Path) -> None:
    """Weights that overflow are found on noise."""
    path = vector_network(tmp_path / "net.onnx", preprocess="none")
    data = path.read_bytes()
    assert checking.check(path)[1].status == "PASS"
    endless = np.float32(np.inf).tobytes()
    path.write_bytes(data.replace(KERNEL.tobytes(), KERNEL.tobytes()[:-4] + endless))
    assert checking.check(path)[1].status == "FAIL"


@pytest.mark.slow
def test_licence_and_source_go_with_the_features(
    dataset: Manifest, tmp_path: Path
) -> None:
    """From the descriptor to store, run, doctor, bundle and its model card."""
    path = map_network(tmp_path / "net.onnx", **ABOUT, input_size=SIDE)
    extract(dataset, [resolve(str(path))])
    (one,) = stored_networks(dataset.folder.parent)
    assert (one.licence, one.source, one.canary) == ("CC-BY-4.0", "a ward", "absent")
    (run,) = train_flat(dataset, tmp_path / "r", heads=["logreg"], **OPTIONS).runs
    (block,) = run.record.features
    assert (block.licence, block.source) == ("CC-BY-4.0", "a ward")
    checks = doctor.doctor(dataset.folder.parent, tmp_path, offline=True)
    (check,) = [check for check in checks if check.name == "network net"]
    assert (check.status, "CC-BY-4.0" in check.result) == ("WARN", True)
    assert "unproven" in check.result
    make_bundle(dataset, run, tmp_path / "model.fcb")
    record = open_bundle(tmp_path / "model.fcb").record
    (network,) = record.networks
    assert (network.licence, network.canary) == ("CC-BY-4.0", "absent")
    assert "licence of the weights: CC-BY-4.0; source: a ward; preprocessing" in card(
        record
    )


def test_a_network_in_a_graph_is_named_by_its_file() -> None:
    """Commands that are recommended give an ONNX file to -b, not as weights."""
    assert network_words("net", "file", [], file="/a/net.onnx") == ["-b", "/a/net.onnx"]


def test_fine_tuning_refuses_graphs(dataset: Manifest, tmp_path: Path) -> None:
    """The error says why, and what works."""
    network = resolve(str(map_network(tmp_path / "net.onnx", **ABOUT, input_size=SIDE)))
    with pytest.raises(UsageError, match=r"without gradients.*densenet121.*\.keras"):
        finetune_flat(dataset, [network], reports=tmp_path / "r")
