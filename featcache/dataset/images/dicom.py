"""DICOM: from a radiograph as the hospital keeps it to 8-bit pixels.

Of a file only what describes its pixels is read (group 0028 and the pixels), and,
where asked for, one element to group by, of which a pseudonym is kept, and the facts
that say what kind of image it is.
"""

import hashlib
import io
import zlib
from importlib.util import find_spec
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from featcache.core.text import printable
from featcache.dataset.images import dicom_greys as greys
from featcache.dataset.images import pillow
from featcache.dataset.images.base import hush, reasons, unreadable
from featcache.dataset.images.depth import Reading, to_8_bits
from featcache.dataset.images.memory import LIMIT, check_size
from featcache.errors import UnreadableImageError, UsageError

if TYPE_CHECKING:
    from pydicom import Dataset

PATIENT = "PatientID"
_NEEDS = "needs pydicom: pip install 'featcache[dicom]'"
_PIXELS = (0x7FE00001, 0x7FE00002, 0x7FE00008, 0x7FE00009, 0x7FE00010)
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_STEP = 2**20  # bytes inflated at a time
_LONGEST_ELEMENT = 2**20  # bytes; a table has at most 65536 entries of 16 bits
_SEGMENTED = (0x00281221, 0x00281222, 0x00281223, 0x00281224)  # palettes
_IN_FLOATS = 60  # bytes of a pixel for YBR and palettes
_COLOURS = (
    *("RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420"),
    *("YBR_PARTIAL_422", "YBR_ICT", "YBR_RCT"),
)
# What kind of image it is: nothing of it says who the patient is.
_FACTS = {
    "modality": "Modality",
    "body part": "BodyPartExamined",
    "view": "ViewPosition",
}
FACTS = tuple(_FACTS)
_LONGEST_FACT = 64  # letters, as of the elements themselves
# Several names of one thing.
_SAME = {
    "modality": dict.fromkeys(("CR", "DX", "DR", "RG"), "CR/DX"),
    "body part": {"THORAX": "CHEST"},
    "view": dict.fromkeys(("LL", "RL", "LAT"), "LATERAL"),
}


def is_dicom(head: bytes) -> bool:
    """Whether a file that begins with these (at least 132) bytes is DICOM."""
    return head[128:132] == b"DICM"


def read_header(data: bytes) -> "Dataset":
    """Reads all that describes the pixels of a file, and the pixels as stored.

    Raises:
        UnreadableImageError: It is broken, or would unpack to too much.
    """
    return _read(data)


def check(dataset: "Dataset") -> int:
    """Bytes that decoding the picture takes, by its header alone.

    Raises:
        UnreadableImageError: Several frames, no pixels, or too many.
    """
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise unreadable(f"{frames} frames: only files with one image can be used")
    if "Rows" not in dataset or not any(tag in dataset for tag in _PIXELS[2:]):
        raise unreadable("a DICOM file without pixels")
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    kind = str(dataset.get("PhotometricInterpretation", ""))
    samples = int(dataset.get("SamplesPerPixel") or 1)
    stored = samples * max(1.0, int(dataset.BitsAllocated) / 8)
    # The element, its frame, the array and one more on the way to it; then the padding
    # and the picture. pydicom converts other colours in floats.
    needed = 4 * stored + 1 + 2 * samples
    if kind in _COLOURS[1:]:
        needed += _IN_FLOATS
    return check_size(columns, rows, needed) + _check_stream(dataset, rows, columns)


def decode(dataset: "Dataset") -> tuple[str, Image.Image]:
    """Decodes one picture as its viewer would show it.

    The modality LUT or rescale is applied, then the first VOI LUT or window, whose
    range becomes 0 to 255; without one, greys are scaled by the bits stored, or like
    those of other files. MONOCHROME1 is inverted, padding is black. Colours become
    RGB. (DICOM PS3.3, C.7.5.1, C.11.1 and C.11.2.)

    Args:
        dataset: As read by ``read_header``, and checked.

    Returns:
        The photometric interpretation, and the picture of mode "L" or "RGB".

    Raises:
        UnreadableImageError: It is broken, or compressed in a way that needs a plug-in.
    """
    with reasons():
        kind = str(dataset.get("PhotometricInterpretation", ""))
        if kind in ("MONOCHROME1", "MONOCHROME2"):
            return kind, Image.fromarray(_grey(dataset))
        if kind in _COLOURS:
            return kind, Image.fromarray(_colour(dataset, kind))
        raise unreadable(f"photometric interpretation {kind or 'missing'}")


