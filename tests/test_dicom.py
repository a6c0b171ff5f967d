"""Rules of DICOM: which pixels a radiograph stands for."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_images import RAMP, encode, noise
from test_images import pixels as pixels_of
from toys import picture

from featcache.dataset import images
from featcache.dataset.images import dicom

pydicom = pytest.importorskip("pydicom")

from pydicom import uid  # noqa: E402
from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.encaps import encapsulate  # noqa: E402
from pydicom.sequence import Sequence  # noqa: E402

DEEP = np.array([[0, 1000, 2048, 4095]], np.uint16)


def dataset(pixels: np.ndarray, **elements: Any) -> Dataset:
    """A radiograph of these pixels; elements by keyword."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    made.SOPClassUID = uid.DigitalXRayImageStorageForPresentation
    made.SOPInstanceUID = "1.2.3"
    made.Rows, made.Columns = pixels.shape[:2]
    made.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    made.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    made.BitsAllocated = made.BitsStored = 8 * pixels.itemsize
    if pixels.ndim == 3:
        made.PlanarConfiguration = 0
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    if syntax := elements.pop("TransferSyntaxUID", None):
        made.file_meta.TransferSyntaxUID = syntax
    data = elements.pop("PixelData", pixels.astype(pixels.dtype.newbyteorder("<")))
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    made.HighBit = made.BitsStored - 1
    made.PixelData = data if isinstance(data, bytes) else data.tobytes()
    if len(made.PixelData) % 2:
        made.PixelData += b"\0"
    made["PixelData"].VR = "OW" if made.BitsAllocated > 8 else "OB"
    return made


def file_of(made: Dataset) -> bytes:
    buffer = io.BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def radiograph(pixels: np.ndarray, **elements: Any) -> bytes:
    """The bytes of a DICOM file."""
    return file_of(dataset(pixels, **elements))


def lut(entries: list[int], first: int, bits: int) -> Sequence:
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    item.LUTData = entries
    item["LUTDescriptor"].VR = item["LUTData"].VR = "US"
    return Sequence([item])


def shades(pixels: np.ndarray | list[int], **elements: Any) -> list[int]:
    """The decoded shades of one row of pixels."""
    row = np.atleast_2d(np.asarray(pixels))
    found: list[int] = pixels_of(radiograph(row, **elements)).ravel().tolist()
    return found


# Pixels


def test_8_bit_grey_and_colour_are_untouched() -> None:
    """What a picture of 8 bits holds is what is decoded, and grey stays grey."""
    assert np.array_equal(pixels_of(radiograph(RAMP)), RAMP)
    colour = noise(6, 8, 3)
    assert np.array_equal(pixels_of(radiograph(colour)), colour)
    assert images.decode(radiograph(RAMP)).mode == "L"


@pytest.mark.parametrize("brightest", [200, 1000, 4000, 60000])
def test_without_a_window_dicom_is_as_a_png_of_16_bits(brightest: int) -> None:
    """Where all bits are stored, the same deep greys give the same picture in both."""
    deep = np.linspace(0, brightest, 256).astype(np.uint16).reshape(16, 16)
    data = radiograph(deep, BitsStored=16, RescaleSlope=1, RescaleIntercept=0)
    assert np.array_equal(pixels_of(data), pixels_of(encode(deep)))


def test_monochrome1_is_inverted() -> None:
    """Where zero is white, 0, 1000, 2048, 4095 become 255 less what they were."""
    plain = shades(DEEP, BitsStored=12)
    assert plain == [0, 62, 128, 255]
    kind = "MONOCHROME1"
    assert shades(DEEP, BitsStored=12, PhotometricInterpretation=kind) == [
        255 - shade for shade in plain
    ]


