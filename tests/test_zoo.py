"""The zoo: one folder of every odd and broken file, each with its proper fate."""

import errno
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin
from test_images import STORED, encode, noise, png
from test_scan import column
from toys import picture

from featcache import backbones
from featcache.commands.scan import scan
from featcache.dataset import images
from featcache.dataset.sources import reading

Animal = bytes | Callable[[Path], None]
# Smooth, of 16 x 24 pixels, with 0 and 255 in it, and unlike its mirrored forms.
GREY = np.add.outer(np.linspace(0, 1, 16) ** 2 * 100, np.linspace(0, 155, 24))
GREY = GREY.round().astype(np.uint8)
SHAPE, NONE, CUT = (16, 24), "none of AVIF", "truncated"


def grey(style: str = "PNG", **given: Any) -> bytes:
    return encode(GREY, style, **given)


def deep(top: int, style: str = "PNG", dtype: str = "u2") -> bytes:
    """The picture with 255 at another number."""
    return encode((GREY * (top / 255)).astype(dtype), style)


def mode(name: str, style: str = "PNG", **given: Any) -> bytes:
    return encode(Image.fromarray(GREY).convert(name), style, **given)


def frames(style: str) -> bytes:
    """The picture, and after it a black one."""
    black = Image.new("L", GREY.shape[::-1])
    return grey(style, save_all=True, append_images=[black])


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return encode(np.ascontiguousarray(STORED[orientation](GREY)), exif=exif)


def alpha(name: str) -> bytes:
    image = Image.fromarray(GREY).convert(name)
    image.putalpha(255)
    return encode(image)


def see_through() -> bytes:
    """Grey 255 is not used; where the palette has it, it would be transparent."""
    palette = Image.fromarray(np.minimum(GREY, 254)).convert("P")
    return encode(palette, transparency=255)


