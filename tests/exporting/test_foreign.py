"""Descriptors of transformers and timm, read without either."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from featcache.backbones import foreign
from featcache.backbones.descriptor import Descriptor
from featcache.core import records
from featcache.dataset import views
from featcache.dataset.views import Resize

RAD_DINO = {
    "crop_size": {"height": 518, "width": 518}, "do_center_crop": True,
    "do_convert_rgb": True, "do_normalize": True, "do_rescale": True,
    "do_resize": True, "image_mean": [0.5307] * 3, "image_std": [0.2583] * 3,
    "image_processor_type": "BitImageProcessor", "resample": 3,
    "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 518},
}  # fmt: skip
VIT = {"image_processor_type": "ViTImageProcessor", "size": 224, "resample": 2}
CONVNEXT = {
    "feature_extractor_type": "ConvNextFeatureExtractor", "crop_pct": 0.875,
    "size": 224,
}  # fmt: skip
TIMM = {
    "architecture": "vit_small_patch14_dinov2", "num_features": 384,
    "pretrained_cfg": {
        "input_size": [3, 518, 518], "interpolation": "bicubic", "crop_pct": 1.0,
        "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
        "license": "apache-2.0", "hf_hub_id": "timm/x", "num_classes": 0,
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "keys"),
    [
        (
            RAD_DINO,
            {
                "input_size": 518, "resize": "shortest_edge", "resize_to": 518,
                "crop_rounding": "down", "interpolation": "bicubic",
                "range": [0.0, 1.0], "mean": [0.5307] * 3, "std": [0.2583] * 3,
            },
        ),
        (
            VIT,
            {
                "input_size": 224, "resize": "exact", "interpolation": "bilinear",
                "mean": [0.5] * 3, "std": [0.5] * 3,
            },
        ),
        (VIT | {"do_rescale": False}, {"range": [0.0, 255.0]}),
        (CONVNEXT, {"input_size": 224, "resize_to": 256, "resize": "shortest_edge"}),
        (CONVNEXT | {"size": 384}, {"input_size": 384, "resize": "exact"}),
        (
            TIMM,
            {
                "input_size": 518, "resize": "shortest_edge", "resize_to": 518,
                "interpolation": "bicubic", "licence": "apache-2.0",
                "source": "timm/x", "range": [0.0, 1.0],
            },
        ),
        ({"input_size": [3, 224, 224]}, {"resize_to": 256, "interpolation": "bicubic"}),
        (
            {"input_size": [3, 224, 224], "crop_mode": "squash", "crop_pct": 1.0},
            {"resize": "exact"},
        ),
    ],
    ids=[
        "rad-dino", "vit", "unscaled", "convnext", "convnext-384", "timm", "timm-bare",
        "timm-squash",
    ],
)  # fmt: skip
def test_a_foreign_descriptor_becomes_ours(
    config: dict[str, Any], keys: dict[str, Any]
) -> None:
    """All that decides pixels is taken over, as a descriptor that can be read."""
    assert foreign.is_foreign(config)
    own = foreign.descriptor_keys(config)
    assert own | keys == own
    descriptor = records.from_json(Descriptor, own)
    assert records.to_json(descriptor).keys() >= own.keys() - {"crop_rounding"}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (VIT | {"do_sharpen": True}, "do_sharpen of a ViTImageProcessor is not under"),
        (VIT | {"do_pad": True}, "do_pad of"),
        (VIT | {"do_resize": False}, "do_resize is false"),
        (VIT | {"size": {"height": 224, "width": 320}}, "not a square"),
        (VIT | {"size": {"longest_edge": 224}}, "not a height and a width"),
        (VIT | {"do_center_crop": True, "crop_size": 192}, "squeezed to 224"),
        (VIT | {"resample": 9}, "resample is 9"),
        (VIT | {"image_mean": [0.5, 0.5]}, "not three numbers"),
        (RAD_DINO | {"do_center_crop": False}, "no square"),
        (RAD_DINO | {"size": {"shortest_edge": 500}}, "more than the shortest edge"),
        ({"image_processor_type": "SamImageProcessor"}, "not one of ViTImage"),
        ({"input_size": [3, 224, 224], "sharpen": 1}, "sharpen of timm's config"),
        (TIMM | {"sharpen": 1}, "sharpen of timm's config"),
        (TIMM | {"model_args": {"img_size": 224}}, "not a square of the size"),
        ({"input_size": [3, 224, 256]}, "not a square"),
        ({"input_size": [3, 224, 224], "interpolation": "random"}, "interpolation is"),
        ({"input_size": [3, 224, 224], "crop_mode": "border"}, "crop_mode 'border'"),
        ({"input_size": [1, 224, 224]}, "not of 1 channels"),
        ({"mean": [0.5]}, "neither"),
    ],
)
def test_what_is_not_understood_is_refused(config: dict[str, Any], words: str) -> None:
    """A key or value that could change pixels is an error that names it."""
    with pytest.raises(ValueError, match=words):
        foreign.descriptor_keys(config)


def test_crops_are_rounded_as_described() -> None:
    """Of 7 columns too many, 4 go on the left by torchvision's rule, 3 rounded down."""
    columns = np.arange(71, dtype=np.uint8)
    image = Image.fromarray(np.tile(columns, (64, 1)))
    nearest, down = (
        Resize(64, "shortest_edge", 64, rounding=rounding)
        for rounding in ("nearest", "down")
    )
    assert views.render(image, nearest)[0, 0, 0] == 4
    assert views.render(image, down)[0, 0, 0] == 3


@pytest.mark.parametrize("rounding", ["nearest", "down"])
def test_the_rounding_of_a_crop_is_in_the_contract(rounding: str) -> None:
    """A contract's text gives the same rule back."""
    resize = Resize(64, "shortest_edge", 80, "bicubic", rounding=rounding)
    assert Resize.from_text(resize.text, 64) == resize
