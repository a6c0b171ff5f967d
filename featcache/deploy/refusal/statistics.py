"""Plain statistics of a picture and its file: numbers that need no network.

Raise ``VERSION`` with any change that moves a number: thresholds are of a version.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from featcache.dataset.images import Picture

VERSION = 1
THUMB = 16  # side of the thumbnail
_SHARP_SIDE = 256  # pixels of the longer side at which sharpness is measured
_COLOUR_SIDE = 64
_LEVELS = 32  # of 256 greys, for the share of the most common
NUMBERS = (
    "short_side",
    "aspect",
    "bytes_per_pixel",
    "saturation",
    "grey_mean",
    "grey_spread",
    "flat_share",
    "sharpness",
)
COLUMNS = (*NUMBERS, *(f"thumb_{i}" for i in range(THUMB**2)))


def picture_statistics(picture: Picture, n_bytes: int) -> NDArray[np.float32]:
    """Measures a picture.

    Args:
        picture: As `images.read` decodes it.
        n_bytes: Size of its file.

    Returns:
        (264,) float32, the values of ``COLUMNS``: log2 of the shorter side in pixels;
        log2 of width over height; log2 of the file's bytes a pixel; mean saturation
        (0 to 1: largest less smallest channel, at 64x64 pixels); mean and standard
        deviation of the greys (0 to 255); share of the pixels in the most common 32nd
        of the greys; log2 of the mean step between neighbouring pixels over the
        standard deviation, the longer side reduced to 256 pixels; then the grey
        thumbnail of 16x16 pixels, row after row, less its mean and of unit norm (all 0
        where it is flat).
    """
    image = picture.image
    width, height = image.size
    grey = image if image.mode == "L" else image.convert("L")
    mean, spread = picture.grey
    numbers = [
        np.log2(min(width, height)),
        np.log2(width / height),
        np.log2(max(n_bytes, 1) / (width * height)),
        _saturation(image),
        mean,
        spread,
        _flat_share(grey),
        _sharpness(grey),
    ]
    return np.concatenate([numbers, _thumbnail(grey)]).astype(np.float32)


def _saturation(image: Image.Image) -> float:
    if image.mode == "L":
        return 0.0
    pixels = np.asarray(_resized(image, (_COLOUR_SIDE, _COLOUR_SIDE)), np.float32)
    return float(np.ptp(pixels, axis=2).mean() / 255)


def _flat_share(grey: Image.Image) -> float:
    counts = np.array(grey.histogram()).reshape(_LEVELS, -1).sum(axis=1)
    return float(counts.max() / counts.sum())


def _sharpness(grey: Image.Image) -> float:
    scale = min(1.0, _SHARP_SIDE / max(grey.size))
    width, height = (max(2, round(scale * side)) for side in grey.size)
    pixels = np.asarray(_resized(grey, (width, height)), np.float32)
    steps = [np.abs(np.diff(pixels, axis=axis)).mean() for axis in (0, 1)]
    # Half a grey each: a flat picture has a sharpness too.
    return float(np.log2((np.mean(steps) + 0.5) / (pixels.std() + 0.5)))


def _thumbnail(grey: Image.Image) -> NDArray[np.float64]:
    thumb = np.asarray(_resized(grey, (THUMB, THUMB)), np.float64).ravel()
    thumb -= thumb.mean()
    norm = float(np.linalg.norm(thumb))
    # Less than one grey from the mean: nothing to compare.
    return thumb / norm if norm > THUMB else np.zeros_like(thumb)


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image.resize(size, Image.Resampling.BOX)
