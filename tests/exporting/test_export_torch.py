"""Exports of timm, transformers and torchxrayvision, against these libraries."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_networks import HUGGING_FACE, NEEDS_TORCH, hugging_face_folder
from toys import write_images

from featcache import backbones
from featcache.backbones import canary
from featcache.backbones.exporting import (
    FRAMEWORKS,
    ExportedBackbone,
    Request,
    checking,
)
from featcache.backbones.exporting.original import Original
from featcache.commands.backbone.export import export_backbone
from featcache.dataset import views
from featcache.errors import ExportError, UsageError, WeightsError

pytestmark = NEEDS_TORCH

# Spec: input size, kind of output, pooling, width, taps.
NETWORKS: dict[str, tuple[int | None, str, str | None, int, list[str]]] = {
    "timm:resnet50": (
        64, "map", "avg", 2048, ["stage1", "stage2", "stage3", "stage4"],
    ),
    "timm:vit_small_patch14_dinov2": (
        70, "tokens", "cls", 384, ["block3", "block6", "block9"],
    ),
    "timm:convnext_tiny": (
        64, "vector", None, 768, ["map", "stage1", "stage2", "stage3"],
    ),
    "timm:efficientnet_b0": (
        64, "map", "avg", 1280, ["stage1", "stage2", "stage3", "stage4", "stage5"],
    ),
    "hf:dinov2": (None, "tokens", "cls", 48, ["block1", "block2", "block3"]),
    "hf:dinov2_with_registers": (
        None, "tokens", "cls", 48, ["block1", "block2", "block3"],
    ),
    "hf:vit": (None, "tokens", "cls", 48, ["block1", "block2", "block3"]),
    "hf:siglip_vision_model": (
        None, "vector", None, 48, ["patches", "block1", "block2", "block3"],
    ),
    "xrv:densenet121-res224-all": (
        None, "map", "avg", 1024, ["denseblock1", "denseblock2", "denseblock3"],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def exported(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], ExportedBackbone]:
    """Exports a network, once."""
    done: dict[str, ExportedBackbone] = {}

    def call(spec: str) -> ExportedBackbone:
        if spec not in done:
            folder = tmp_path_factory.mktemp("exported")
            size = NETWORKS[spec][0]
            done[spec] = export_backbone(
                full(spec, folder), folder / "net.onnx", random=True, input_size=size
            )
        return done[spec]

    return call


def full(spec: str, folder: Path) -> str:
    """The spec, of a small network in a folder where there is one."""
    framework, _, kind = spec.partition(":")
    if kind not in HUGGING_FACE:
        return spec
    return f"{framework}:{hugging_face_folder(folder / kind, kind)}"


def original_of(spec: str, folder: Path, **changes: Any) -> Original:
    """The network in its own framework."""
    framework, _, name = full(spec, folder).partition(":")
    request = Request(name, random=True, input_size=NETWORKS[spec][0])
    return FRAMEWORKS[framework].load(replace(request, **changes))


@pytest.mark.parametrize("spec", NETWORKS)
def test_an_export_gives_what_its_framework_gives(
    spec: str, exported: Callable[[str], ExportedBackbone]
) -> None:
    """Preprocessing and embedding agree, and the files are a backbone."""
    _, kind, pooling, width, taps = NETWORKS[spec]
    done = exported(spec)
    assert done.proof.pixels < 1e-5
    assert done.proof.embedding < 1e-4
    keys = done.keys
    assert (keys["output_kind"], keys.get("pooling")) == (kind, pooling)
    assert len(keys["canary"]["embedding"]) == width
    assert keys["canary"]["framework"]["torch"]
    network = backbones.resolve(str(done.path))
    assert list(network.taps) == taps
    assert network.descriptor
    assert network.descriptor.weights_digest
    assert sorted(x.suffix for x in done.path.parent.glob("net*")) == [".json", ".onnx"]


@pytest.mark.parametrize("spec", ["timm:efficientnet_b0", "hf:dinov2"])
def test_other_pictures_agree_as_well(
    spec: str, exported: Callable[[str], ExportedBackbone], tmp_path: Path
) -> None:
    """Not the canary alone: other pictures, of other sides, give the same."""
    network = backbones.resolve(str(exported(spec).path))
    source = original_of(spec, tmp_path)
    picture = canary.picture()
    for image in (picture.crop((3, 5, 200, 258)), picture.resize((64, 203))):
        (expected,) = source.embed(source.tensor(image))
        reference = checking.Reference(source.tensor(image), expected)
        pixels = views.render(image, network.resize)
        tensor = checking.scaled(pixels, network)
        assert checking.relative(tensor, reference.tensor) < 1e-5
        (again,) = source.embed(tensor)
        assert checking.relative(again, expected) < 1e-4


@pytest.mark.parametrize(
    "change",
    [
        {"order": "bgr"}, {"range": [0.0, 255.0]}, {"resize": "exact"},
        {"interpolation": "bilinear"}, {"mean": [0.5] * 3}, {"resize_to": 64},
        {"crop_rounding": "down"},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_a_wrong_descriptor_does_not_pass(
    change: dict[str, Any],
    exported: Callable[[str], ExportedBackbone],
    tmp_path: Path,
) -> None:
    """Whatever of the preprocessing is wrong, the check says that this is it."""
    spec = "timm:efficientnet_b0"
    keys = {**exported(spec).keys, **change}
    if keys["resize"] == "exact":
        del keys["resize_to"]
    path = tmp_path / "net.onnx"
    path.write_bytes(exported(spec).path.read_bytes())
    path.with_suffix(".json").write_text(json.dumps(keys))
    expected = checking.reference(original_of(spec, tmp_path))
    with pytest.raises(ExportError, match="expected the preprocessing to agree"):
        checking.prove(backbones.resolve(str(path)), expected)


def test_another_network_does_not_pass(
    exported: Callable[[str], ExportedBackbone], tmp_path: Path
) -> None:
    """With the right pixels and other weights, the check names the network."""
    spec = "timm:efficientnet_b0"
    network = backbones.resolve(str(exported(spec).path))
    other = checking.reference(original_of(spec, tmp_path, seed=1))
    with pytest.raises(ExportError, match="expected the network in OpenVINO to agree"):
        checking.prove(network, other)


def test_a_failed_check_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that were there before stay as they were, and no other appears."""
    monkeypatch.setattr(checking, "AGREEMENT", -1.0)
    monkeypatch.setattr(checking, "_check", refuse)
    (tmp_path / "net.json").write_text("mine")
    with pytest.raises(ExportError):
        export_backbone(
            "timm:efficientnet_b0", tmp_path / "net.onnx", random=True, input_size=64,
            force=True,
        )  # fmt: skip
    assert [x.name for x in tmp_path.iterdir()] == ["net.json"]
    assert (tmp_path / "net.json").read_text() == "mine"


