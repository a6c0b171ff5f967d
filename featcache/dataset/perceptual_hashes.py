"""Perceptual hashes: what a picture is recognised by where it is not at hand."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featcache.core.progress import SILENT, Reporter
from featcache.dataset import images, sources
from featcache.dataset.similar_pairs import pairs_above, sort_into_boxes
from featcache.dataset.urls import Location
from featcache.errors import UnreadableImageError

VERSION = 1  # of `perceptual_hash`: raise it where a picture gets another hash
_SIDE = 24
BITS = _SIDE**2
BYTES = BITS // 8
# Bits in which two files of one radiograph may differ: saved again and resized, it
# differs in at most 26; the most alike of 1,123 radiographs of two patients in 168.
FARTHEST = 64
_DIRECTIONS = 128  # bits hardly depend on one another, so a few tell little
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
        reference: (M, 72) uint8.

    Returns:
        Its row (N,), the first of those that are level, and in how many bits they
        differ (N,): at most `FARTHEST`. Row -1 and all 576 bits where none is so near,
        as of zeros.
    """
    rows = np.full(len(hashes), -1, np.intp)
    bits = np.full(len(hashes), BITS, np.int64)
    if not len(reference):
        return rows, bits
    limit = 1 - (2 * FARTHEST + 1) / BITS
    boxes = sort_into_boxes(reference, _signs, basis=_DIRECTIONS)
    for pairs in pairs_above(hashes, limit, scale=_signs, others=boxes):
        different = np.rint((1 - pairs.product) * BITS / 2).astype(np.int64)
        order = np.lexsort((pairs.j, different, pairs.i))
        _, least = np.unique(pairs.i[order], return_index=True)
        i, j, different = (
            pairs.i[order][least],
            pairs.j[order][least],
            different[order][least],
        )
        nearer = (different < bits[i]) | ((different == bits[i]) & (j < rows[i]))
        rows[i[nearer]], bits[i[nearer]] = j[nearer], different[nearer]
    return rows, bits


def _signs(hashes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Bits as 1/24 and -1/24, (N, 576), whose products count; zeros stay zeros."""
    signs: NDArray[np.float32] = (
        np.unpackbits(hashes, axis=1).astype(np.float32) * 2 - 1
    ) / np.float32(_SIDE)
    signs[~hashes.any(axis=1)] = 0
    return signs
