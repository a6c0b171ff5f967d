"""Thumbnails: one JPEG sheet of equal tiles, as a data URI."""

import base64
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from featcache.dataset import images, sources
from featcache.errors import UnreadableImageError

if TYPE_CHECKING:
    from PIL.Image import Image

TILE = 96  # pixels; a multiple of 16, so that JPEG's blocks end where tiles do
_MOST_BYTES = 5 * 2**20
_QUALITIES = (78, 65, 50, 35, 20)


@dataclass(frozen=True)
class Sheet:
    """Tiles in rows of ``columns``.

    Attributes:
        uri: The JPEG as a data URI; empty without a single tile.
        columns: Tiles in a row.
        rows: Rows of tiles.
        tiles: Number of the tile of each image_id that could be read.
        small: Grey 32x32 forms, zero mean and unit norm, by image_id.
        reason: Why images have no tile; empty where all have one.
    """

    uri: str = ""
    columns: int = 1
    rows: int = 1
    tiles: dict[str, int] = field(default_factory=dict)
    small: dict[str, np.ndarray] = field(default_factory=dict)
    reason: str = ""


def sheet(root: Path, paths: pd.Series) -> Sheet:
    """Reads images and lays out their thumbnails.

    Args:
        root: The folder or zip of the images.
        paths: Path below the root by image_id.
    """
    with ThreadPoolExecutor() as pool:
        read = list(pool.map(partial(_tile, root), paths))
    tiles = {
        image_id: tile
        for image_id, tile in zip(paths.index, read, strict=True)
        if not isinstance(tile, str)
    }
    failures = [tile for tile in read if isinstance(tile, str)]
    reason = (
        f"{len(failures)} of {len(read)} images could not be read" if failures else ""
    )
    if not tiles:
        first = f" (the first: {failures[0]})" if failures else ""
        return Sheet(reason=(reason or "there are no images to show") + first)
    columns = int(np.ceil(np.sqrt(len(tiles))))
    pictures = [picture for picture, _ in tiles.values()]
    return Sheet(
        _uri(_paste(pictures, columns)),
        columns,
        -(-len(tiles) // columns),
        {image_id: i for i, image_id in enumerate(tiles)},
        {image_id: small for image_id, (_, small) in tiles.items()},
        reason,
    )


def _tile(root: Path, path: str) -> "tuple[Image, np.ndarray] | str":
    """The thumbnail and the grey 32x32 form of an image, or why there is none."""
    try:
        picture = images.decode(sources.read_bytes(root, path))
    except UnreadableImageError as error:
        return f"{path}: {error.got}"
    except OSError as error:
        return f"{path}: {error.strerror or error}"
    side = (images.THUMB_SIDE, images.THUMB_SIDE)
    small = np.asarray(picture.convert("L").resize(side, 2), np.float32).ravel()
    small -= small.mean()
    picture.thumbnail((TILE, TILE))
    return picture, small / (np.linalg.norm(small) or 1.0)


def _paste(pictures: "Sequence[Image]", columns: int) -> "Image":
    from PIL import Image

    mode = "RGB" if any(picture.mode == "RGB" for picture in pictures) else "L"
    rows = -(-len(pictures) // columns)
    whole = Image.new(mode, (columns * TILE, rows * TILE))
    for i, picture in enumerate(pictures):
        left = i % columns * TILE + (TILE - picture.width) // 2
        top = i // columns * TILE + (TILE - picture.height) // 2
        whole.paste(picture, (left, top))
    return whole


def _uri(picture: "Image") -> str:
    """A JPEG of the best quality that keeps to the limit, as a data URI."""
    for quality in _QUALITIES:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality, optimize=True)
        if file.tell() * 4 / 3 <= _MOST_BYTES:
            break
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def look_alikes(
    small: dict[str, np.ndarray], groups: pd.Series, *, above: float
) -> list[tuple[str, str]]:
    """Pairs of images of different groups that look the same.

    Args:
        small: Grey 32x32 forms by image_id, unit norm.
        groups: Group by image_id.
        above: The correlation from which two pictures count as one.
    """
    ids = np.array([i for i in small if i in groups.index])
    if not len(ids):
        return []
    pictures = np.stack([small[i] for i in ids])
    codes = pd.factorize(groups.loc[ids])[0]
    pairs = []
    for start in range(0, len(ids), 1024):
        near = pictures[start : start + 1024] @ pictures.T > above
        for row, column in zip(*np.nonzero(near), strict=True):
            if start + row < column and codes[start + row] != codes[column]:
                pairs.append((str(ids[start + row]), str(ids[column])))
    return pairs