def interlaced() -> bytes:
    """Adam7 by hand, for Pillow reads it and does not write it."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2),
              (0, 1, 2, 2), (1, 0, 2, 1)]  # fmt: skip
    parts = [GREY[y::dy, x::dx] for y, x, dy, dx in passes]
    rows = b"".join(b"\0" + row.tobytes() for part in parts for row in part)
    header = struct.pack(">IIBBBBB", 24, 16, 8, 0, 0, 0, 1)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body
        + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )  # fmt: skip


def declared(width: int, height: int) -> bytes:
    """A PNG whose header promises more pixels than it has."""
    data = bytearray(grey())
    struct.pack_into(">II", data, 16, width, height)
    struct.pack_into(">I", data, 29, zlib.crc32(bytes(data[12:29])))
    return bytes(data)


def flipped(chunk: bytes, *, checksum: bool) -> bytes:
    """A PNG with one bit wrong in a chunk or in its checksum."""
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "words")
    data = bytearray(grey(pnginfo=text))
    start = data.index(chunk)
    length = struct.unpack_from(">I", data, start - 4)[0]
    data[start + 4 + (length if checksum else length // 2)] ^= 1
    return bytes(data)


def cut(style: str, share: float = 0.6, **given: Any) -> bytes:
    data = encode(noise(64, 64), style, **given)
    return data[: int(len(data) * share)]


def not_finite() -> bytes:
    pixels = GREY.astype(np.float32)
    pixels[3, 4] = np.nan
    return encode(pixels, "TIFF")


def link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def folder(path: Path) -> None:
    path.mkdir()


# Name, what is in it, and how far from the picture it may be.
GOOD: dict[str, tuple[Animal, int]] = {
    "grey.png": (grey(), 0),
    "rgb.png": (mode("RGB"), 0),
    "rgba.png": (alpha("RGBA"), 0),
    "la.png": (alpha("LA"), 0),
    "palette.png": (mode("P"), 0),
    "see-through.png": (see_through(), 1),
    "16-bit.png": (deep(65535), 1),
    "12 in 16.png": (deep(4095), 1),
    "16-bit.tif": (deep(65535, "TIFF", ">u2"), 1),
    "32-bit.tif": (deep(10**6, "TIFF", "i4"), 1),
    "float.tif": (deep(1, "TIFF", "f4"), 1),
    "interlaced.png": (interlaced(), 0),
    "wrong checksum of pixels.png": (flipped(b"IDAT", checksum=True), 0),
    "junk at the end.png": (grey() + b"junk" * 99, 0),
    "grey.jpg": (grey("JPEG", quality=95), 4),
    "progressive.jpeg": (grey("JPEG", quality=95, progressive=True), 4),
    "cmyk.jpg": (mode("CMYK", "JPEG", quality=95), 6),
    "ycbcr.jfif": (mode("RGB", "JPEG", quality=95, subsampling=2), 6),
    "png in truth.jpg": (grey(compress_level=1), 0),
    "cmyk.tif": (mode("CMYK", "TIFF"), 1),
    "lzw.tiff": (grey("TIFF", compression="tiff_lzw"), 0),
    "jpeg.tif": (grey("TIFF", compression="jpeg", quality=95), 4),
    "big.tif": (grey("TIFF", big_tiff=True), 0),
    "pages.tif": (frames("TIFF"), 0),
    "animated.gif": (frames("GIF"), 0),
    "grey.gif": (grey("GIF"), 0),
    "grey.bmp": (grey("BMP"), 0),
    "rgb.bmp": (mode("RGB", "BMP"), 0),
    "grey.pgm": (grey("PPM"), 0),
    "rgb.ppm": (mode("RGB", "PPM"), 0),
    "lossless.webp": (grey("WEBP", lossless=True), 0),
    "lossy.webp": (mode("RGB", "WEBP", quality=95), 8),
    "grey.jp2": (grey("JPEG2000"), 0),
    "stream.j2k": (mode("RGB", "JPEG2000", no_jp2=True), 0),
    "grey.avif": (grey("AVIF", quality=95), 8),
    "Röntgen 肺炎 ☢ #1, 'ä' & \"b\".png": (grey(compress_level=2), 0),
    "-rf.png": (grey(compress_level=3), 0),
    "ü" * 125 + ".png": (grey(compress_level=4), 0),
    "UPPER.PNG": (grey(compress_level=5), 0),
    **{f"exif {o}.png": (turned(o), 0) for o in STORED},
}
# Pictures of another size or content: name, what is in it, and some of its pixels.
OTHERS: dict[str, tuple[bytes, list[int]]] = {
    "1-bit.png": (encode(Image.fromarray(GREY).convert("1")), [0]),
    "2-bit.png": (png(0, 2, b"\x1b", 4), [0, 85, 170, 255]),
    "16-bit rgb.png": (png(2, 16, b"\xff\xff\x80\0\0\0", 1), [255, 128, 0]),
    "one pixel.png": (encode(np.full((1, 1), 7, np.uint8)), [7]),
    "a line.png": (encode(np.full((1, 3000), 8, np.uint8)), [8, 8]),
    # A whole stream of fewer rows than its header promises ends in black, by Pillow.
    "higher than it is.png": (declared(24, 400), [*GREY.ravel().tolist(), 0, 0]),
    "black.png": (encode(np.zeros((9, 9), np.uint8)), [0]),
}
BAD: dict[str, tuple[Animal, str]] = {
    "empty.png": (b"", "an empty file"),
    "text.png": (b"no picture at all", NONE),
    "page.jpg": (b"<html><body>404 Not Found</body></html>", "HTML page"),
    "script.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", NONE),
    "drawing.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG drawing"),
    "zeros.tif": (bytes(5000), "only zeros"),
    "signature.png": (b"\x89PNG\r\n\x1a\n", "a damaged PNG"),
    "cut.png": (cut("PNG"), CUT),
    "cut.jpg": (cut("JPEG"), CUT),
    "cut in its header.jpg": (cut("JPEG", 0.05), "runcated"),
    "cut.tif": (cut("TIFF"), CUT),
    "cut lzw.tif": (cut("TIFF", 0.9, compression="tiff_lzw"), ""),
    "cut.webp": (cut("WEBP"), "decoder"),
    "cut.gif": (cut("GIF"), CUT),
    "cut.bmp": (cut("BMP"), CUT),
    "cut.pgm": (cut("PPM"), CUT),
    "cut.jp2": (cut("JPEG2000"), "broken data stream"),
    "cut.avif": (cut("AVIF", 0.9), ""),
    "flipped pixels.png": (flipped(b"IDAT", checksum=False), "broken data stream"),
    "wrong checksum.png": (flipped(b"IHDR", checksum=True), "a damaged PNG"),
    "wrong checksum of text.png": (flipped(b"tEXt", checksum=True), "a damaged PNG"),
    "huge.png": (declared(60000, 60000), "decompression bomb"),
    "wider than it is.png": (declared(10**4, 16), CUT),
    "no pixels.png": (declared(0, 0), "a damaged PNG"),
    "not finite.tif": (not_finite(), "pixels that are not finite"),
    "no dicom.dcm": (b"text", NONE),
    "magic.dcm": (bytes(128) + b"DICM", "DICOM"),
    "link to nothing.png": (link("nowhere.png"), "No such file"),
    "link to itself.png": (link("link to itself.png"), "symbolic links"),
    "link to a device.png": (link("/dev/zero"), "not a regular file"),
    "pipe.png": (os.mkfifo, "not a regular file"),
    "secret.png": (grey(compress_level=7), "Permission denied"),
    "new\nline.png": (grey(compress_level=8), "rename it"),
    "no \udcff utf-8.png": (grey(compress_level=9), "rename it"),
}
NOT_LISTED: dict[str, Animal] = {
    "folder.png": folder,
    ".hidden.png": grey(),
    "Thumbs.db": b"x",
    "notes.txt": b"x",
    "README": b"x",
}


def dicom_animals() -> tuple[
    dict[str, tuple[bytes, int]], dict[str, tuple[bytes, str]]
]:
    """DICOM files, good and bad; none without pydicom, which writes them."""
    pytest.importorskip("pydicom")
    from test_dicom import radiograph

    twelve = (GREY * (4095 / 255)).astype(np.uint16)
    many = np.tile(GREY, (12, 1))
    whole = radiograph(GREY, PatientID="1")
    good = {
        "grey.dcm": (radiograph(GREY), 0),
        "12-bit.dicom": (radiograph(twelve, BitsStored=12), 1),
        "IM0001": (radiograph(twelve, BitsStored=12, PatientID="2"), 1),
        "white is zero.dcm": (
            radiograph(255 - GREY, PhotometricInterpretation="MONOCHROME1"), 0
        ),
        "colour.dcm": (radiograph(np.dstack([GREY] * 3)), 0),
    }  # fmt: skip
    bad = {
        "frames.dcm": (radiograph(many, Rows=16, NumberOfFrames=12), "12 frames"),
        "cut.dcm": (whole[:-99], "pixel data"),
        "cut in its header.dcm": (whole[:200], "DICOM"),
    }
    return good, bad


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder: all animals in one class, and two plain images in another."""
    root = tmp_path / "zoo"
    (root / "animals").mkdir(parents=True)
    (root / "plain").mkdir()
    for i in range(2):
        picture(i, 120).save(root / "plain" / f"{i}.png")
    good, bad = dicom_animals()
    entries = {
        name: entry[0] for name, entry in (GOOD | OTHERS | BAD | good | bad).items()
    }
    for name, content in (entries | NOT_LISTED).items():
        path = root / "animals" / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            content(path)
    monkeypatch.setattr(reading, "read_bytes", _refusing(reading.read_bytes))
    return root


