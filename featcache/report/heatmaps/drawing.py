"""Painting heat maps with Pillow: colours, overlays, scales, captions."""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from featcache.core.io import atomic_path

if TYPE_CHECKING:
    from PIL.Image import Image

INK, SOFT, PAPER = (28, 32, 38), (104, 112, 122), (255, 255, 255)
GAP = 12
# ColorBrewer's RdBu, which the colour-blind can tell apart: blue speaks against a
# class, red for it.
_DIVERGING = (
    (5, 48, 97), (33, 102, 172), (67, 147, 195), (146, 197, 222), (209, 229, 240),
    (247, 247, 247),
    (253, 219, 199), (244, 165, 130), (214, 96, 77), (178, 24, 43), (103, 0, 31),
)  # fmt: skip
# Cividis (Nunez et al. 2018): even in lightness, the same to the colour-blind.
_RISING = (
    (0, 34, 78), (35, 62, 108), (87, 93, 109), (124, 123, 120), (165, 156, 116),
    (210, 193, 93), (254, 232, 56),
)  # fmt: skip
_VEIL = 0.75  # of the overlay where the map is strongest
_PALE = 0.55  # of the way from no colour to the fullest: where overlays begin


@lru_cache
def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def diverging(values: np.ndarray, limit: float) -> np.ndarray:
    """Colours (..., 3) uint8 of values from -limit to limit; what is beyond is cut."""
    at = np.clip(values / (limit or 1), -1, 1) * 0.5 + 0.5
    return _colours(at, _DIVERGING)


def rising(values: np.ndarray) -> np.ndarray:
    """Colours (..., 3) uint8 of values from their least to their largest."""
    low, high = float(values.min()), float(values.max())
    return _colours((values - low) / ((high - low) or 1), _RISING)


def ramp() -> str:
    """The colours from the least to the largest value, as CSS takes them."""
    return ", ".join(f"rgb({r} {g} {b})" for r, g, b in _DIVERGING)


def _colours(at: np.ndarray, anchors: tuple[tuple[int, int, int], ...]) -> np.ndarray:
    positions = np.linspace(0, 1, len(anchors))
    bands = [np.interp(at, positions, band) for band in np.array(anchors).T]
    colours: np.ndarray = np.rint(np.stack(bands, axis=-1)).astype(np.uint8)
    return colours


def fitted(picture: "Image", side: int) -> "Image":
    """A picture that just fits a square of this side."""
    from PIL import Image

    scale = side / max(picture.size)
    width, height = (max(1, round(n * scale)) for n in picture.size)
    return picture.resize((width, height), Image.Resampling.BICUBIC)


def stretched(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map on as many pixels as a picture of ``size`` (width, height) has."""
    from PIL import Image

    layer = Image.fromarray(values.astype(np.float32))
    return np.asarray(layer.resize(size, Image.Resampling.BICUBIC))


def overlay(picture: "Image", values: np.ndarray, limit: float) -> "Image":
    """A map's colours over a picture, the stronger the less of it shines through.

    Only the saturated colours are used: the pale ones would veil dark places.
    """
    from PIL import Image

    seen = stretched(values, picture.size)
    grey = np.asarray(picture.convert("L").convert("RGB"), np.float64)
    share = np.clip(np.abs(seen) / (limit or 1), 0, 1)
    colours = diverging(np.sign(seen) * (_PALE + (1 - _PALE) * share), 1.0)
    strength = share[..., None] * _VEIL
    mixed = grey * (1 - strength) + colours * strength
    return Image.fromarray(np.rint(mixed).astype(np.uint8))


def plain(picture: "Image", values: np.ndarray, limit: float) -> "Image":
    """A map alone, of a picture's size."""
    from PIL import Image

    return Image.fromarray(diverging(stretched(values, picture.size), limit))


def gridded(picture: "Image", grid: tuple[int, int]) -> "Image":
    """A picture with the borders of (rows, columns) cells."""
    from PIL import ImageDraw

    pen = ImageDraw.Draw(picture, "RGBA")
    rows, columns = grid
    for row in range(1, rows):
        y = round(row * picture.height / rows)
        pen.line((0, y, picture.width, y), (128, 128, 128, 110))
    for column in range(1, columns):
        x = round(column * picture.width / columns)
        pen.line((x, 0, x, picture.height), (128, 128, 128, 110))
    return picture


def scale(limit: float, height: int, *, size: int = 12) -> "Image":
    """The colours from -limit to limit as a bar, with what they stand for."""
    from PIL import Image

    wide = 16
    levels = np.linspace(limit, -limit, height)[:, None].repeat(wide, axis=1)
    bar = Image.new("RGB", (wide + 66, height), PAPER)
    bar.paste(Image.fromarray(diverging(levels, limit)), (0, 0))
    marks = ((limit, 0, "la"), (0.0, height / 2, "lm"), (-limit, height, "ld"))
    for value, y, anchor in marks:
        text(bar, (wide + 6, y), f"{value:+.2g}" if value else "0", size, anchor=anchor)
    return bar


def text(
    image: "Image",
    at: tuple[float, float],
    words: str,
    size: int,
    *,
    ink: tuple[int, int, int] = INK,
    anchor: str = "la",
    width: float = float("inf"),
) -> None:
    """Writes a line; what is wider than ``width`` pixels is cut in the middle."""
    from PIL import ImageDraw

    font = _font(size)
    if font.getlength(words) > width:
        keep = len(words)
        while keep > 4 and font.getlength(_cut(words, keep)) > width:
            keep -= 1
        words = _cut(words, keep)
    ImageDraw.Draw(image).text(at, words, ink, font=font, anchor=anchor)


def _cut(words: str, keep: int) -> str:
    head = keep // 2
    return f"{words[:head]}…{words[len(words) - (keep - head) :]}"


def save(image: "Image", path: Path) -> None:
    """Writes a PNG, whole or not at all."""
    with atomic_path(path) as temp:
        image.save(temp, "PNG")


def paper(width: int, height: int) -> "Image":
    """An empty sheet."""
    from PIL import Image

    return Image.new("RGB", (width, height), PAPER)
