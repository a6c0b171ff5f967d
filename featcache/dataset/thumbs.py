"""Small grey pictures of images, by which near-duplicates are recognised."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from featcache.core.progress import SILENT, Reporter
from featcache.dataset import images, sources
from featcache.dataset.urls import Location
from featcache.errors import UnreadableImageError

_BILINEAR = Image.Resampling.BILINEAR


def read_thumbs(
    root: Location, paths: Sequence[str], *, reporter: Reporter = SILENT
) -> np.ndarray:
    """Reads grey 32x32 pictures from image files.

    Args:
        root: The folder or zip that the paths are relative to.
        paths: Of the images.
        reporter: Hears of the images read, as "read images".

    Returns:
        (N, 1024) uint8; zeros for an image that cannot be read.
    """

    def one(path: str) -> np.ndarray:
        try:
            return images.inspect(sources.read_bytes(root, path)).thumb
        except (OSError, UnreadableImageError):
            return np.zeros(images.THUMB_SIDE**2, np.uint8)

    thumbs = np.zeros((len(paths), images.THUMB_SIDE**2), np.uint8)
    with ThreadPoolExecutor() as pool:
        for i, thumb in enumerate(pool.map(one, paths)):
            thumbs[i] = thumb
            reporter.progress("read images", i + 1, len(paths))
    return thumbs


def resize_all(
    pictures: np.ndarray, side: int, *, cut: tuple[int, int, int, int] = (0, 0, 0, 0)
) -> np.ndarray:
    """Resizes many small square pictures as Pillow does each of them (bilinear).

    Pillow resizes along one axis after the other, so that all pictures can be rows of
    one.

    Args:
        pictures: (N, D) uint8 greys.
        side: Of the results, in pixels.
        cut: Pixels to leave out on the left, top, right and bottom.

    Returns:
        (N, side * side) uint8.
    """
    if not len(pictures):
        return np.empty((0, side * side), np.uint8)
    own = int(pictures.shape[1] ** 0.5)
    left, top, right, bottom = cut
    wide = _resize_rows(pictures.reshape(-1, own), side, left, own - right)
    tall = wide.reshape(-1, own, side).swapaxes(1, 2).reshape(-1, own)
    both = _resize_rows(tall, side, top, own - bottom)
    return both.reshape(-1, side, side).swapaxes(1, 2).reshape(-1, side * side)


def _resize_rows(rows: np.ndarray, width: int, start: int, end: int) -> np.ndarray:
    """Resizes rows of pixels (N, W) from ``start`` to ``end``, (N, width) uint8."""
    image = Image.fromarray(np.ascontiguousarray(rows))
    box = (start, 0, end, len(rows))
    return np.asarray(image.resize((width, len(rows)), _BILINEAR, box=box))
