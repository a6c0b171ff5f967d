"""Pictures of answers: contours over an image, and a sheet to keep."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps
from scipy import ndimage

from featcache.serve.explaining import AdditiveMap

LEVELS = (0.25, 0.5, 0.75)  # of the largest evidence of a map
FOR, AGAINST, HALO = (255, 140, 0, 255), (80, 170, 255, 255), (0, 0, 0, 170)
RESEARCH = "Research use only. Not for diagnosis."
_SIDE = 1000  # pixels of a sheet's picture at most
_LEAST = 500
_LINE = 26


def overlay(of: AdditiveMap, size: tuple[int, int], side: int = _SIDE) -> Image.Image:
    """Contours of a map on nothing, in the proportions of its image.

    Args:
        of: The map.
        size: Width and height of the image.
        side: Of the longer side of the result.

    Returns:
        RGBA: orange for the class, blue against it, at the levels.
    """
    scale = side / max(size)
    width, height = (max(1, round(length * scale)) for length in size)
    values = _on_image(of, (width, height), scale)
    largest = float(np.abs(values).max()) or 1.0
    lines = np.zeros((height, width, 4), np.uint8)
    for sign, colour in ((-1, AGAINST), (1, FOR)):
        for level in LEVELS:
            edge = _edge(sign * values > level * largest)
            halo = ndimage.binary_dilation(edge)
            lines[halo & (lines[..., 3] == 0)] = HALO
            lines[edge] = colour
    return Image.fromarray(lines, "RGBA")


def _on_image(of: AdditiveMap, size: tuple[int, int], scale: float) -> np.ndarray:
    """The map on the pixels of its image; 0 where no network looks."""
    left, top, right, bottom = (round(end * scale) for end in of.frame.box)
    frame = Image.fromarray(of.values.astype(np.float32))
    wide = max(right - left, 1), max(bottom - top, 1)
    canvas = Image.new("F", size)
    canvas.paste(frame.resize(wide, Image.Resampling.BILINEAR), (left, top))
    return np.asarray(canvas)


def _edge(mask: np.ndarray) -> np.ndarray:
    inside = ndimage.binary_erosion(mask, iterations=2, border_value=1)
    return np.asarray(mask & ~inside)


def sheet(
    picture: Image.Image, lines: Sequence[str], contours: Image.Image | None = None
) -> Image.Image:
    """A picture with its contours, above lines of text; RGB.

    Args:
        picture: Mode "L" or "RGB".
        lines: Of text.
        contours: As `overlay` draws them; None for none.
    """
    side = min(max(*picture.size, _LEAST), _SIDE)
    fitted = ImageOps.contain(picture, (side, side)).convert("RGB")
    if contours is not None:
        above = contours.resize(fitted.size, Image.Resampling.LANCZOS)
        fitted.paste(above, (0, 0), above)
    font = ImageFont.load_default(18)
    rows = [row for line in lines for row in _wrapped(line, font, side - 24)]
    page = Image.new("RGB", (side, fitted.height + _LINE * len(rows) + 24))
    page.paste(fitted, ((side - fitted.width) // 2, 0))
    draw = ImageDraw.Draw(page)
    for number, row in enumerate(rows):
        at = (12, fitted.height + 12 + _LINE * number)
        draw.text(at, row, fill=(255, 255, 255), font=font)
    return page


def _wrapped(
    text: str, font: "ImageFont.FreeTypeFont | ImageFont.ImageFont", width: int
) -> list[str]:
    rows = [""]
    for word in text.split():
        longer = f"{rows[-1]} {word}".strip()
        if font.getlength(longer) <= width or not rows[-1]:
            rows[-1] = longer
        else:
            rows.append(word)
    return rows


def png_of(image: Image.Image) -> bytes:
    """The bytes of a PNG without metadata."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
