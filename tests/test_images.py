"""Rules of decoding: which pixels an image file stands for, and what is refused."""

import hashlib
import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from featcache.dataset import images, views
from featcache.errors import UnreadableImageError

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def encode(image: Image.Image | np.ndarray, style: str = "PNG", **given: Any) -> bytes:
    """The bytes of a file of that format."""
    buffer = io.BytesIO()
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    image.save(buffer, style, **given)
    return buffer.getvalue()


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(images.decode(data))


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def reason(data: bytes) -> str:
    """Why the bytes are refused, by both functions alike."""
    with pytest.raises(UnreadableImageError) as decoding:
        images.decode(data)
    with pytest.raises(UnreadableImageError) as inspecting:
        images.inspect(data)
    assert decoding.value.got == inspecting.value.got
    return decoding.value.got


def test_the_id_of_an_image_is_the_sha256_of_its_bytes() -> None:
    """Known bytes have the known digest, and one other byte another."""
    assert images.content_id(b"abc") == hashlib.sha256(b"abc").hexdigest()
    assert images.content_id(b"abc").startswith("ba7816bf")
    assert images.content_id(b"abd") != images.content_id(b"abc")


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3)])
@pytest.mark.parametrize("style", ["PNG", "JPEG", "BMP", "TIFF", "PPM"])
def test_8_bit_pixels_are_pillows(shape: tuple[int, ...], style: str) -> None:
    """Grey stays one channel, RGB three, and no value is touched."""
    data = encode(noise(*shape), style)
    expected = np.asarray(Image.open(io.BytesIO(data)))
    assert np.array_equal(pixels(data), expected)
    assert pixels(data).shape == shape


@pytest.mark.parametrize("style", ["GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000"])
def test_a_grey_picture_is_read_from_every_format(style: str) -> None:
    """A lossless format returns the picture that was written, whatever its mode."""
    given = {"lossless": True} if style == "WEBP" else {}
    read = images.decode(encode(RAMP, style, **given))
    assert np.array_equal(np.asarray(read.convert("L")), RAMP)


def test_the_first_frame_is_taken() -> None:
    """An animated GIF is its first picture."""
    frames = [Image.new("L", (8, 8), shade) for shade in (10, 200)]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert Image.open(io.BytesIO(data)).n_frames == 2
    assert (pixels(data) == 10).all()


def test_16_bits_are_scaled_and_not_clipped() -> None:
    """Over the full range, 0, 257, ..., 65535 become 0, 1, ..., 255."""
    assert np.array_equal(pixels(encode(RAMP.astype(np.uint16) * 257)), RAMP)


