"""Greys of DICOM: from stored values by the file's own tables and windows.

DICOM PS3.3, C.11.1 (modality) and C.11.2 (VOI): what pydicom's apply_modality_lut and
apply_voi_lut compute, where the file says something that can be used.
"""

from typing import TYPE_CHECKING

import numpy as np

from featcache.dataset.images.base import unreadable
from featcache.dataset.images.depth import Curve, Reading, Span

if TYPE_CHECKING:
    from pydicom import Dataset


def reading(dataset: "Dataset", *, floats: bool) -> Reading:
    """How the stored values of a MONOCHROME picture are shown.

    By the first VOI LUT, or else by the first window that can be used. Without one,
    what the bits stored can hold becomes 0 to 255 where they are fewer than those
    allocated, or at most 8; else the pixels decide.

    Args:
        dataset: Its element BitsStored, and so on.
        floats: The stored values are floating-point numbers.
    """
    inverted = dataset.PhotometricInterpretation == "MONOCHROME1"
    modality, slope, intercept = _modality(dataset)
    if lut := dataset.get("VOILUTSequence"):
        voi, top = _table(lut[0], dataset)
        return Reading((0.0, top), _after(modality, voi), inverted=inverted)
    if window := _window(dataset):
        return Reading((0.0, 1.0), _after(modality, window), inverted=inverted)
    rescaled = (slope, intercept) != (1.0, 0.0)
    if (stored := _stored_span(dataset)) and not floats and slope:
        ends = [end * slope + intercept for end in stored]
        return Reading((min(ends), max(ends)), modality, inverted=inverted)
    counts = not floats and not rescaled
    return Reading(None, modality, counts=counts or not slope, inverted=inverted)


def padding(dataset: "Dataset", pixels: np.ndarray) -> np.ndarray | None:
    """Which stored values are no picture, or None if the file names none.

    The value may be written as signed or unsigned, whatever the pixels are.
    """
    prefix = {4: "Float", 8: "DoubleFloat"}.get(pixels.itemsize, "Float")
    prefix = prefix if pixels.dtype.kind == "f" else ""
    ends = [
        value
        for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")
        for value in numbers(dataset, prefix + name)[:1]
    ]
    if not ends or numbers(dataset, prefix + "PixelPaddingValue") == []:
        return None
    if pixels.dtype.kind in "iu":
        size = 8 * pixels.itemsize
        unsigned = np.array([int(end) % 2**size for end in ends], f"u{pixels.itemsize}")
        ends = unsigned.view(pixels.dtype.newbyteorder("=")).tolist()
    is_padding: np.ndarray = (pixels >= min(ends)) & (pixels <= max(ends))
    return is_padding


def numbers(dataset: "Dataset", keyword: str) -> list[float]:
    """The finite numbers of an element; what is none becomes NaN."""
    value = dataset.get(keyword)
    if value is None or value == "":
        return []
    values = np.ravel(np.asarray(value, dtype=object))
    return [float(v) if v not in (None, "") else np.nan for v in values]


def _modality(dataset: "Dataset") -> tuple[Curve | None, float, float]:
    """The curve, its slope (0 for a table, which has none) and its intercept."""
    if lut := dataset.get("ModalityLUTSequence"):
        return _table(lut[0], dataset)[0], 0.0, 0.0
    slope = next(iter(numbers(dataset, "RescaleSlope")), 1.0)
    intercept = next(iter(numbers(dataset, "RescaleIntercept")), 0.0)
    # A slope that would make all pixels alike is none.
    slope = slope if np.isfinite(slope) and slope != 0 else 1.0
    intercept = intercept if np.isfinite(intercept) else 0.0
    if (slope, intercept) == (1.0, 0.0):
        return None, slope, intercept
    return lambda values: values * slope + intercept, slope, intercept


def _window(dataset: "Dataset") -> Curve | None:
    """The first window of a width that can be used, from 0 for black to 1 for white."""
    function = str(dataset.get("VOILUTFunction") or "LINEAR").upper()
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise unreadable(f"VOI LUT function {function}")
    least = 1.0 if function == "LINEAR" else np.finfo(np.float32).tiny
    centers, widths = numbers(dataset, "WindowCenter"), numbers(dataset, "WindowWidth")
    for center, width in zip(centers, widths, strict=False):
        if np.isfinite(center) and np.isfinite(width) and width >= least:
            return _window_curve(function, center, width)
    return None


def _window_curve(function: str, center: float, width: float) -> Curve:
    if function == "SIGMOID":
        # 1 / (1 + exp(-4 (x - center) / width)), which would overflow.
        return lambda values: 0.5 + 0.5 * np.tanh(2 * (values - center) / width)
    if function == "LINEAR":
        center, width = center - 0.5, width - 1
    if width == 0:
        return lambda values: (values > center).astype(np.float64)
    return lambda values: ((values - center) / width + 0.5).clip(0.0, 1.0)


def _after(first: Curve | None, second: Curve) -> Curve:
    return second if first is None else lambda values: second(first(values))


def _table(item: "Dataset", dataset: "Dataset") -> tuple[Curve, float]:
    """A lookup table (PS3.3, C.11.1.1), and the top of its range.

    Not pydicom's apply_voi: it overflows where a table of more than 256 entries
    has 8 bits.
    """
    entries, first, depth = (int(number) for number in item.LUTDescriptor)
    data = item.LUTData
    if isinstance(data, bytes):
        order = "<>"[dataset.original_encoding[1] is False]
        packed = len(data) < 2 * (entries or 2**16)
        table = np.frombuffer(data, "u1" if packed else f"{order}u2")
    else:
        table = np.atleast_1d(np.asarray(data, dtype=np.int64))
    table = table[: entries or 2**16].astype(np.float64)
    if not len(table):
        raise unreadable("an empty lookup table")
    last = len(table) - 1

    def look_up(values: np.ndarray) -> np.ndarray:
        index = np.rint(values - first).clip(0, last).astype(np.intp)
        looked_up: np.ndarray = table[index]
        return looked_up

    return look_up, max(2.0**depth - 1, float(table.max()))


def _stored_span(dataset: "Dataset") -> Span | None:
    """What the bits stored can hold, where the file says more than its container."""
    bits, allocated = int(dataset.BitsStored), int(dataset.BitsAllocated)
    if bits == allocated and bits > 8:
        return None
    if int(dataset.get("PixelRepresentation") or 0):
        return -(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1
    return 0.0, 2.0**bits - 1
