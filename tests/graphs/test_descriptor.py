"""Descriptors: what they may say, and contradictions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from featcache.backbones import PREPROCESS, descriptor
from featcache.backbones.descriptor import Descriptor
from featcache.dataset.views import Resize, render
from featcache.errors import WeightsError

CANARY = {"picture": "a", "input_size": 32, "embedding": [1.0]}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a typing error": ({"interpolaton": "bicubic"}, "did you mean interpolation"),
    "far from all": ({"zzzz": 1}, "'zzzz' means nothing"),
    "range": ({"range": [1, 0]}, "range is not"),
    "mean": ({"mean": [0.5, 0.5]}, "mean has 2 numbers, not 3"),
    "std": ({"std": [0.5, 0, 1]}, "std is not above 0"),
    "both": ({"preprocess": "tf", "mean": [1]}, "preprocess and mean are both"),
    "edge": ({"resize_to": 256}, "resize_to means nothing"),
    "antialias": ({"interpolation": "lanczos", "antialias": False}, "antialias"),
    "rule": ({"resize": "crop"}, "resize is 'crop', not exact"),
    "layout": ({"layout": "nchw"}, "only for .onnx and .xml"),
    "another size": ({"input_size": 32, "input_sizes": [64, 96]}, "not 64 to 96"),
    "no digest": ({"weights_digest": "ab"}, "not 64 hex digits"),
    "a book": ({"licence": "x" * 2000}, "licence has more than 1000 letters"),
    "too much": ({"std": [1e-300]}, "numbers that are too large"),
    "sizes": ({"input_sizes": [64, 32]}, "input_sizes is not"),
    "canary": ({"canary": {"picture": "a"}}, "canary.input_size"),
    "canary's size": ({"canary": CANARY | {"input_size": 1}}, "is 1, not 32 to"),
    "canary's key": ({"canary": CANARY | {"embeding": []}}, "mean embedding"),
}


@pytest.mark.parametrize(("keys", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_key_is_named(
    keys: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """Each wrong value is named, and a key that is none with the nearest that is."""
    (tmp_path / "net.json").write_text(json.dumps(keys))
    with pytest.raises(WeightsError, match=message):
        descriptor.read(tmp_path / "net.keras")


TEXTS = {
    "twice": (
        b'{"preprocess": "tf", "preprocess": "torch"}',
        "'preprocess' is .* twice",
    ),
    "inside": (
        b'{"canary": {"picture": "a", "picture": "b"}}',
        "'picture' is .* twice",
    ),
    "a list": (b"[]", "not an object of keys"),
    "latin-1": (b'{"source": "\xe9"}', "not UTF-8 from byte 12 on"),
}


@pytest.mark.parametrize(("text", "message"), TEXTS.values(), ids=TEXTS)
def test_a_text_that_is_no_descriptor(
    text: bytes, message: str, tmp_path: Path
) -> None:
    """What is no object of keys, each once, is refused in plain words."""
    (tmp_path / "net.json").write_bytes(text)
    with pytest.raises(WeightsError, match=message):
        descriptor.read(tmp_path / "net.keras")


def test_a_mark_of_utf_8_does_not_count(tmp_path: Path) -> None:
    """A byte order mark, which editors on Windows write, is no part of the JSON."""
    (tmp_path / "net.json").write_bytes(b'\xef\xbb\xbf{"preprocess": "tf"}')
    assert descriptor.read(tmp_path / "net.keras").preprocess == "tf"


def test_numbers_of_the_named_scalings() -> None:
    """The torch and tf scalings in numbers are those of their names."""
    torch = Descriptor(
        range=[0, 1], mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]
    )
    tf = Descriptor(range=[-1, 1])
    for one, name in ((torch, "torch"), (tf, "tf")):
        assert one.numbers is not None
        np.testing.assert_allclose(one.numbers.scale, PREPROCESS[name].scale)
        np.testing.assert_allclose(one.numbers.offset, PREPROCESS[name].offset)


RESIZES = [
    Resize(32),
    Resize(32, "shortest_edge", 36, "bicubic"),
    Resize(32, "letterbox", None, "lanczos"),
    Resize(32, "exact", None, "bilinear", False),
]


@pytest.mark.parametrize("resize", RESIZES, ids=lambda one: one.text)
def test_a_contract_keeps_the_way_of_resizing(resize: Resize) -> None:
    """What a contract says of it can be read again."""
    assert Resize.from_text(resize.text, 32) == resize


def test_ways_of_resizing() -> None:
    """A crop shows the middle, a letterbox all of it between black bars."""
    wide = np.zeros((40, 80), np.uint8)
    wide[:, 20:60] = 200
    image = Image.fromarray(wide)
    crop = render(image, Resize(20, "shortest_edge"))
    box = render(image, Resize(20, "letterbox"))
    assert crop.shape == box.shape == (20, 20, 3)
    assert (crop == 200).mean() > 0.85
    assert not box[:5].any()
    assert not box[15:].any()
    assert box[8:12, 6:14].min() == 200


def test_without_antialiasing_pixels_are_interpolated_alone() -> None:
    """Of a fine grid of lines the mean comes with it, and a line without."""
    lines = np.zeros((64, 64), np.uint8)
    lines[:, ::8] = 255
    image = Image.fromarray(lines)
    smooth, sharp = (
        render(image, Resize(8, antialias=one)).astype(int) for one in (True, False)
    )
    assert np.ptp(smooth) < 60
    assert set(np.unique(sharp)) <= {0}


def test_the_edge_grows_with_the_side() -> None:
    """At another size the same part of the picture is seen."""
    one = Descriptor(input_size=224, resize="shortest_edge", resize_to=256)
    assert one.resizing(224) == Resize(224, "shortest_edge", 256)
    assert one.resizing(448) == Resize(448, "shortest_edge", 512)
    assert Descriptor(input_size=224).resizing(320) is None


PROCESSOR = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": 32, "width": 32},
    "resample": 3,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.25, 0.25, 0.25],
}


def test_a_processor_of_hugging_face_is_a_descriptor(tmp_path: Path) -> None:
    """It counts under the network's name or its own, alone and beside ours."""
    own = {"input_size": 32, "pooling": "cls", "licence": "MIT"}
    expected = Descriptor(
        input_size=32,
        interpolation="bicubic",
        channels=3,
        range=[0, 1],
        mean=[0.5] * 3,
        std=[0.25] * 3,
        order="rgb",
    )
    path = tmp_path / "net.onnx"
    for name in ("net.json", descriptor.PROCESSOR):
        (tmp_path / name).write_text(json.dumps(PROCESSOR))
        assert descriptor.read(path) == expected
    (tmp_path / "net.json").write_text(json.dumps(own))
    merged = descriptor.read(path)
    assert (merged.mode, merged.pooling, merged.licence) == (
        expected.mode,
        "cls",
        "MIT",
    )
    assert descriptor.read(tmp_path / "other.keras") == Descriptor()


def test_descriptors_that_contradict_each_other(tmp_path: Path) -> None:
    """The key that they differ in is named, with both values."""
    (tmp_path / descriptor.PROCESSOR).write_text(json.dumps(PROCESSOR))
    (tmp_path / "net.json").write_text('{"interpolation": "bilinear"}')
    with pytest.raises(WeightsError, match="interpolation is bilinear and bicubic"):
        descriptor.read(tmp_path / "net.onnx")


def test_timm_is_read_too(tmp_path: Path) -> None:
    """The configuration of timm gives the crop as the share that is kept."""
    config = {
        "input_size": [3, 224, 224],
        "crop_pct": 0.875,
        "interpolation": "bicubic",
    }
    (tmp_path / "net.json").write_text(json.dumps({"pretrained_cfg": config}))
    one = descriptor.read(tmp_path / "net.onnx")
    assert (one.resize, one.resize_to, one.interpolation) == (
        "shortest_edge",
        256,
        "bicubic",
    )