def _refusing(read: Callable[[Path, str], bytes]) -> Callable[[Path, str], bytes]:
    """Root may read everything, so a missing permission has to be played."""

    def refuse(root: Path, path: str) -> bytes:
        if path.endswith("secret.png"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return read(root, path)

    return refuse


def test_every_animal_has_its_fate(zoo: Path, tmp_path: Path) -> None:
    """All are listed, the good are ok, the bad have a reason, and nothing stops."""
    good, bad = dicom_animals()
    result = scan(zoo, tmp_path / "cache", group_by="image")
    status, why = column(result, "status"), column(result, "reason")
    fine = {f"animals/{name}" for name in GOOD | OTHERS | good}
    assert {path for path, found in status.items() if found == "ok"} == fine | {
        "plain/0.png", "plain/1.png"
    }  # fmt: skip
    for name, (_, reason) in (BAD | bad).items():
        path = (
            "animals/" + ascii(name)[1:-1] if "rename" in reason else f"animals/{name}"
        )
        assert status.pop(path) == "unreadable"
        assert reason in why[path], path
        assert why[path].isprintable()
    assert set(status.values()) == {"ok"}
    assert len(BAD | bad) + len(GOOD | OTHERS | good) > 90
    note = "left out because they are not images: 1 (no suffix), 1 .txt"
    assert note in result.warnings, result.warnings
    assert any("one grey" in text for text in result.warnings), result.warnings


def test_a_zoo_is_scanned_alike_again(zoo: Path, tmp_path: Path) -> None:
    """The manifest is the same, and only what failed is tried again."""
    first, again = (scan(zoo, tmp_path / "cache") for _ in range(2))
    assert again.manifest.table.equals(first.manifest.table)
    assert again.n_new < first.n_new


@pytest.mark.parametrize("name", GOOD)
def test_a_good_animal_is_the_picture(name: str, tmp_path: Path) -> None:
    """Whatever its kind of file: upright, of its size, and within a few greys."""
    data, tolerance = GOOD[name]
    assert isinstance(data, bytes)
    found = np.asarray(images.decode(data).convert("L")).astype(int)
    assert found.shape == SHAPE
    assert np.abs(found - GREY).max() <= tolerance


def test_a_good_radiograph_is_the_picture() -> None:
    """12 bits, inverted or in colour: the same greys."""
    for data, tolerance in dicom_animals()[0].values():
        found = np.asarray(images.decode(data).convert("L")).astype(int)
        assert np.abs(found - GREY).max() <= tolerance


@pytest.mark.parametrize("name", OTHERS)
def test_another_picture_has_its_pixels(name: str) -> None:
    """The first values, counted by hand."""
    data, pixels = OTHERS[name]
    found = np.asarray(images.decode(data)).ravel().tolist()
    assert found[: len(pixels)] == pixels


def test_only_the_good_are_extracted(
    zoo: Path, tmp_path: Path, toy_network: Path
) -> None:
    """Each usable image has one row, in one pass without an error."""
    from featcache.commands.extract import extract

    manifest = scan(zoo, tmp_path / "cache").manifest
    network = backbones.resolve(str(toy_network))
    [result] = extract(manifest, [network], engine="tensorflow", max_bad=1.0)
    assert result.failures == []
    assert result.rows == result.computed == len(manifest.ok)
