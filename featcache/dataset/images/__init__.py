"""Decoding: from the bytes of an image file to 8-bit grey or RGB pixels.

The rules below decide the value of every embedding, so their version is part of
the contract: raise ``DECODER_VERSION`` with any change that moves a pixel.
"""

import hashlib
import io
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from featcache.dataset.images import dicom
from featcache.dataset.images.base import hush, scale_deep, unreadable

DECODER_VERSION = 1
COLOUR = "RGB, grey repeated, alpha on black"
THUMB_SIDE = 32
_ASPECT = 0.02  # that a mask's proportions may differ from its picture's
# Whatever a file's name says, only these are tried: Pillow knows others that start
# programs (EPS) or take almost any bytes (TGA).
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by EXIF orientation
_PHOTOMETRIC = ExifTags.Base.PhotometricInterpretation
_PILLOW_ERRORS = (
    *(OSError, RuntimeError, SyntaxError, ValueError),
    Image.DecompressionBombError,
)


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
    import imagehash

    picture = read(data)
    width, height = picture.image.size
    grey = picture.image.convert("L")
    small = grey.resize((THUMB_SIDE, THUMB_SIDE), Image.Resampling.BILINEAR)
    phash = str(imagehash.phash(grey))
    return Inspection(width, height, picture.mode, phash, np.asarray(small).ravel())


def read(data: bytes) -> Picture:
    """Decodes a file's bytes by the rules of ``decode``; says what file it was.

    Raises:
        UnreadableImageError: The bytes are no image, or a truncated one.
    """
    if not data:
        raise unreadable("an empty file")
    hush(r"PIL\.")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            image.load()
            upright = to_pixels(image)
            # A JPEG with a preview behind it is Pillow's MPO.
            kind = "JPEG" if image.format == "MPO" else str(image.format)
            return Picture(kind, image.mode, upright)
    except UnidentifiedImageError as error:
        if dicom.is_dicom(data):
            return Picture("DICOM", *dicom.decode(data))
        raise unreadable(f"none of {', '.join(FORMATS)}, DICOM") from error
    except _PILLOW_ERRORS as error:
        raise unreadable(str(error) or type(error).__name__) from error


def to_pixels(image: Image.Image) -> Image.Image:
    """The upright pixels of an open image, of mode "L" or "RGB"; see ``decode``.

    Raises:
        UnreadableImageError: Its pixels are not finite.
    """
    # Not ImageOps.exif_transpose: it also writes the EXIF anew, and fails on odd tags
    # that have nothing to do with the picture.
    turn = _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    pixels = _to_8_bit(image)
    return pixels if turn is None else pixels.transpose(turn)


def _to_8_bit(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return _scale_deep_grey(image)
    mode = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "black"), rgba)
    return image.convert(mode)


def _scale_deep_grey(image: Image.Image) -> Image.Image:
    grey = scale_deep(np.asarray(image), counts=image.mode != "F")
    # Pillow inverts a TIFF whose zero is white at 8 bits, but not deeper ones.
    zero_is_white = getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0
    return Image.fromarray(255 - grey if zero_is_white else grey)
