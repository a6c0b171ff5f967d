"""DICOM: from a radiograph as the hospital keeps it to 8-bit pixels.

Of a file only what describes its pixels is read (group 0028 and the pixels), and,
where asked for, one element to group by, of which a pseudonym is kept.
"""

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from featcache.dataset.images.base import hush, scale_deep, stretch, unreadable
from featcache.errors import UnreadableImageError, UsageError

if TYPE_CHECKING:
    from pydicom import Dataset

PATIENT = "PatientID"
_NEEDS = "needs pydicom: pip install 'featcache[dicom]'"
_PIXELS = (0x7FE00001, 0x7FE00002, 0x7FE00008, 0x7FE00009, 0x7FE00010)


def is_dicom(head: bytes) -> bool:
    """Whether a file that begins with these (at least 132) bytes is DICOM."""
    return head[128:132] == b"DICM"


def decode(data: bytes) -> tuple[str, Image.Image]:
    """Decodes one picture as its viewer would show it.

    The modality LUT or rescale is applied, then the first VOI LUT or window, whose
    range becomes 0 to 255; without one, greys are scaled like those of other files.
    MONOCHROME1 is inverted. Colours become RGB. (DICOM PS3.3, C.11.1 and C.11.2.)

    Returns:
        The photometric interpretation, and the picture of mode "L" or "RGB".

    Raises:
        UnreadableImageError: Several frames, no pixels, broken, or compressed in a
            way that needs a plug-in.
    """
    dataset = _read(data)
    with _reasons():
        from pydicom.pixels import pixel_array

        kind = str(dataset.get("PhotometricInterpretation", ""))
        _check_size(dataset)
        pixels = pixel_array(dataset, index=0)
        if kind == "PALETTE COLOR":
            return kind, Image.fromarray(_palette(pixels, dataset))
        if kind.startswith(("RGB", "YBR")):
            return kind, Image.fromarray(_eight_bits(pixels, dataset.BitsStored))
        if kind not in ("MONOCHROME1", "MONOCHROME2"):
            raise unreadable(f"photometric interpretation {kind or 'missing'}")
        grey = _grey(pixels, dataset)
        return kind, Image.fromarray(255 - grey if kind == "MONOCHROME1" else grey)


def pseudonym(data: bytes, keyword: str = PATIENT) -> str:
    """A name for the value of an element, from which the value cannot be read off.

    A pseudonym and no anonymisation: who has a list of ids can tell whose it is.

    Returns:
        ``patient-`` (for other elements their keyword) and the first 12 hex digits
        of the SHA-256 of the value; nothing where there is no value or no pydicom.
    """
    try:
        dataset = _read(data, keyword)
        with _reasons():
            value = str(dataset.get(keyword) or "").strip()
    except UnreadableImageError:
        return ""
    digits = hashlib.sha256(value.encode()).hexdigest()[:12]
    name = "patient" if keyword == PATIENT else keyword
    return f"{name}-{digits}" if value else ""


def check_keyword(keyword: str) -> None:
    """Checks that a DICOM element of this name can be read.

    Raises:
        UsageError: No such element, or no pydicom.
    """
    if find_spec("pydicom") is None:
        raise UsageError(
            f"pydicom for `group_by='dicom:{keyword}'`",
            "none",
            "Run: pip install 'featcache[dicom]'",
        )
    from pydicom.datadict import tag_for_keyword

    if not keyword or tag_for_keyword(keyword) is None:
        raise UsageError(
            "`group_by` dicom:KEYWORD with the keyword of a DICOM element",
            keyword or "none",
            f"Write dicom:{PATIENT}, dicom:StudyInstanceUID, ...",
        )