def refuse(*_: Any) -> float:
    raise ExportError("equal numbers", "others", "Try again.")


def test_tokens_are_pooled_as_requested(tmp_path: Path) -> None:
    """cls+mean puts the class token and the mean of the patches side by side."""
    name = full("hf:dinov2", tmp_path)
    done = export_backbone(name, tmp_path / "n.onnx", random=True, pooling="cls+mean")
    assert len(done.keys["canary"]["embedding"]) == 96
    with pytest.raises(UsageError, match="`pooling` avg, max for map"):
        export_backbone(
            "timm:resnet50", tmp_path / "r.onnx", random=True, input_size=64,
            pooling="cls",
        )  # fmt: skip


def test_what_cannot_be_downloaded_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a network the error names the spec and the way out."""
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for spec in ("timm:resnet50", "hf:microsoft/rad-dino"):
        with pytest.raises(WeightsError, match=f"{spec} cannot be loaded.*random"):
            export_backbone(spec, tmp_path / "net.onnx")
    with pytest.raises(WeightsError, match="no network of torchxrayvision"):
        export_backbone("xrv:densenet", tmp_path / "net.onnx")
    assert not [*tmp_path.iterdir()]


def test_a_text_model_is_refused(tmp_path: Path) -> None:
    """A model whose input is no image is named."""
    small = {"model_type": "bert", "num_hidden_layers": 1, "hidden_size": 12}
    (tmp_path / "config.json").write_text(json.dumps(small))
    with pytest.raises(WeightsError, match="BertModel, not a vision model"):
        export_backbone(f"hf:{tmp_path}", tmp_path / "net.onnx", random=True)


@pytest.mark.parametrize(
    ("architecture", "arguments", "file", "prefix"),
    [
        (
            "eva02_tiny_patch14_224",
            {"patch_size": 16, "ref_feat_shape": [14, 14]}, "model.pth", "",
        ),
        ("vit_tiny_patch16_224", {}, "open_clip_pytorch_model.bin", "visual.trunk."),
    ],
)  # fmt: skip
def test_weights_without_a_config_are_loaded(
    architecture: str, arguments: dict[str, Any], file: str, prefix: str, tmp_path: Path
) -> None:
    """A folder with a config as documented gives the network of its weights."""
    import timm
    import torch

    model = timm.create_model(architecture, num_classes=0, **arguments).eval()
    weights = {f"{prefix}{name}": value for name, value in model.state_dict().items()}
    torch.save(weights, tmp_path / file)
    cfg = {"input_size": [3, 224, 224], "crop_pct": 1.0, "license": "mit"}
    config = {"architecture": architecture, "num_classes": 0, "pretrained_cfg": cfg}
    config |= {"model_args": arguments} if arguments else {}
    (tmp_path / "config.json").write_text(json.dumps(config))
    source = FRAMEWORKS["timm"].load(Request(f"local-dir:{tmp_path}"))
    x = np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32)
    with torch.inference_mode():
        expected = model(torch.from_numpy(x)).numpy()
    assert checking.relative(source.embed(x), expected) < 1e-5
    assert source.keys["licence"] == "mit"


def test_an_export_is_extracted(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    """The command's file is a backbone for extract, with its taps."""
    write_images(tmp_path / "chest")
    options = ("--random", "--input-size", "64", "--json")
    spec = "timm:efficientnet_b0"
    code, out, err = run("backbone", "export", spec, "-o", "eff.onnx", *options)
    assert code == 0, err
    record = json.loads(out)
    assert record["proof"]["embedding"] < 1e-4
    assert record["path"] == "eff.onnx"
    code, _, err = run("extract", "chest", "-b", "eff.onnx", "--taps", "default")
    assert code == 0, err
