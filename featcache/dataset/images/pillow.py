"""Images that Pillow reads: what they cost, and from its modes to 8 bits."""

import io
import sys
from collections.abc import Callable, Iterator

import numpy as np
from PIL import ExifTags, Image
from PIL.ImageFile import ImageFile

from featcache.dataset.images.base import unreadable
from featcache.dataset.images.depth import Reading, to_8_bits
from featcache.dataset.images.memory import check_size

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
_GREY = ("1", "L", "LA", "La")
_STORED = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
# Bytes of a pixel that the decoders take beside Pillow's pixels, as measured.
_DECODER = {"AVIF": 24, "JPEG2000": 32, "WEBP": 16}
_TILE = 2**20  # pixels converted at a time
# Of colours of 16 bits Pillow keeps one byte: the way to the other one.
_LOW_BYTE = {
    "RGB;16B": "RGB;16L",
    "RGB;16L": "RGB;16B",
    "RGB;16N": "RGB;16B" if sys.byteorder == "little" else "RGB;16L",
}
_DEEP_COLOUR = 30  # bytes of a pixel where both are read
_MOST_SCANS = 2 * 10**9  # scans of a progressive JPEG times its pixels: half a minute
_MOST_STRIPS = 2**17  # strips or tiles of a TIFF; each is a call in Python


def check(image: Image.Image, data: bytes) -> int:
    """Bytes that loading and converting an image takes, by its header alone.

    Args:
        image: Opened, and not loaded.
        data: The file.

    Raises:
        UnreadableImageError: They are too many, or decoding would take for ever.
    """
    stored = _STORED.get(image.mode, 4)
    decoder: float = _DECODER.get(str(image.format), 0)
    if image.format == "TIFF":
        decoder = _tiff_decoder(image)
    if image.format in ("JPEG", "MPO") and "progressive" in image.info:
        decoder = 2 * len(image.getbands())
        scans = data.count(b"\xff\xda")
        if scans * image.width * image.height > _MOST_SCANS:
            raise unreadable(f"a JPEG of {scans} scans would take too long to decode")
    # Converted and turned, or of deep greys the copies on the way to an array.
    converted = 2 * (1 if image.mode in _GREY else 4)
    if _is_deep(image):
        converted = 2 * stored + 2
    elif _raw_mode(image) in _LOW_BYTE:
        converted = _DEEP_COLOUR
    return check_size(*image.size, stored + max(decoder, converted))


def check_webp(head: bytes) -> None:
    """Refuses a large WebP by its first 30 bytes: opening allocates its canvas.

    Raises:
        UnreadableImageError: It would take more memory than one image may.
    """
    if not (head.startswith(b"RIFF") and head[8:16] == b"WEBPVP8X"):
        return  # the other two kinds cannot be larger than Pillow's limit
    width, height = (1 + int.from_bytes(head[i : i + 3], "little") for i in (24, 27))
    check_size(width, height, 4 + _DECODER["WEBP"])


def _tiff_decoder(image: Image.Image) -> float:
    tags = getattr(image, "tag_v2", {})
    if len(getattr(image, "tile", ())) > _MOST_STRIPS:
        raise unreadable(f"a TIFF of {len(image.tile)} strips")  # type: ignore[attr-defined]
    bits = tags.get(ExifTags.Base.BitsPerSample, (1,))
    # A strip may be the whole picture, once as stored and once unpacked.
    return 2 * sum(int(b) for b in np.ravel(bits)) / 8


def load(image: ImageFile, data: bytes) -> Image.Image:
    """The upright pixels of an opened file, of mode "L" or "RGB"; see ``decode``.

    Args:
        image: Not loaded yet.
        data: The file.
    """
    low_byte = _LOW_BYTE.get(_raw_mode(image), "")
    image.load()
    opaque = low_byte and not image.has_transparency_data
    if opaque and np.asarray(image).max() < 64:  # the upper two of 16 bits are empty
        return _upright(image, _deep_colours(image, data, low_byte))
    return to_pixels(image)


def _raw_mode(image: Image.Image) -> str:
    """How a file stores its pixels, in Pillow's words; empty after loading."""
    tiles = getattr(image, "tile", None) or [(None,) * 4]
    arguments = tiles[0][3]
    return str(arguments[0] if isinstance(arguments, tuple) else arguments)


def _deep_colours(image: ImageFile, data: bytes, low_byte: str) -> Image.Image:
    """Colours of 16 bits that use fewer, scaled by their depth as greys are."""
    with Image.open(io.BytesIO(data), formats=(str(image.format),)) as again:
        again.tile = [
            tile._replace(
                args=(low_byte, *tile.args[1:])
                if isinstance(tile.args, tuple)
                else low_byte
            )
            for tile in again.tile
        ]
        colours = np.asarray(image).astype(np.uint16)
        colours <<= 8
        colours |= np.asarray(again)
    return Image.fromarray(to_8_bits(colours, Reading(counts=True)))


def to_pixels(image: Image.Image) -> Image.Image:
    """The upright pixels of an open image, of mode "L" or "RGB"; see ``decode``.

    Raises:
        UnreadableImageError: Its pixels are not finite.
    """
    return _upright(image, _to_8_bit(image))


def _upright(image: Image.Image, pixels: Image.Image) -> Image.Image:
    # Not ImageOps.exif_transpose: it also writes the EXIF anew, and fails on odd tags
    # that have nothing to do with the picture.
    turn = _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    return pixels if turn is None else pixels.transpose(turn)


def _is_deep(image: Image.Image) -> bool:
    return image.mode.startswith(("I", "F"))


def _to_8_bit(image: Image.Image) -> Image.Image:
    if _is_deep(image):
        # Pillow inverts a TIFF whose zero is white at 8 bits, but not deeper ones.
        zero_is_white = getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0
        reading = Reading(counts=image.mode != "F", inverted=zero_is_white)
        return Image.fromarray(to_8_bits(np.asarray(image), reading))
    mode = "L" if image.mode in _GREY else "RGB"
    if image.has_transparency_data:
        return _by_tiles(image, mode, lambda tile: _onto_black(tile).convert(mode))
    return _by_tiles(image, mode, lambda tile: tile.convert(mode))


def _onto_black(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "black"), rgba)


def _by_tiles(
    image: Image.Image, mode: str, convert: Callable[[Image.Image], Image.Image]
) -> Image.Image:
    """Converts pixel by pixel, without a second picture of the size of the first."""
    if image.width * image.height <= _TILE:
        return convert(image)
    converted = Image.new(mode, image.size)
    for box in _boxes(*image.size):
        converted.paste(convert(image.crop(box)), box)
    return converted


def _boxes(width: int, height: int) -> Iterator[tuple[int, int, int, int]]:
    columns = min(width, _TILE)
    rows = _TILE // columns
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            yield left, top, min(left + columns, width), min(top + rows, height)
