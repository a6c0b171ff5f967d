"""What a descriptor says, done with Pillow and numpy: pixels in, one embedding out."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from featcache.backbones.base import PREPROCESS

Keys = Mapping[str, Any]
_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # BT.601


def rendered(image: Image.Image, keys: Keys) -> np.ndarray:
    """An RGB image at the input size: (S, S, 3) uint8."""
    side, rule = keys["input_size"], keys.get("resize", "exact")
    interpolation = Image.Resampling[str(keys.get("interpolation", "bilinear")).upper()]
    if rule == "exact":
        return np.asarray(image.resize((side, side), interpolation))
    to, shortest = keys.get("resize_to", side), min(image.size)
    size = (to * image.width // shortest, to * image.height // shortest)
    small = np.asarray(image.resize(size, interpolation))
    is_down = keys.get("crop_rounding") == "down"
    top, left = (
        (n - side) // 2 if is_down else round((n - side) / 2.0) for n in small.shape[:2]
    )
    return small[top : top + side, left : left + side]


def scaled(pixels: np.ndarray, keys: Keys) -> np.ndarray:
    """(S, S, 3) uint8 as the input of a network: (1, C, S, S) or (1, S, S, C)."""
    values = pixels.astype(np.float32)
    if keys.get("order") == "bgr":
        values = values[..., ::-1]
    if keys.get("preprocess"):
        scaling = PREPROCESS[keys["preprocess"]]
        values = values[..., ::-1] if scaling.bgr else values
        scale, offset = np.array([scaling.scale, scaling.offset], np.float32)
        values = values * scale + offset
    else:
        low, high = keys.get("range", (0, 255))
        values = values * np.float32((high - low) / 255) + np.float32(low)
        values = values - np.float32(keys.get("mean", 0))
        values = values / np.float32(keys.get("std", 1))
    if keys.get("channels") == 1:
        values = (values @ _GREY)[..., None]
    is_first = keys.get("layout", "nchw") == "nchw"
    return np.ascontiguousarray(values.transpose(2, 0, 1) if is_first else values)[None]


def pooled(output: np.ndarray, keys: Keys) -> np.ndarray:
    """(N, D) embeddings of an output of the network."""
    kind, pooling = keys["output_kind"], keys.get("pooling", "avg")
    if kind == "vector":
        return output
    if kind == "map":
        axes = (2, 3) if keys.get("layout", "nchw") == "nchw" else (1, 2)
        return np.asarray(output.mean(axes) if pooling == "avg" else output.max(axes))
    patches = output[:, keys.get("prefix_tokens", 0) :]
    if pooling == "max":
        return np.asarray(patches.max(1))
    parts = {"cls": output[:, 0], "mean": patches.mean(1), "avg": patches.mean(1)}
    return np.concatenate([parts[name] for name in pooling.split("+")], axis=1)
