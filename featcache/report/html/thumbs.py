"""Thumbnails: JPEG sheets of equal tiles, as data URIs."""

import base64
import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from featcache.dataset import images, sources
from featcache.dataset.similar_pairs import pairs_above
from featcache.dataset.urls import Location
from featcache.errors import DatasetError

if TYPE_CHECKING:
    from PIL.Image import Image

TILE = 96  # pixels; a multiple of 16, so that JPEG's blocks end where tiles do
COLUMNS = 16  # tiles in a row of a sheet, and rows of a sheet
TILES = COLUMNS**2  # of a sheet; one of all images is more than browsers show
_MOST_BYTES = 5 * 2**20
_QUALITIES = (78, 65, 50, 35, 20)


@dataclass(frozen=True)
class Sheets:
    """Tiles in sheets of ``TILES``, in rows of ``COLUMNS``.

    Attributes:
        uris: The JPEGs as data URIs; none without a single tile.
        tiles: Number of the tile of each image_id that could be read; tile i is on
            sheet ``i // TILES``.
        small: Grey 32x32 forms, zero mean and unit norm, by image_id.
        reason: Why images have no tile; empty where all have one.
    """

    uris: list[str] = field(default_factory=list)
    tiles: dict[str, int] = field(default_factory=dict)
    small: dict[str, np.ndarray] = field(default_factory=dict)
    reason: str = ""

    def position(self, tile: int) -> tuple[int, int, int]:
        """Sheet, column and row of a tile."""
        number, rest = divmod(tile, TILES)
        return number, rest % COLUMNS, rest // COLUMNS


def sheets(root: Location, paths: pd.Series) -> Sheets:
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
        return Sheets(reason=(reason or "there are no images to show") + first)
    pictures = [picture for picture, _ in tiles.values()]
    return Sheets(
        _uris(pictures),
        {image_id: i for i, image_id in enumerate(tiles)},
        {image_id: small for image_id, (_, small) in tiles.items()},
        reason,
    )


def _tile(root: Location, path: str) -> "tuple[Image, np.ndarray] | str":
    """The thumbnail and the grey 32x32 form of an image, or why there is none."""
    try:
        picture = images.decode(sources.read_bytes(root, path))
    except DatasetError as error:  # no image, or a server that does not answer
        return f"{path}: {error.got}"
    except OSError as error:
        return f"{path}: {error.strerror or error}"
    side = (images.THUMB_SIDE, images.THUMB_SIDE)
    small = np.asarray(picture.convert("L").resize(side, 2), np.float32).ravel()
    small -= small.mean()
    picture.thumbnail((TILE, TILE))
    return picture, small / (np.linalg.norm(small) or 1.0)


def _uris(pictures: "Sequence[Image]") -> list[str]:
    """JPEGs of the best quality that keep to the limit together, as data URIs."""
    whole = list(_pasted(pictures))
    for quality in _QUALITIES:
        files = [_jpeg(picture, quality) for picture in whole]
        if sum(map(len, files)) * 4 / 3 <= _MOST_BYTES:
            break
    return [f"data:image/jpeg;base64,{base64.b64encode(one).decode()}" for one in files]


def _pasted(pictures: "Sequence[Image]") -> "Iterator[Image]":
    """The sheets."""
    from PIL import Image

    mode = "RGB" if any(picture.mode == "RGB" for picture in pictures) else "L"
    for start in range(0, len(pictures), TILES):
        of_sheet = pictures[start : start + TILES]
        rows = -(-len(of_sheet) // COLUMNS)
        whole = Image.new(mode, (COLUMNS * TILE, rows * TILE))
        for i, picture in enumerate(of_sheet):
            left = i % COLUMNS * TILE + (TILE - picture.width) // 2
            top = i // COLUMNS * TILE + (TILE - picture.height) // 2
            whole.paste(picture, (left, top))
        yield whole


def _jpeg(picture: "Image", quality: int) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality, optimize=True)
    return file.getvalue()


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
    pairs = sorted(
        pair
        for some in pairs_above(pictures, above, scale=np.asarray, joined=codes)
        for pair in zip(some.i.tolist(), some.j.tolist(), strict=True)
    )
    return [(str(ids[i]), str(ids[j])) for i, j in pairs]