def _read(data: bytes, keyword: str = "") -> "Dataset":
    """Reads one element, or without a keyword all that describes the pixels."""
    try:
        from pydicom import dcmread
        from pydicom.datadict import DicomDictionary
    except ImportError:
        raise unreadable(_NEEDS) from None
    hush(r"pydicom\.")
    pixels = [tag for tag in DicomDictionary if tag >> 16 == 0x0028] + [*_PIXELS]
    tags = [keyword] if keyword else pixels
    try:
        return dcmread(
            io.BytesIO(data), specific_tags=tags, stop_before_pixels=bool(keyword)
        )
    except Exception as error:
        # Not the error's text: it may quote bytes that are the patient's name.
        raise unreadable(f"a broken DICOM file ({type(error).__name__})") from error


@contextmanager
def _reasons() -> Iterator[None]:
    """Turns what pydicom raises over odd pixels (almost anything) into a reason."""
    try:
        yield
    except UnreadableImageError:
        raise
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise unreadable(text[:300]) from error


def _check_size(dataset: "Dataset") -> None:
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1:
        raise unreadable(f"{frames} frames: only files with one image can be used")
    if "Rows" not in dataset or not any(tag in dataset for tag in _PIXELS[2:]):
        raise unreadable("a DICOM file without pixels")
    limit = Image.MAX_IMAGE_PIXELS
    if limit and dataset.Rows * dataset.Columns > 2 * limit:
        raise unreadable(f"{dataset.Rows} x {dataset.Columns} pixels are too many")


def _grey(pixels: np.ndarray, dataset: "Dataset") -> np.ndarray:
    from pydicom.pixels import apply_windowing

    counts = pixels.dtype.kind in "iu"
    slope = float(dataset.get("RescaleSlope") or 1)
    intercept = float(dataset.get("RescaleIntercept") or 0)
    if lut := dataset.get("ModalityLUTSequence"):
        pixels = _look_up(pixels, lut[0])[0]
    elif (slope, intercept) != (1, 0):
        pixels, counts = pixels * slope + intercept, False
    if lut := dataset.get("VOILUTSequence"):
        pixels, top = _look_up(pixels, lut[0])
        return stretch(pixels, 0, top)
    if dataset.BitsStored < 8 and counts:
        return stretch(pixels, 0, 2.0**dataset.BitsStored - 1)
    if _has_window(dataset):
        # What the darkest and the brightest of all values become is the range.
        low, high = apply_windowing(np.array([-np.inf, np.inf]), dataset)
        return stretch(apply_windowing(pixels, dataset), low, high)
    return scale_deep(pixels, counts=counts)


def _look_up(pixels: np.ndarray, item: "Dataset") -> tuple[np.ndarray, int]:
    """Applies a lookup table (PS3.3, C.11.1.1); returns also the top of its range.

    Not pydicom's apply_voi: it overflows where a table of more than 256 entries
    has 8 bits.
    """
    _, first, depth = (int(number) for number in item.LUTDescriptor)
    table = item.LUTData
    if isinstance(table, bytes):
        table = np.frombuffer(table, "<u2")
    table = np.asarray(table, dtype=np.int64)
    index = np.rint(pixels).astype(np.int64) - first
    return table[index.clip(0, len(table) - 1)], max(2**depth - 1, int(table.max()))


def _has_window(dataset: "Dataset") -> bool:
    """Whether there is a window of a width that can be used."""
    values = [dataset.get(name) for name in ("WindowCenter", "WindowWidth")]
    if any(value is None or value == "" for value in values):
        return False
    width = np.ravel(values[1]).astype(float)[0]
    linear = dataset.get("VOILUTFunction", "LINEAR").upper() == "LINEAR"
    return bool(width >= 1 if linear else width > 0)


def _palette(pixels: np.ndarray, dataset: "Dataset") -> np.ndarray:
    from pydicom.pixels import apply_color_lut

    colours = apply_color_lut(pixels, dataset)
    return _eight_bits(colours, 8 * colours.dtype.itemsize)


def _eight_bits(colours: np.ndarray, bits: int) -> np.ndarray:
    return colours if bits == 8 else stretch(colours, 0, 2.0**bits - 1)
