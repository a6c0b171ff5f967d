"""Rules of DICOM greys: the shades that pydicom's own functions give."""

import io
import itertools
from typing import Any, NamedTuple

import numpy as np
import pytest
from test_dicom import dataset, file_of, lut, radiograph
from test_images import pixels as pixels_of
from test_images import reason
from toys import slow_but

pydicom = pytest.importorskip("pydicom")

from pydicom.pixels import (  # noqa: E402
    apply_modality_lut,
    apply_voi_lut,
    apply_windowing,
)

WINDOWS: dict[str, dict[str, Any]] = {
    "none": {},
    "linear": {"WindowCenter": 60, "WindowWidth": 90},
    "exact": {"WindowCenter": 60, "WindowWidth": 90, "VOILUTFunction": "LINEAR_EXACT"},
    "sigmoid": {"WindowCenter": 60, "WindowWidth": 90, "VOILUTFunction": "SIGMOID"},
    "of one": {"WindowCenter": 60, "WindowWidth": 1},
    "two": {"WindowCenter": [60, 5], "WindowWidth": [90, 2]},
    "no number": {"WindowCenter": "NaN", "WindowWidth": 90},
    "infinite": {"WindowCenter": 60, "WindowWidth": "1e999"},
    "no width": {"WindowCenter": 60, "WindowWidth": 0},
    "negative": {"WindowCenter": 60, "WindowWidth": -90},
    "table": {"VOILUTSequence": (list(range(1000, 0, -10)), 5, 10)},
}
USABLE = ("linear", "exact", "sigmoid", "of one", "two")
MODALITIES: dict[str, dict[str, Any]] = {
    "none": {},
    "shift": {"RescaleSlope": 1, "RescaleIntercept": -20},
    "slope": {"RescaleSlope": 2, "RescaleIntercept": 3},
    "turned": {"RescaleSlope": -1, "RescaleIntercept": 0},
    "no slope": {"RescaleSlope": 0, "RescaleIntercept": 0},
    "no number": {"RescaleSlope": "NaN", "RescaleIntercept": "NaN"},
    "table": {"ModalityLUTSequence": (list(range(0, 300, 3)), 2, 16)},
}
PADDINGS: dict[str, dict[str, Any]] = {
    "none": {},
    "value": {"PixelPaddingValue": 31},
    "range": {"PixelPaddingValue": 31, "PixelPaddingRangeLimit": 25},
}
KINDS = ("MONOCHROME1", "MONOCHROME2")
STORED = ((6, 8), (8, 8), (10, 16), (12, 16), (16, 16))


class Case(NamedTuple):
    """A combination of what a file may say."""

    kind: str
    signed: bool
    stored: tuple[int, int]
    modality: str
    window: str
    padding: str


ALL = [
    Case(*values)
    for values in itertools.product(
        KINDS, (False, True), STORED, MODALITIES, WINDOWS, PADDINGS
    )
]


