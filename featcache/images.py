"""Decoding: from the bytes of an image file to 8-bit grey or RGB pixels.

The rules below decide the value of every embedding, so their version is part of
the contract: raise ``DECODER_VERSION`` with any change that moves a pixel.
"""

import hashlib
import io
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from featcache.errors import UnreadableImageError

DECODER_VERSION = 1
COLOUR = "RGB, grey repeated, alpha on black"
THUMB_SIDE = 32


@dataclass(frozen=True)
class Inspection:
    """What a manifest records of a readable image.

    Attributes:
        width: Pixels, after EXIF orientation.
        height: Pixels, after EXIF orientation.
        mode: Pillow's mode of the file ("L", "RGB", "I;16", ...).
        phash: Perceptual hash (64 bits as 16 hex digits; imagehash.phash).
        thumb: (1024,) float32, the grey 32x32 picture with its mean removed and
            unit norm; the dot product of two is their correlation.
    """

    width: int
    height: int
    mode: str
    phash: str
    thumb: np.ndarray


def content_id(data: bytes) -> str:
    """The image's id: SHA-256 (64 hex digits) of its file's bytes."""
    return hashlib.sha256(data).hexdigest()


def decode(data: bytes) -> Image.Image:
    """Decodes a file's bytes to a Pillow image of mode "L" or "RGB".

    EXIF orientation is applied; alpha is dropped onto black; CMYK and palettes
    become RGB; deeper greys are scaled by their range, not clipped; of several
    frames the first is taken. Grey stays one channel: repeating it to three is
    the same pixels at a third of the work, and is left to the view.

    Raises:
        UnreadableImageError: The bytes are no image, or a truncated one.
    """
    return _to_8_bit(_open(data))


def inspect(data: bytes) -> Inspection:
    """Decodes an image once and measures what the manifest records of it."""
    import imagehash

    raw = _open(data)
    mode = raw.mode
    image = _to_8_bit(raw)
    grey = image.convert("L")
    return Inspection(
        image.width, image.height, mode, str(imagehash.phash(grey)), _thumb(grey)
    )


def _open(data: bytes) -> Image.Image:
    if not data:
        raise UnreadableImageError("an image", "an empty file", "Replace the file.")
    try:
        with warnings.catch_warnings():
            # Pillow warns of odd but readable files; a reason is kept only for
            # those that cannot be read.
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data))
            image.load()
            return ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = str(error) or type(error).__name__
        if "cannot identify image file" in reason:
            reason = "not an image that Pillow can identify"
        raise UnreadableImageError("an image", reason, "Replace the file.") from error


def _to_8_bit(image: Image.Image) -> Image.Image:
    if image.mode in ("L", "RGB"):
        return image
    if image.mode.startswith(("I", "F")):
        return _scale_deep_grey(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        black = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
        grey = image.mode in ("LA", "La")
        return Image.alpha_composite(black, rgba).convert("L" if grey else "RGB")
    return image.convert("L" if image.mode == "1" else "RGB")


def _scale_deep_grey(image: Image.Image) -> Image.Image:
    """Scales a 16-bit grey by its bit depth, a 32-bit one by its extremes.

    A 16-bit container often holds 10, 12 or 14 bits; its range is the smallest of
    these depths that holds the brightest pixel.
    """
    pixels = np.asarray(image, dtype=np.float64)
    if not np.isfinite(pixels).all():
        raise UnreadableImageError("an image", "pixels not finite", "Replace the file.")
    low, high = float(pixels.min()), float(pixels.max())
    if low >= 0 and high <= 65535 and image.mode != "F":
        low = 0.0
        high = next(top for b in (8, 10, 12, 14, 16) if high <= (top := 2.0**b - 1))
    span = high - low or 1.0
    return Image.fromarray(np.rint((pixels - low) * (255.0 / span)).astype(np.uint8))


def _thumb(grey: Image.Image) -> np.ndarray:
    small = grey.resize((THUMB_SIDE, THUMB_SIDE), Image.Resampling.BILINEAR)
    pixels = np.asarray(small, dtype=np.float32).ravel()
    pixels = pixels - pixels.mean()
    norm = float(np.linalg.norm(pixels))
    return np.asarray(pixels / norm if norm > 0 else pixels)
