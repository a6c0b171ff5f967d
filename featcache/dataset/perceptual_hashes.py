"""Perceptual hashes: what a picture is recognised by where it is not at hand."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featcache.core.progress import SILENT, Reporter
from featcache.dataset import images, sources
from featcache.dataset.urls import Location
from featcache.errors import UnreadableImageError

_SIDE = 24
BITS = _SIDE**2
BYTES = BITS // 8
# Bits in which two files of one radiograph may differ: saved again and resized, it
# differs in at most 26; the most alike of 1,123 radiographs of two patients in 168.
FARTHEST = 64
_BLOCK = 1024
_NONE = np.zeros(BYTES, np.uint8)  # half the bits of any picture are set


def perceptual_hash(image: Image.Image) -> NDArray[np.uint8]:
    """The signs of a picture's 576 slowest waves (imagehash.phash), (72,) uint8.

    All 0 for a picture of one grey, which is like none.
    """
    import imagehash

    grey = image if image.mode == "L" else image.convert("L")
    low, high = grey.getextrema()
    if low == high:
        return _NONE
    return np.packbits(imagehash.phash(grey, hash_size=_SIDE).hash)


def read_hashes(
    root: Location, paths: Sequence[str], *, reporter: Reporter = SILENT
) -> NDArray[np.uint8]:
    """Hashes image files.

    Args:
        root: The folder or zip that the paths are relative to.
        paths: Of the N images.
        reporter: Hears of the images read, as "read images".

    Returns:
        (N, 72) uint8; zeros for an image that cannot be read.
    """

    def one(path: str) -> NDArray[np.uint8]:
        try:
            return perceptual_hash(images.read(sources.read_bytes(root, path)).image)
        except (OSError, UnreadableImageError):
            return _NONE

    hashes = np.zeros((len(paths), BYTES), np.uint8)
    with ThreadPoolExecutor() as pool:
        for i, value in enumerate(pool.map(one, paths)):
            hashes[i] = value
            reporter.progress("read images", i + 1, len(paths))
    return hashes


def nearest(
    hashes: NDArray[np.uint8], reference: NDArray[np.uint8]
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """The most similar reference picture of each picture.

    Args:
        hashes: (N, 72) uint8.
        reference: (M, 72) uint8, at least one.

    Returns:
        Its row (N,) and in how many bits they differ (N,): 288 for zeros. Up to
        `FARTHEST` they are of one picture.
    """
    others, own = _signs(reference), _signs(hashes)
    rows = np.zeros(len(own), np.intp)
    bits = np.full(len(own), BITS + 1, np.int64)
    for start in range(0, len(others), _BLOCK):
        block = others[start : start + _BLOCK].T
        for first in range(0, len(own), _BLOCK):
            part = slice(first, first + _BLOCK)
            different = ((BITS - own[part] @ block) / 2).astype(np.int64)
            column = different.argmin(axis=1)
            least = different[np.arange(len(column)), column]
            nearer = least < bits[part]
            rows[part] = np.where(nearer, column + start, rows[part])
            bits[part] = np.where(nearer, least, bits[part])
    return rows, bits


def _signs(hashes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Bits as 1 and -1, (N, 576), whose products count; zeros stay zeros."""
    signs = np.unpackbits(hashes, axis=1).astype(np.float32) * 2 - 1
    signs[~hashes.any(axis=1)] = 0
    return signs
