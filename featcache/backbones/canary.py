"""The canary: a picture on which a network proves its preprocessing."""

import numpy as np
from PIL import Image

PICTURE = "featcache-1"  # the name of the picture; another picture has another name
_WIDTH, _HEIGHT = 331, 265


def picture() -> Image.Image:
    """The picture: RGB, 331 x 265, the same bytes on every machine.

    It has colours that no exchange of channels leaves as they are, no symmetry, smooth
    slopes and texture of single pixels, and black and white, so that another
    interpolation, crop, scaling or order of channels gives another embedding. Its size
    leaves odd numbers of pixels beside the usual crops, which shows how they are
    rounded.
    """
    y, x = np.mgrid[:_HEIGHT, :_WIDTH].astype(np.int64)
    slope = (x * 255 // (_WIDTH - 1), y * 255 // (_HEIGHT - 1))
    red = slope[0] * 3 // 4 + (x * x + 3 * y * y) // 701 % 64
    green = slope[1] * 2 // 3 + (x * y) // 97 % 48 + 20
    blue = (510 - slope[0] - slope[1]) * 5 // 12 + (y * y + x * 5) // 211 % 32
    pixels = np.stack([red, green, blue], axis=-1)
    pixels += (_noise(x, y)[..., None] * [3, 2, 4]) // 8
    disc = (x - 231) ** 2 + 2 * (y - 84) ** 2 < 61**2
    pixels[disc] = pixels[disc] * [1, 3, 2] // 4 + [150, 12, 60]
    stripes = (y > 165) & (x < 120) & ((x + 2 * y) // 3 % 4 == 0)
    pixels[stripes] = [250, 235, 40]
    pixels[(x > 250) & (y > 200) & ((x // 2 + y // 2) % 2 == 0)] = 0
    pixels[(x > 140) & (x < 170) & (y > 190)] = 255
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _noise(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """0-63 for each pixel, without any order that the eye would see."""
    mixed = (x * 73_856_093) ^ (y * 19_349_663)
    mixed = (mixed ^ (mixed >> 13)) % 2**31 * 1_274_126_177 % 2**31
    return np.asarray((mixed ^ (mixed >> 16)) % 64)