@pytest.mark.parametrize(
    ("brightest", "depth"), [(200, 8), (256, 10), (1000, 10), (4000, 12), (4096, 14)]
)
def test_a_16_bit_file_of_fewer_bits_is_scaled_by_those(
    brightest: int, depth: int
) -> None:
    """The range is the smallest of 8, 10, 12, 14, 16 bits that holds the brightest."""
    data = encode(np.array([[0, brightest // 2, brightest]], np.uint16))
    expected = np.rint(
        np.array([0, brightest // 2, brightest]) * 255 / (2**depth - 1)
    ).tolist()
    assert pixels(data).tolist() == [expected]


def test_12_bits_keep_their_order_of_greys() -> None:
    """A 12-bit ramp in a 16-bit TIFF, of either byte order, spans 0 to 255."""
    ramp = np.linspace(0, 4095, 256).round().astype(np.uint16).reshape(16, 16)
    for image in (Image.fromarray(ramp), Image.fromarray(ramp.astype(">u2"))):
        assert np.abs(pixels(encode(image, "TIFF")).astype(int) - RAMP).max() <= 1


def test_a_deep_tiff_whose_zero_is_white_is_inverted() -> None:
    """Zero is white as in DICOM's MONOCHROME1; Pillow sees to it at 8 bits only."""
    for ramp in (RAMP, RAMP.astype(np.uint16) * 257):
        white = encode(
            ramp, "TIFF", tiffinfo={ExifTags.Base.PhotometricInterpretation: 0}
        )
        stored = ramp if ramp.dtype == np.uint8 else 255 - RAMP
        assert np.array_equal(pixels(white), stored)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_32_bits_are_scaled_by_their_extremes(dtype: type) -> None:
    """-1000, 0, 3000 become 0, 64, 255: the darkest black, the brightest white."""
    data = encode(np.array([[-1000, 0, 3000]], dtype), "TIFF")
    assert pixels(data).tolist() == [[0, 64, 255]]


def test_a_float_picture_of_one_value_is_black() -> None:
    """Without a range nothing is divided by zero."""
    assert (pixels(encode(np.full((4, 4), 7.5, np.float32), "TIFF")) == 0).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_pixels_not_finite_are_refused(bad: float) -> None:
    """One NaN or infinity makes a float picture unreadable, with that reason."""
    picture = np.ones((4, 4), np.float32)
    picture[1, 2] = bad
    assert reason(encode(picture, "TIFF")) == "pixels that are not finite"


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_dropped_onto_black(mode: str) -> None:
    """White at alpha 0, 128, 255 becomes 0, 128, 255."""
    image = Image.new(mode, (3, 1), "white")
    image.putalpha(Image.fromarray(np.array([[0, 128, 255]], np.uint8)))
    read = images.decode(encode(image))
    assert read.mode == mode[:-1]
    assert np.asarray(read.convert("L")).tolist() == [[0, 128, 255]]


@pytest.mark.parametrize(
    ("mode", "clear"), [("L", 255), ("RGB", (255, 255, 255)), ("P", 1), ("1", 255)]
)
def test_a_transparent_colour_is_black(mode: str, clear: Any) -> None:
    """A PNG that names a transparent colour has alpha, whatever its mode."""
    image = Image.new(mode, (2, 1), 0)
    if mode == "P":
        image.putpalette([0, 0, 255, 255, 255, 255])
    image.putpixel((1, 0), clear)
    opaque, transparent = (
        np.asarray(images.decode(data).convert("RGB"))[0].tolist()
        for data in (encode(image), encode(image, transparency=clear))
    )
    assert opaque[1] == [255, 255, 255]
    assert transparent == [opaque[0], [0, 0, 0]]


def test_palette_cmyk_and_one_bit_become_8_bit() -> None:
    """Pure red survives a palette and CMYK; one bit becomes 0 and 255."""
    red = Image.new("RGB", (8, 8), (255, 0, 0))
    assert (pixels(encode(red.quantize(4))) == (255, 0, 0)).all()
    assert (pixels(encode(red.convert("CMYK"), "TIFF")) == (255, 0, 0)).all()
    checks = np.tile([[0, 255], [255, 0]], (4, 4)).astype(np.uint8)
    assert np.array_equal(pixels(encode(Image.fromarray(checks).convert("1"))), checks)


STORED = {  # EXIF 2.32, 4.6.4 A: how a camera that was held so stores the rows
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.T,
    6: lambda upright: np.rot90(upright),
    7: lambda upright: upright[::-1, ::-1].T,
    8: lambda upright: np.rot90(upright, -1),
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(
    ("style", "dtype"), [("PNG", "u1"), ("TIFF", "u1"), ("PNG", "u2")]
)
def test_every_exif_orientation_gives_the_upright_picture(
    orientation: int, style: str, dtype: str
) -> None:
    """All eight ways of storing one picture decode to it, once turned."""
    upright = RAMP[:, :10].astype(dtype)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored = np.ascontiguousarray(STORED[orientation](upright))
    data = encode(stored, style, exif=exif)
    assert np.array_equal(pixels(data), upright)
    found = images.inspect(data)
    assert (found.width, found.height) == (10, 16)


def test_odd_exif_does_not_cost_the_picture() -> None:
    """A turned JPEG whose resolution is text is read, and turned."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.XResolution] = 72.0
    data = encode(noise(20, 30), "JPEG", exif=exif)
    tag, rational, text = b"\x01\x1a", b"\x00\x05", b"\x00\x02"
    assert data.count(tag + rational) == 1
    assert pixels(data.replace(tag + rational, tag + text)).shape == (30, 20)


def png(colour: int, depth: int, row: bytes, width: int) -> bytes:
    """A PNG of one row, of a kind that Pillow reads but does not write."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    header = struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" + row))
        + chunk(b"IEND", b"")
    )


def test_depths_that_pillow_reads_on_its_own() -> None:
    """Grey of 2 and 4 bits spans 0 to 255; 16-bit colour keeps its high byte."""
    assert pixels(png(0, 2, b"\x1b", 4)).tolist() == [[0, 85, 170, 255]]
    assert pixels(png(0, 4, b"\x0f", 2)).tolist() == [[0, 255]]
    deep = np.array([65535, 30000, 0], ">u2").tobytes()
    assert pixels(png(2, 16, deep, 1)).tolist() == [[[255, 30000 >> 8, 0]]]


def tiff_of_colours(colours: np.ndarray, order: str, compression: int) -> bytes:
    """A TIFF of 16-bit colours, which Pillow reads but does not write."""
    height, width, _ = colours.shape
    data = colours.astype(f"{order}u2").tobytes()
    data = zlib.compress(data) if compression == 8 else data
    data += bytes(len(data) % 2)
    tags = {
        256: (3, width), 257: (3, height), 258: (3, 16), 259: (3, compression),
        262: (3, 2), 273: (4, 8), 277: (3, 3), 278: (3, height), 279: (4, len(data)),
    }  # fmt: skip
    bits = 8 + len(data)  # where the three numbers of bits lie
    rows = struct.pack(f"{order}H", len(tags))
    for tag, (kind, value) in tags.items():
        count, kind_of, at = (3, "I", bits) if tag == 258 else (1, "I", value)
        if kind == 3 and tag != 258:
            kind_of = "Hxx"
        rows += struct.pack(f"{order}HHI{kind_of}", tag, kind, count, at)
    start = b"II*\0" if order == "<" else b"MM\0*"
    head = start + struct.pack(f"{order}I", bits + 6)
    return head + data + struct.pack(f"{order}3H", 16, 16, 16) + rows + bytes(4)


@pytest.mark.parametrize("brightest", [200, 1000, 4095, 16383])
def test_colours_of_16_bits_that_use_fewer_are_scaled_by_those(brightest: int) -> None:
    """As greys are: by the smallest depth that holds the brightest of all channels."""
    colours = np.array([[[brightest, brightest // 2, 0], [1, 2, 3]]], np.uint16)
    top = next(2**b - 1 for b in (8, 10, 12, 14) if brightest < 2**b)
    expected = np.rint(colours * 255.0 / top)
    row = colours.astype(">u2").tobytes()
    tiffs = [tiff_of_colours(colours, order, c) for order in "<>" for c in (1, 8)]
    for data in (png(2, 16, row, 2), *tiffs):
        assert np.array_equal(pixels(data), expected)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "an empty file"),
        (b"no picture at all", "none of AVIF, BMP, GIF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "none of AVIF"),
        (encode(noise(64, 64))[:2000], "truncated"),
        (encode(noise(64, 64), "JPEG")[:2000], "truncated"),
        (encode(noise(64, 64), "JPEG")[:30], "Truncated"),
        (encode(noise(64, 64), "TIFF")[:2000], "truncated"),
    ],
    ids=["empty", "text", "eps", "cut png", "cut jpeg", "jpeg header", "cut tiff"],
)
def test_what_is_no_whole_image_is_refused_with_a_reason(data: bytes, why: str) -> None:
    """A half picture is never padded, and a format that runs a program never opened."""
    assert why in reason(data)


def test_a_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's limit on pixels holds: over twice of it is refused, once is read."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert "decompression bomb" in reason(encode(noise(15, 15)))
    assert pixels(encode(noise(12, 12))).shape == (12, 12)


def test_mutilated_files_raise_nothing_else() -> None:
    """300 files with bytes changed or cut either decode or say why not."""
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    whole = [
        encode(noise(20, 24, 3), style, **given)
        for style, given in [
            ("PNG", {"exif": exif}),
            ("JPEG", {"exif": exif}),
            ("TIFF", {"compression": "tiff_lzw"}),
            ("GIF", {}),
            ("WEBP", {}),
            ("AVIF", {}),
        ]
    ]
    refused = 0
    for data in whole * 50:
        broken = np.frombuffer(data, np.uint8).copy()
        broken[rng.integers(0, min(len(data), 300), 3)] = rng.integers(0, 256, 3)
        try:
            images.inspect(broken[: rng.integers(len(data) // 2, len(data))].tobytes())
        except UnreadableImageError as error:
            refused += bool(error.got)
    assert refused > 100


def test_decoding_in_threads_leaves_the_warnings_of_others_alone() -> None:
    """Pillow is hushed, and every other warning is as loud as before."""
    data = encode(RAMP)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(images.decode, [data] * 400))
    with pytest.warns(UserWarning, match="still heard"):
        warnings.warn("still heard", UserWarning, stacklevel=1)


def test_an_inspection_measures_the_upright_picture() -> None:
    """Size, mode of the file, a 64-bit hash, and a thumb of 32x32 greys."""
    found = images.inspect(encode(noise(20, 30).astype(np.uint16) * 257))
    assert (found.width, found.height, found.mode) == (30, 20, "I;16")
    assert len(bytes.fromhex(found.phash)) == 8
    assert found.thumb.shape == (1024,)
    assert found.thumb.dtype == np.uint8


def test_a_picture_tells_its_file_and_its_greys() -> None:
    """Half black, half 200: mean and spread are 100; a JPEG with a preview is one."""
    halves = np.repeat(np.array([[0, 200]], np.uint8), 6, axis=0)
    found = images.read(encode(halves))
    assert (found.kind, found.mode, found.grey) == ("PNG", "L", (100.0, 100.0))
    several = encode(RAMP, "MPO", save_all=True, append_images=[Image.fromarray(RAMP)])
    assert images.read(several).kind == "JPEG"


def test_view_0_is_the_studys_load_img(tmp_path: Path) -> None:
    """Grey or RGB, enlarged or reduced: bit for bit what Keras loads."""
    from featcache.core.tf import tensorflow

    tensorflow()
    import keras

    for shape in ((90, 70), (33, 57, 3), (300, 260, 3)):
        for style in ("png", "jpg"):
            path = tmp_path / f"{len(shape)}-{shape[0]}.{style}"
            Image.fromarray(noise(*shape)).save(path)
            for side in (32, 224):
                loaded = keras.utils.load_img(
                    path, target_size=(side, side), interpolation="bilinear"
                )
                view = views.render(images.decode(path.read_bytes()), side)
                assert np.array_equal(view, np.asarray(loaded))