def pseudonym(data: bytes, keyword: str = PATIENT) -> str:
    """A name for the value of an element, from which the value cannot be read off.

    A pseudonym and no anonymisation: who has a list of ids can tell whose it is.

    Returns:
        ``patient-`` (for other elements their keyword) and the first 12 hex digits
        of the SHA-256 of the value; nothing where there is no value or no pydicom.
    """
    try:
        dataset = _read(data, keyword)
        with reasons():
            value = str(dataset.get(keyword) or "").strip()
    except UnreadableImageError:
        return ""
    digits = hashlib.sha256(value.encode()).hexdigest()[:12]
    name = "patient" if keyword == PATIENT else keyword
    return f"{name}-{digits}" if value else ""


def header_facts(data: bytes) -> dict[str, str]:
    """Reads modality, body part and view from a file's header.

    Computed and digital radiography (CR, DX; RG for film) count as one modality,
    THORAX as CHEST, both sides of a lateral view as one.

    Args:
        data: The bytes of the file.

    Returns:
        Those of ``FACTS`` that the header states, in capitals. Nothing for a file that
        is not DICOM, or is broken, and nothing without pydicom.
    """
    if not is_dicom(data[:132]):
        return {}
    try:
        dataset = _read(data, *_FACTS.values())
        with reasons():
            stated = {fact: _fact(dataset, word) for fact, word in _FACTS.items()}
    except UnreadableImageError:
        return {}
    return {fact: _SAME[fact].get(text, text) for fact, text in stated.items() if text}


def _fact(dataset: "Dataset", keyword: str) -> str:
    words = str(dataset.get(keyword) or "").upper().split()
    return printable(" ".join(words)[:_LONGEST_FACT])


def check_keyword(keyword: str, option: str = "group_by") -> None:
    """Checks that a DICOM element of this name can be read.

    Args:
        keyword: Its name.
        option: That names it.

    Raises:
        UsageError: No such element, or no pydicom.
    """
    if find_spec("pydicom") is None:
        raise UsageError(
            f"pydicom for `{option}='dicom:{keyword}'`",
            "none",
            "Run: pip install 'featcache[dicom]'",
        )
    from pydicom.datadict import tag_for_keyword

    if not keyword or tag_for_keyword(keyword) is None:
        raise UsageError(
            f"`{option}` dicom:KEYWORD with the keyword of a DICOM element",
            keyword or "none",
            f"Write dicom:{PATIENT}, dicom:StudyInstanceUID, ...",
        )


def _read(data: bytes, *keywords: str) -> "Dataset":
    """Reads some elements, or without keywords all that describes the pixels."""
    try:
        from pydicom import dcmread
        from pydicom.datadict import DicomDictionary
    except ImportError:
        raise unreadable(_NEEDS) from None
    hush("pydicom")
    _check_deflated(data)
    pixels = [tag for tag in DicomDictionary if tag >> 16 == 0x0028] + [*_PIXELS]
    tags = [*keywords] or pixels
    try:
        dataset = dcmread(
            io.BytesIO(data), specific_tags=tags, stop_before_pixels=bool(keywords)
        )
        _check_elements(dataset)
        return dataset
    except UnreadableImageError:
        raise
    except Exception as error:
        # Not the error's text: it may quote bytes that are the patient's name.
        raise unreadable(f"a broken DICOM file ({type(error).__name__})") from error


def _check_deflated(data: bytes) -> None:
    """Refuses a deflated file that unpacks to more than one image may take."""
    if _DEFLATED not in data[132:1024]:
        return
    if data[132:136] != b"\2\0\0\0":
        raise unreadable("a deflated DICOM file without the length of its header")
    start = 144 + int.from_bytes(data[140:144], "little")
    inflate, size, rest = zlib.decompressobj(-zlib.MAX_WBITS), 0, data[start:]
    while rest and not inflate.eof:
        size += len(inflate.decompress(rest, _STEP))
        rest = inflate.unconsumed_tail
        if size > LIMIT // 4:
            raise unreadable("a deflated DICOM file that unpacks to over 256 MiB")


def _check_elements(dataset: "Dataset") -> None:
    """Refuses elements that would be unpacked to much more than they are.

    pydicom makes a list of each table, and a table in segments may repeat itself.
    """
    for tag in dataset.keys():  # noqa: SIM118  (no mapping: it iterates elements)
        if tag in _PIXELS[2:]:
            continue
        if tag in _SEGMENTED:
            raise unreadable("a palette in segments, which cannot be used")
        element = dataset.get_item(tag)  # not yet unpacked
        value = element.value
        if isinstance(value, bytes) and len(value) > _LONGEST_ELEMENT:
            raise unreadable(
                f"element {tag} of {len(value)} bytes: {_LONGEST_ELEMENT} are the most"
            )
        if element.VR == "SQ" and not isinstance(value, bytes | None):
            for item in value:
                _check_elements(item)


