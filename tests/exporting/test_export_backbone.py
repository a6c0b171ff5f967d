"""Exporting backbones: what is refused, and Keras, which needs no PyTorch."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from featcache import backbones
from featcache.backbones import canary, exporting
from featcache.backbones.exporting import original
from featcache.commands.backbone.export import export_backbone
from featcache.dataset import views
from featcache.errors import FeatcacheError, UnknownNameError, UsageError, WeightsError


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("resnet50", "FRAMEWORK:NAME with one of timm, hf, xrv, keras"),
        ("timm:", "FRAMEWORK:NAME"),
        ("tim:resnet50", "timm"),
        ("keras:resnet5", "resnet50"),
    ],
)
def test_a_wrong_spec_offers_what_there_is(
    spec: str, words: str, tmp_path: Path
) -> None:
    """A spec without a framework, or with an unknown name, is refused."""
    with pytest.raises((UsageError, UnknownNameError), match=words):
        export_backbone(spec, tmp_path / "net.onnx", random=True)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("name", ["net.keras", "net", "a+b.onnx"])
def test_a_wrong_name_of_the_file_is_refused(name: str, tmp_path: Path) -> None:
    """The file ends in .onnx, and its name can be that of a backbone."""
    with pytest.raises(UsageError):
        export_backbone("timm:resnet50", tmp_path / name, random=True)


@pytest.mark.parametrize("name", ["net.onnx", "net.json", "net.onnx.data"])
def test_files_that_are_there_stay(name: str, tmp_path: Path) -> None:
    """None of the files is replaced without force, and before anything is loaded."""
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match="exists"):
        export_backbone("timm:resnet50", tmp_path / "net.onnx", random=True)
    assert (tmp_path / name).read_text() == "mine"


def test_missing_packages_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without PyTorch the error says which extra to install."""
    monkeypatch.setattr(original, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"torch.*featcache\[torch\]"):
        export_backbone("timm:resnet50", tmp_path / "net.onnx", random=True)
    with pytest.raises(UsageError, match=r"tf2onnx.*featcache\[export\]"):
        export_backbone("keras:vgg16", tmp_path / "net.onnx", random=True)


def test_the_command_line_imports_no_framework(
    run: Callable[..., tuple[int, str, str]],
) -> None:
    """Help and errors of the command come without PyTorch."""
    before = "torch" in sys.modules
    assert run("backbone", "export", "--help")[0] == 0
    code, out, err = run("backbone", "export", "resnet50", "-o", "net.onnx")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert ("torch" in sys.modules) == before


@pytest.mark.slow
def test_a_keras_network_keeps_its_embedding(tmp_path: Path) -> None:
    """The ONNX file gives what Keras gives with its own preprocess_input."""
    path = tmp_path / "mobile.onnx"
    exported = export_backbone("keras:MobileNetV2", path, random=True, input_size=96)
    assert exported.proof.embedding < 1e-4
    assert exported.keys["layout"] == "nhwc"
    network = backbones.resolve(str(path))
    assert network.taps == backbones.NETWORKS["mobilenetv2"].taps
    record = json.loads(path.with_suffix(".json").read_text())
    table = backbones.build(backbones.resolve("mobilenetv2", "random", input_size=96))
    pixels = views.render(canary.picture(), network.resize)[None] / 127.5 - 1
    (expected,) = table(pixels.astype(np.float32)).numpy()
    embedding = np.array(record["canary"]["embedding"])
    assert np.abs(embedding - expected).max() <= 1e-4 * np.abs(expected).max()


def test_whatever_a_library_raises_becomes_one_line() -> None:
    """An error of a library, whatever it is, says what to do in one line."""
    with (
        pytest.raises(WeightsError, match="cannot be loaded: no route") as raised,
        original.loading("timm:resnet50", random=False),
    ):
        raise RuntimeError("no route\nto the host")
    assert isinstance(raised.value, FeatcacheError)
    assert "`random=True`" in raised.value.hint
    assert set(exporting.FRAMEWORKS) == {"timm", "hf", "xrv", "keras"}
