"""Training sets of grey pictures and of random embeddings."""

import io
from typing import Any

import numpy as np
from PIL import Image

from featcache.dataset import images
from featcache.deploy.refusal import COLUMNS, Refusal, picture_statistics

SIDE = 64


def chest(seed: int) -> Image.Image:
    """Two dark ellipses on a bright ground, a little different each time."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:1:64j, 0:1:64j] + rng.normal(0, 0.01, 2)[:, None, None]
    depth = 180 - 60 * y + 0 * x
    for centre in (0.3, 0.7):
        depth[((x - centre) / 0.15) ** 2 + ((y - 0.4) / 0.3) ** 2 < 1] = 50
    grey = depth * rng.uniform(0.9, 1.1) + rng.normal(0, 4, depth.shape)
    return Image.fromarray(grey.clip(0, 255).astype(np.uint8))


def measured(image: Image.Image, kind: str = "PNG") -> np.ndarray:
    """The statistics of a picture that was a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind)
    data = buffer.getvalue()
    return picture_statistics(images.read(data), len(data))


CHESTS = np.stack([measured(chest(seed)) for seed in range(80)])


def training_set(
    count: int = 400, width: int = 40, seed: int = 0, rows_of: int = 1
) -> dict[str, Any]:
    """Random embeddings with statistics of chests; groups of ``rows_of`` rows."""
    rng = np.random.default_rng(seed)
    numbers = np.arange(count)
    groups = numbers // rows_of
    return {
        "X": rng.normal(size=(count, width)).astype(np.float32),
        "statistics": statistics(count, seed),
        "headers": [{}] * count,
        "groups": groups,
        "labels": np.where(groups % 2, "ill", "well"),
        "image_ids": [f"{number:04x}" for number in numbers],
        "folds": groups % 5,
    }


def statistics(count: int, seed: int = 0) -> np.ndarray:
    """Statistics drawn around those of the chests."""
    rng = np.random.default_rng([seed, 1])
    rows = CHESTS[rng.integers(0, len(CHESTS), count)]
    return rows + rng.normal(0, 0.2, rows.shape) * CHESTS.std(axis=0)


def fit(data: dict[str, Any], **options: Any) -> Refusal:
    return Refusal.fit(**data, **options)


def column(name: str) -> int:
    return COLUMNS.index(name)