def _check_stream(dataset: "Dataset", rows: int, columns: int) -> int:
    """Bytes that unpacking a compressed picture takes beside the picture."""
    from pydicom.encaps import get_frame
    from pydicom.uid import RLELossless

    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        return 0
    if int.from_bytes(dataset.PixelData[4:8], "little") > _LONGEST_ELEMENT:
        raise unreadable("a table of offsets that is longer than of one frame")
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    if syntax == RLELossless:
        return _check_rle(frame, rows, columns)
    try:
        with Image.open(io.BytesIO(frame), formats=("JPEG", "JPEG2000")) as inside:
            if inside.size != (columns, rows):
                width, height = inside.size
                raise unreadable(
                    f"a picture of {width}x{height} pixels inside a file that says "
                    f"{columns}x{rows}"
                )
            return pillow.check(inside, frame)
    except UnidentifiedImageError:
        return 0  # of a compression for which pydicom needs a plug-in


def _check_rle(frame: bytes, rows: int, columns: int) -> int:
    """Bytes that the longest segment of a frame in RLE unpacks to.

    Each unpacks to a byte a pixel, or a few more: (DICOM PS3.5, annex G).
    """
    starts = [int.from_bytes(frame[at : at + 4], "little") for at in range(4, 64, 4)]
    starts = [*starts[: int.from_bytes(frame[:4], "little")], len(frame)]
    most, longest = 2 * rows * columns + _STEP, 0
    for start, end in pairwise(starts):
        at, size = start, 0
        while at < end:
            code = frame[at]
            at += code + 2 if code < 128 else 2 if code > 128 else 1
            size += code + 1 if code < 128 else 257 - code if code > 128 else 0
            if size > most:
                raise unreadable(
                    f"RLE that unpacks to over {most} bytes, of {columns}x{rows} pixels"
                )
        longest = max(longest, size)
    return longest


def _grey(dataset: "Dataset") -> np.ndarray:
    pixels, is_padding = _stored_greys(dataset)
    if pixels.ndim != 2:
        raise unreadable(f"greys of {pixels.shape[-1]} samples")
    reading = greys.reading(dataset, floats=pixels.dtype.kind == "f")
    return to_8_bits(pixels, reading, is_padding)


def _stored_greys(dataset: "Dataset") -> tuple[np.ndarray, np.ndarray | None]:
    """The values that are stored in the bits from the high one on; and the padding.

    pydicom takes the lowest bits, whichever the file names. Padding may be a value
    of all bits that are allocated.
    """
    from pydicom.pixels import pixel_array
    from pydicom.uid import RLELossless

    bits, allocated = int(dataset.BitsStored), int(dataset.BitsAllocated)
    if not 1 <= bits <= allocated:
        raise unreadable(f"{bits} bits stored in {allocated} bits")
    syntax = dataset.file_meta.TransferSyntaxUID
    plain = not syntax.is_encapsulated or syntax == RLELossless
    if bits == allocated or not plain or "PixelData" not in dataset:
        pixels = pixel_array(dataset, index=0)
        return pixels, greys.padding(dataset, pixels)
    dataset.BitsStored = allocated
    pixels = pixel_array(dataset, index=0)
    dataset.BitsStored = bits
    is_padding = greys.padding(dataset, pixels)
    high = int(dataset.get("HighBit", bits - 1))
    high = high if bits <= high + 1 <= allocated else bits - 1
    pixels = np.left_shift(pixels, allocated - 1 - high)
    return np.right_shift(pixels, allocated - bits, out=pixels), is_padding


def _colour(dataset: "Dataset", kind: str) -> np.ndarray:
    from pydicom.pixels import apply_color_lut, pixel_array

    colours, bits = pixel_array(dataset, index=0), int(dataset.BitsStored)
    reading = Reading((0.0, 2.0**bits - 1))
    if kind == "PALETTE COLOR":
        colours = apply_color_lut(colours, dataset)
        # Some tables of 16 bits hold colours of 8.
        reading = Reading((0.0, 255.0 if colours.max() <= 255 else 65535.0))
    elif bits == int(dataset.BitsAllocated) and bits > 8:
        reading = Reading(counts=True)
    if colours.ndim != 3 or colours.shape[2] != 3:
        raise unreadable("colours that are not of three samples")
    return to_8_bits(colours, reading)
