"""Decoding: from the bytes of an image file to 8-bit grey or RGB pixels.

The rules below decide the value of every embedding, so their version is part of
the contract: raise ``DECODER_VERSION`` with any change that moves a pixel.
"""

import hashlib
import io
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from featcache.dataset.images import dicom, kinds, pillow
from featcache.dataset.images.base import hush, quiet_libtiff, reasons, unreadable
from featcache.dataset.images.memory import DECODING
from featcache.dataset.images.pillow import to_pixels
from featcache.errors import UnreadableImageError

__all__ = [
    "COLOUR",
    "DECODER_VERSION",
    "FORMATS",
    "THUMB_SIDE",
    "Inspection",
    "Picture",
    "content_id",
    "decode",
    "dimensions",
    "inspect",
    "read",
    "read_mask",
    "to_pixels",
]
T = TypeVar("T")
DECODER_VERSION = 2
COLOUR = "RGB, grey repeated, alpha on black"
THUMB_SIDE = 32
_ASPECT = 0.02  # that a mask's proportions may differ from its picture's
# Whatever a file's name says, only these are tried: Pillow knows others that start
# programs (EPS) or take almost any bytes (TGA).
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")


@dataclass(frozen=True)
class Picture:
    """A decoded file.

    Attributes:
        kind: Type of the file: one of ``FORMATS``, or "DICOM".
        mode: Pillow's mode of the file ("L", "RGB", "I;16", ...), or the photometric
            interpretation of a DICOM file ("MONOCHROME2", ...).
        image: Its upright pixels, of mode "L" or "RGB".
    """

    kind: str
    mode: str
    image: Image.Image

    @cached_property
    def grey(self) -> tuple[float, float]:
        """Mean and standard deviation of its greys, 0 to 255."""
        counts = np.array(self.image.convert("L").histogram(), dtype=np.float64)
        shares, levels = counts / counts.sum(), np.arange(256)
        mean = float(shares @ levels)
        return mean, float(np.sqrt(shares @ (levels - mean) ** 2))


@dataclass(frozen=True)
class Inspection:
    """What a manifest records of a readable image.

    Attributes:
        width: Pixels, after EXIF orientation.
        height: Pixels, after EXIF orientation.
        mode: As of ``Picture``.
        phash: Perceptual hash (64 bits as 16 hex digits; imagehash.phash).
        thumb: (1024,) uint8, the grey 32x32 picture.
        flat: All its pixels are of one grey.
    """

    width: int
    height: int
    mode: str
    phash: str
    thumb: np.ndarray
    flat: bool = False


def content_id(data: bytes) -> str:
    """The image's id: SHA-256 (64 hex digits) of its file's bytes."""
    return hashlib.sha256(data).hexdigest()


def dimensions(data: bytes) -> tuple[int, int] | None:
    """Width and height by a file's header alone, as stored; None if it is no image."""
    hush("PIL")
    quiet_libtiff()
    try:
        with reasons():
            if dicom.is_dicom(data):
                dataset = dicom.read_header(data)
                return int(dataset.get("Columns") or 0), int(dataset.get("Rows") or 0)
            pillow.check_webp(data[:30])
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return image.size
    except UnreadableImageError:
        return None


def decode(data: bytes) -> Image.Image:
    """Decodes a file's bytes to a Pillow image of mode "L" or "RGB".

    EXIF orientation is applied; alpha is dropped onto black; CMYK and palettes
    become RGB; deeper greys are scaled by their range, not clipped; of several
    frames the first is taken. An image whose decoding would take more than 1 GiB is
    refused by its header. Grey stays one channel: repeating it to three is
    the same pixels at a third of the work, and is left to the view.

    Raises:
        UnreadableImageError: The bytes are no image, or a truncated one.
    """
    return read(data).image


def read_mask(
    data: bytes, picture: Image.Image, size: tuple[int, int] | None = None
) -> np.ndarray:
    """Reads a mask onto the pixels of its picture.

    Args:
        data: The bytes of the mask's file; what is brighter than 127 belongs to it.
        picture: The picture that it is of. A mask of another size is resized to the
            nearest pixel.
        size: Width and height of the result; by default those of the picture.

    Returns:
        (height, width) bool.

    Raises:
        UnreadableImageError: The bytes are no image, or its proportions are not those
            of the picture.
    """
    mask = decode(data)
    apart = mask.width * picture.height / (mask.height * picture.width)
    if abs(apart - 1) > _ASPECT:
        raise unreadable(
            f"{mask.width}x{mask.height} does not have the proportions of the "
            f"image, {picture.width}x{picture.height}"
        )
    fitted = mask.convert("L").resize(size or picture.size, Image.Resampling.NEAREST)
    return np.asarray(fitted) > 127


def inspect(data: bytes) -> Inspection:
    """Decodes an image once and measures what the manifest records of it.

    Raises:
        UnreadableImageError: The bytes are no image, or a truncated one.
    """
    return _decode(data, _measure)


def _measure(picture: Picture) -> Inspection:
    import imagehash

    image = picture.image
    grey = image if image.mode == "L" else image.convert("L")
    low, high = grey.getextrema()
    small = grey.resize((THUMB_SIDE, THUMB_SIDE), Image.Resampling.BILINEAR)
    return Inspection(
        *image.size,
        picture.mode,
        str(imagehash.phash(grey)),
        np.asarray(small).ravel(),
        flat=low == high,
    )


def read(data: bytes) -> Picture:
    """Decodes a file's bytes by the rules of ``decode``; says what file it was.

    Raises:
        UnreadableImageError: The bytes are no image, or a truncated one.
    """
    return _decode(data, lambda picture: picture)


def _decode(data: bytes, use: Callable[[Picture], T]) -> T:
    """Decodes and uses a picture within the memory that all threads share.

    What it takes is known from its header, before it is reserved and decoded.
    """
    hush("PIL")
    quiet_libtiff()
    with reasons():
        if not data:
            raise unreadable("an empty file")
        pillow.check_webp(data[:30])
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        except UnidentifiedImageError as error:
            if dicom.is_dicom(data):
                dataset = dicom.read_header(data)
                with DECODING.reserve(dicom.check(dataset)):
                    return use(Picture("DICOM", *dicom.decode(dataset)))
            text = f"none of {', '.join(FORMATS)}, DICOM"
            raise unreadable(kinds.describe(data) or text) from error
        with DECODING.reserve(pillow.check(image, data)), closing(image):
            # A JPEG with a preview behind it is Pillow's MPO.
            kind = "JPEG" if image.format == "MPO" else str(image.format)
            return use(Picture(kind, image.mode, pillow.load(image, data)))
