"""Small grey pictures of images, by which near-duplicates are recognised."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from featcache.core.progress import SILENT, Reporter
from featcache.dataset import images, sources
from featcache.dataset.urls import Location
from featcache.errors import UnreadableImageError


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