def made(case: Case) -> bytes:
    """A file of this combination, of 40 values in the range of its bits."""
    bits, allocated = case.stored
    low, high = (
        (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if case.signed else (0, 2**bits)
    )
    values = np.unique(np.r_[np.arange(low, high, max(1, (high - low) // 23)), 20:36])
    values = values[(values >= low) & (values < high)]
    elements = {**MODALITIES[case.modality], **WINDOWS[case.window]}
    elements |= PADDINGS[case.padding]
    tables = {k: lut(*v) for k, v in elements.items() if k.endswith("Sequence")}
    dtype = f"{'i' if case.signed else 'u'}{allocated // 8}"
    return radiograph(
        values.astype(dtype)[None],
        BitsStored=bits,
        PhotometricInterpretation=case.kind,
        **(elements | tables),
    )


def expected(data: bytes, case: Case) -> np.ndarray:
    """The shades by pydicom's functions, and by the rules where they have none."""
    read = pydicom.dcmread(io.BytesIO(data))
    stored = read.pixel_array
    visible = np.ones(stored.shape, bool)
    if case.padding != "none":
        first = {"value": 31, "range": 25}[case.padding]
        visible = (stored < first) | (stored > 31)
    if case.modality in ("no slope", "no number"):
        del read.RescaleSlope, read.RescaleIntercept
    values = apply_modality_lut(stored, read)
    if case.window == "table":
        values = apply_voi_lut(values.astype(np.int64), read)
        low, high = 0.0, 1023.0
    elif case.window in USABLE:
        with np.errstate(over="ignore"):
            low, high = apply_windowing(np.array([-np.inf, np.inf]), read)
            values = apply_windowing(values, read)
    else:
        low, high = range_of(read, values[visible], case)
    shades = np.rint((values.astype(float) - low) * 255 / (high - low)).clip(0, 255)
    shades = 255 - shades if case.kind == "MONOCHROME1" else shades
    return np.where(visible, shades, 0)


def range_of(read: Any, values: np.ndarray, case: Case) -> tuple[float, float]:
    """Without a window: by the bits, by the smallest depth, or by the extremes."""
    bits, allocated = case.stored
    if case.modality != "table" and (bits < allocated or bits == 8):
        dtype = np.int64
        ends = [0, 2**bits - 1]
        if case.signed:
            ends = [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1]
        shown = apply_modality_lut(np.array(ends, dtype), read)
        return float(shown.min()), float(shown.max())
    rescaled = case.modality in ("shift", "slope", "turned")
    low, high = float(values.min()), float(values.max())
    if not rescaled and low >= 0:
        return 0.0, next(2.0**b - 1 for b in (8, 10, 12, 14, 16) if high < 2**b)
    return low, high


@pytest.mark.filterwarnings("ignore:Invalid value for VR DS")
@pytest.mark.parametrize("start", slow_but(range(37), 0))
def test_the_shades_are_pydicoms(start: int) -> None:
    """Every combination gives what pydicom computes, within one shade."""
    for case in ALL[start::37]:
        data = made(case)
        apart = np.abs(pixels_of(data).astype(int) - expected(data, case))
        assert apart.max() <= 1, case


def test_one_bright_pixel_leaves_the_others_alone() -> None:
    """Fewer bits than are allocated are the detector's range, whatever is in them."""
    scene = np.linspace(0, 800, 64).astype(np.uint16).reshape(8, 8)
    marked = scene.copy()
    marked[0, 0] = 16383
    plain, marker = (pixels_of(radiograph(p, BitsStored=14)) for p in (scene, marked))
    assert np.array_equal(plain.ravel()[1:], marker.ravel()[1:])
    assert marker[0, 0] == 255


@pytest.mark.parametrize(
    ("dtype", "value"), [(np.uint16, 65535), (np.int16, -2000), (np.int16, 63536)]
)
def test_padding_is_black_and_no_part_of_the_range(dtype: type, value: int) -> None:
    """The picture beside it is as without; the value may be written without a sign."""
    ramp = np.linspace(0, 4095, 64).astype(dtype).reshape(8, 8)
    padded = ramp.copy()
    padded[:, :2] = np.array(value).astype(np.int64).astype(dtype)
    made = dataset(padded, PixelPaddingValue=value)
    made["PixelPaddingValue"].VR = "SS" if value < 0 else "US"
    shades = pixels_of(file_of(made))
    assert np.array_equal(shades[:, 2:], pixels_of(radiograph(ramp))[:, 2:])
    assert (shades[:, :2] == 0).all()


def test_padding_alone_is_no_picture() -> None:
    """A file of nothing else is refused with that reason."""
    data = radiograph(np.full((4, 4), 7, np.uint16), PixelPaddingValue=7)
    assert reason(data) == "all pixels are padding"


def test_padding_may_lie_above_the_bits_stored() -> None:
    """65535 in a file of 12 bits is padding, and 4095 white."""
    shades = pixels_of(
        radiograph(
            np.array([[65535, 0, 4095]], np.uint16),
            BitsStored=12,
            PixelPaddingValue=65535,
        )
    )
    assert shades.tolist() == [[0, 0, 255]]


def test_the_high_bit_says_where_the_value_lies() -> None:
    """12 bits at the upper end of 16, or with other data above them, are the same."""
    values = np.array([[0, 1000, 2048, 4095]], np.uint16)
    expected = pixels_of(radiograph(values, BitsStored=12))
    upper = dataset(values * 16 + 5, BitsStored=12)
    upper.HighBit = 15
    assert np.array_equal(pixels_of(file_of(upper)), expected)
    assert np.array_equal(pixels_of(radiograph(values + 4096, BitsStored=12)), expected)


@pytest.mark.parametrize("stored", [12, 16])
def test_deep_colours_are_scaled_by_their_depth(stored: int) -> None:
    """12 bits in a container of 16 span 0 to 255, whether the file says so or not."""
    colours = np.array([[[0, 2048, 4095], [4095, 0, 1]]], np.uint16)
    shades = pixels_of(radiograph(colours, BitsStored=stored))
    assert shades.tolist() == [[[0, 128, 255], [255, 0, 0]]]


@pytest.mark.parametrize(
    ("elements", "why"),
    [
        ({"VOILUTFunction": "LOG", "WindowCenter": 5, "WindowWidth": 9}, "LOG"),
        ({"RescaleSlope": "1e308", "RescaleIntercept": 0}, "finite"),
        ({"BitsStored": 20}, "20 bits stored in 16 bits"),
        ({"SamplesPerPixel": 2, "PlanarConfiguration": 0}, ""),
    ],
    ids=["function", "overflow", "bits", "samples"],
)
def test_what_cannot_be_shown_has_a_reason(elements: dict[str, Any], why: str) -> None:
    """No such file becomes a black picture."""
    values = np.array([[0, 1000, 2048, 4095]], np.uint16)
    assert why in reason(radiograph(values, **elements))