def test_a_window_becomes_0_to_255() -> None:
    """Centre 2048.5, width 2049: 1024 and below are black, 3072 and above white."""
    window = {"WindowCenter": "2048.5", "WindowWidth": "2049", "BitsStored": 12}
    values = np.array([0, 1024, 2048, 3072, 4095], np.uint16)
    assert shades(values, **window) == [0, 0, 128, 255, 255]
    white = shades(values, PhotometricInterpretation="MONOCHROME1", **window)
    assert white == [255, 255, 127, 0, 0]


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("slope", [1, 2, -1])
def test_every_window_runs_from_black_to_white(function: str, slope: int) -> None:
    """Far below the window is 0, far above 255, also where the slope turns round."""
    values = np.array([-30000, 0, 30000], np.int16)
    found = shades(
        values, WindowCenter=0, WindowWidth=200, VOILUTFunction=function,
        RescaleSlope=slope, RescaleIntercept=0,
    )  # fmt: skip
    assert found[:: slope // abs(slope)] == [0, found[1], 255]
    assert found[1] in (127, 128, 129)


def test_the_first_of_several_windows_is_taken() -> None:
    """As viewers do."""
    found = shades(DEEP, WindowCenter=[500, 9], WindowWidth=[1000, 1], BitsStored=12)
    assert found == [0, 255, 255, 255]


@pytest.mark.parametrize(("centre", "width"), [(0, 0), ("", ""), (2048, 0.5)])
def test_a_window_of_no_width_is_no_window(centre: Any, width: Any) -> None:
    """Some programs write zeros where they know of none."""
    found = shades(DEEP, WindowCenter=centre, WindowWidth=width, BitsStored=12)
    assert found == shades(DEEP, BitsStored=12)


def test_rescaled_and_signed_values_span_their_extremes() -> None:
    """-1000, 0, 3000 become 0, 64, 255, whether stored so or rescaled to it."""
    stored = np.array([-1000, 0, 3000], np.int16)
    assert shades(stored) == [0, 64, 255]
    raised = (stored + 1000).astype(np.uint16)
    assert shades(raised, RescaleSlope=1, RescaleIntercept=-1000) == [0, 64, 255]


def test_a_window_counts_in_rescaled_values() -> None:
    """A window of 0 to 400 Hounsfield units on values stored 1024 higher."""
    stored = np.array([924, 1024, 1224, 1424, 2000], np.uint16)
    rescale = {"RescaleSlope": 1, "RescaleIntercept": -1024}
    window = {"WindowCenter": 200, "WindowWidth": 400, "VOILUTFunction": "LINEAR_EXACT"}
    assert shades(stored, **rescale, **window) == [0, 0, 128, 255, 255]


@pytest.mark.parametrize("bits", [8, 16])
def test_a_voi_lut_is_looked_up_beyond_256_entries(bits: int) -> None:
    """A table of 4096 entries, of 8 or 16 bits, inverts; beyond it the ends hold."""
    top = 2**bits - 1
    table = np.linspace(top, 0, 4096).astype(int).tolist()
    values = np.array([0, 100, 2148, 4195, 9000], np.uint16)
    found = shades(values, VOILUTSequence=lut(table, 100, bits), WindowCenter=5,
                   WindowWidth=2)  # fmt: skip
    assert found == [255, 255, 127, 0, 0]


def test_a_modality_lut_comes_before_the_window() -> None:
    """0, 1, 2, 3 stand for 0, 10, 20, 1000, of which 10 to 20 is the window."""
    table = lut([0, 10, 20, 1000], 0, 16)
    window = {"WindowCenter": 15, "WindowWidth": 10, "VOILUTFunction": "LINEAR_EXACT"}
    values = np.array([0, 1, 2, 3], np.uint8)
    assert shades(values, ModalityLUTSequence=table, **window) == [0, 0, 255, 255]


def test_a_table_in_words_of_bytes() -> None:
    """The data of a table may be stored as bytes (OW)."""
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [4, 0, 16], np.array([9, 6, 3, 0], "<u2")
    item.LUTData = item.LUTData.tobytes()
    item["LUTDescriptor"].VR, item["LUTData"].VR = "US", "OW"
    found = shades(np.arange(4, dtype=np.uint8), ModalityLUTSequence=Sequence([item]))
    assert found == [9, 6, 3, 0]


def test_one_bit_is_black_and_white() -> None:
    """Of pixels of one bit, packed by eight, 1 is white."""
    made = radiograph(
        np.zeros((1, 8), np.uint8), BitsAllocated=1, BitsStored=1, PixelData=b"\x0f\0"
    )
    assert pixels_of(made).tolist() == [[255] * 4 + [0] * 4]


def test_colours_of_every_kind_become_rgb() -> None:
    """Red, green and blue by planes, as YBR, of 16 bits, and from a palette."""
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    planes = np.moveaxis(colours, 2, 0).copy()
    ybr = np.asarray(Image.fromarray(colours).convert("YCbCr"))
    palette = {
        f"{name}PaletteColorLookupTable{what}": value
        for name, column in zip(("Red", "Green", "Blue"), colours[0].T, strict=True)
        for what, value in (
            ("Descriptor", [3, 0, 16]),
            ("Data", (column.astype("<u2") * 257).tobytes()),
        )
    }
    found = [
        radiograph(colours, PlanarConfiguration=1, PixelData=planes.tobytes()),
        radiograph(ybr, PhotometricInterpretation="YBR_FULL"),
        radiograph(colours.astype(np.uint16) * 257),
        radiograph(
            np.arange(3, dtype=np.uint8)[None],
            PhotometricInterpretation="PALETTE COLOR",
            **palette,
        ),
    ]
    for data in found:
        assert np.abs(pixels_of(data).astype(int) - colours).max() <= 2


@pytest.mark.parametrize(
    ("syntax", "style", "kind"),
    [
        (uid.JPEGBaseline8Bit, "JPEG", "YBR_FULL_422"),
        (uid.JPEG2000Lossless, "JPEG2000", "YBR_RCT"),
    ],
)
def test_what_pillow_decompresses_is_read(syntax: str, style: str, kind: str) -> None:
    """JPEG and JPEG 2000 inside DICOM are the pictures that they are outside."""
    colours = np.asarray(picture(1, 120).convert("RGB"))
    inside = encode(
        colours, style, **({"no_jp2": True, "mct": 1} if "2" in style else {})
    )
    data = radiograph(
        colours,
        TransferSyntaxUID=syntax,
        PhotometricInterpretation=kind,
        PixelData=encapsulate([inside]),
    )
    outside = np.asarray(Image.open(io.BytesIO(inside)).convert("RGB")).astype(int)
    assert np.abs(pixels_of(data) - outside).max() <= 2


def test_run_lengths_are_read() -> None:
    """RLE needs no plug-in."""
    made = dataset(RAMP.astype(np.uint16) * 257)
    made.compress(uid.RLELossless)
    assert np.array_equal(pixels_of(file_of(made)), RAMP)


def test_an_inspection_tells_the_kind() -> None:
    """The mode is the photometric interpretation, the size that of the picture."""
    found = images.inspect(radiograph(noise(6, 9)))
    assert (found.width, found.height, found.mode) == (9, 6, "MONOCHROME2")


def test_a_file_that_pillow_reads_stays_its() -> None:
    """DICOM may hide behind the first bytes of a TIFF; the pixels are the TIFF's."""
    tiff = encode(RAMP, "TIFF")
    both = tiff[:128] + b"DICM" + tiff[132:]
    assert dicom.is_dicom(both)
    assert pixels_of(both).shape == RAMP.shape
