"""Descriptors made of transformers' and timm's, against what these do to pixels."""

from typing import Any

import numpy as np
import pytest
from PIL import Image
from toy_networks import NEEDS_TORCH

from featcache.backbones import canary, foreign
from featcache.backbones.descriptor import Descriptor
from featcache.core import records
from featcache.dataset import phantom, views

pytestmark = NEEDS_TORCH

PROCESSORS: dict[str, dict[str, Any]] = {
    "vit": {"name": "ViTImageProcessor"},
    "vit-lanczos": {"name": "ViTImageProcessor", "resample": 1},
    "clip": {"name": "CLIPImageProcessor"},
    "clip-odd": {
        "name": "CLIPImageProcessor", "size": {"shortest_edge": 251},
        "crop_size": {"height": 224, "width": 224},
    },
    "siglip": {"name": "SiglipImageProcessor", "size": {"height": 384, "width": 384}},
    "bit": {"name": "BitImageProcessor", "size": {"shortest_edge": 256}},
    "bit-plain": {"name": "BitImageProcessor", "do_normalize": False},
    "convnext": {"name": "ConvNextImageProcessor", "size": {"shortest_edge": 224}},
    "convnext-384": {"name": "ConvNextImageProcessor"},
}  # fmt: skip


def pictures() -> list[Image.Image]:
    """The canary's picture lying and standing, and a phantom of odd sides."""
    picture = canary.picture()
    drawn = Image.fromarray(phantom.draw(phantom.CLASSES[0], 0, size=288).image)
    return [picture, picture.rotate(90, expand=True), drawn.crop((0, 0, 263, 288))]


def ours(image: Image.Image, keys: dict[str, Any]) -> np.ndarray:
    """(3, S, S) as a descriptor with these keys makes it."""
    descriptor = records.from_json(Descriptor, keys)
    side = keys["input_size"]
    pixels = views.render(image.convert("RGB"), descriptor.resizing(side) or side)
    numbers = descriptor.numbers
    assert numbers
    scaled = pixels * np.float32(numbers.scale) + np.float32(numbers.offset)
    return scaled.transpose(2, 0, 1)


def check(expected: np.ndarray, image: Image.Image, keys: dict[str, Any]) -> None:
    got = ours(image, keys)
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("case", PROCESSORS)
def test_pixels_are_those_of_the_image_processor(case: str) -> None:
    """Every processor's tensor is repeated from what it writes down of itself."""
    import transformers

    options = dict(PROCESSORS[case])
    processor = getattr(transformers, f"{options.pop('name')}Pil")(**options)
    keys = foreign.descriptor_keys(processor.to_dict())
    for image in pictures():
        done = processor(images=image.convert("RGB"), return_tensors="np")
        check(done["pixel_values"][0], image, keys)


@pytest.mark.parametrize(
    "name",
    [
        "resnet50", "vit_small_patch14_dinov2", "convnext_tiny", "efficientnet_b0",
        "vit_base_patch16_siglip_224", "inception_v3",
    ],
)  # fmt: skip
def test_pixels_are_those_of_timm(name: str) -> None:
    """The evaluation transform is repeated from a model's pretrained_cfg."""
    import timm
    from timm.data import create_transform, resolve_data_config

    cfg = timm.get_pretrained_cfg(name).to_dict()
    transform = create_transform(**resolve_data_config({}, pretrained_cfg=cfg))
    for image in pictures():
        expected = transform(image.convert("RGB")).numpy()
        check(expected, image, foreign.descriptor_keys(cfg))
