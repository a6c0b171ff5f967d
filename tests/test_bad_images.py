"""Rules of bad image files: none stops a scan, and each has a reason that leads on."""

import gzip
import io
import struct
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile
from test_images import RAMP, encode, noise, png, reason
from toys import picture

from featcache.commands.scan import scan
from featcache.dataset import images
from featcache.dataset.images import memory, pillow
from featcache.errors import UnreadableImageError

FLOAT, SHORT, LONG = 11, 3, 4  # types of a TIFF's tags


def tiff(*tags: tuple[int, int, bytes], data: bytes = bytes(64)) -> bytes:
    """A TIFF of 8x8 pixels with these tags in place of its own, or besides."""
    own = {
        256: (SHORT, 8), 257: (SHORT, 8), 258: (SHORT, 8), 259: (SHORT, 1),
        262: (SHORT, 1), 273: (LONG, 8), 277: (SHORT, 1), 278: (SHORT, 8),
        279: (LONG, 64),
    }  # fmt: skip
    rows = {
        tag: struct.pack("<HHII", tag, kind, 1, value)
        for tag, (kind, value) in own.items()
    }
    rows |= {tag: struct.pack("<HHI", tag, kind, 1) + v for tag, kind, v in tags}
    head = b"II*\0" + struct.pack("<I", 8 + len(data)) + data
    return head + struct.pack("<H", len(rows)) + b"".join(rows.values()) + bytes(4)


# Exceptions


@pytest.mark.parametrize(
    "error",
    [TypeError("a\nb\x1b[31m"), KeyError(3), IndexError(), struct.error("x"),
     zlib.error("y"), ZeroDivisionError(), OverflowError("z"), AssertionError(),
     RecursionError("deep"), MemoryError(), EOFError(), NotImplementedError()],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_whatever_a_decoder_raises_is_a_reason(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one line, without control characters."""

    def load(self: Any) -> None:
        raise error

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    text = reason(encode(RAMP))
    assert text
    assert text.isprintable()


def test_a_scan_outlives_odd_files(tmp_path: Path) -> None:
    """A TIFF with floats for its tags has a reason, and the others are listed."""
    assert np.asarray(images.decode(tiff())).shape == (8, 8)
    for label in "ab":
        (tmp_path / label).mkdir()
        picture(ord(label), 120).save(tmp_path / label / "0.png")
    for tag in (256, 273, 278):
        data = tiff((tag, FLOAT, struct.pack("<f", 8)))
        (tmp_path / "a" / f"{tag}.tif").write_bytes(data)
    result = scan(tmp_path, tmp_path / "cache", dataset="odd")
    assert len(result.unreadable) == 3
    assert all(why for _, why in result.unreadable)


def test_libtiff_does_not_write_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    """What it has to say is the reason, once."""
    data = bytearray(encode(noise(64, 64), "TIFF", compression="tiff_adobe_deflate"))
    data[20:200] = bytes(180)
    assert "damaged pixel data" in reason(bytes(data))
    if sys.platform != "win32":
        assert capfd.readouterr().err == ""


# Memory

BOMBS = {
    "palette": lambda: encode(Image.new("P", (200, 200))),
    "16 bits": lambda: encode(np.zeros((200, 200), np.uint16)),
    "colour": lambda: encode(Image.new("RGB", (200, 200)), "JPEG"),
    "progressive": lambda: encode(
        Image.new("RGB", (200, 200)), "JPEG", progressive=True
    ),
    "ink": lambda: encode(Image.new("CMYK", (200, 200)), "TIFF"),
    "alpha": lambda: encode(Image.new("RGBA", (200, 200)), "PNG"),
    "float": lambda: encode(np.zeros((200, 200), np.float32), "TIFF"),
    "webp": lambda: encode(Image.new("RGB", (200, 200)), "WEBP"),
    "avif": lambda: encode(Image.new("RGB", (200, 200)), "AVIF"),
    "jpeg 2000": lambda: encode(Image.new("RGB", (200, 200)), "JPEG2000"),
    "gif": lambda: encode(Image.new("P", (200, 200)), "GIF"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_large_image_is_refused_before_it_is_decoded(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its header, with the size and what decoding would take."""
    data = BOMBS[name]()
    images.inspect(data)
    monkeypatch.setattr(memory, "LIMIT", 200 * 200 * 2)
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)
    text = reason(data)
    assert text.startswith("200x200 pixels are too many: decoding would take")


def test_the_canvas_of_a_webp_is_known_before_it_is_made() -> None:
    """Opening a WebP allocates 8 bytes a pixel, so its size is read before."""
    size = (15000 - 1).to_bytes(3, "little")
    head = b"RIFF" + bytes(4) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4)
    with pytest.raises(UnreadableImageError, match="15000x15000 pixels are too many"):
        pillow.check_webp(head + size + size)


def test_a_jpeg_of_many_scans_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each scan goes over the whole picture; a decoder would be at it for hours."""
    data = encode(noise(64, 64, 3), "JPEG", progressive=True)
    scans = data.count(b"\xff\xda")
    monkeypatch.setattr(pillow, "_MOST_SCANS", 64 * 64 * scans)
    images.inspect(data)
    monkeypatch.setattr(pillow, "_MOST_SCANS", 64 * 64 * scans - 1)
    assert reason(data) == f"a JPEG of {scans} scans would take too long to decode"


def test_threads_share_their_memory() -> None:
    """Never more than the total is reserved, and all get their turn."""
    budget, guard = memory.Budget(100), threading.Lock()
    held, most = Counter[str](), [0]

    def work(size: int) -> int:
        with budget.reserve(size):
            with guard:
                held["now"] += size
                most[0] = max(most[0], held["now"])
            time.sleep(0.001)
            with guard:
                held["now"] -= size
        return size

    sizes = np.random.default_rng(0).integers(1, 101, 100).tolist()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, sizes)) == sizes
    assert 50 < most[0] <= 100


def test_what_is_reserved_is_given_back_after_an_error() -> None:
    """A bad file does not make the others wait for ever."""
    cut = encode(noise(64, 64))[:2000]
    for _ in range(3):
        reason(cut)
    end = time.monotonic() + 10  # threads of a call that was stopped may still decode
    while memory.DECODING._left < memory.TOTAL and time.monotonic() < end:
        time.sleep(0.01)
    assert memory.DECODING._left == memory.TOTAL
    assert memory.LIMIT <= memory.TOTAL


def test_more_than_all_threads_have_together_is_waited_for_alone() -> None:
    """A picture and its compressed stream may each take the limit."""
    budget, order = memory.Budget(100), []

    def work(size: int) -> None:
        with budget.reserve(size):
            order.append(size)

    with ThreadPoolExecutor(1) as pool:
        with budget.reserve(1):
            waiting = pool.submit(work, 150)
            time.sleep(0.05)
            assert order == []
        waiting.result(timeout=10)
    assert budget._left == 100


def test_large_pictures_are_converted_by_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tile by tile or at once, the pixels are the same in every mode."""
    rgba = Image.fromarray(noise(40, 60, 4), "RGBA")
    modes = [rgba, rgba.convert("LA"), rgba.convert("RGB").quantize(9)]
    files = [encode(image) for image in modes]
    files += [encode(modes[2], transparency=3), encode(rgba.convert("CMYK"), "TIFF")]
    whole = [np.asarray(images.decode(data)) for data in files]
    for tile in (7, 100):
        monkeypatch.setattr(pillow, "_TILE", tile)
        for data, expected in zip(files, whole, strict=True):
            assert np.array_equal(images.decode(data), expected)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_folder_of_bombs_takes_less_than_2_gib(tmp_path: Path) -> None:
    """Of small files of many pixels, several at a time, each read or refused."""
    for label in "ab":
        (tmp_path / label).mkdir()
        picture(ord(label), 120).save(tmp_path / label / "0.png")
    for i in range(3):
        kinds = {
            "palette": Image.new("P", (13000 + i, 13000)),
            "deep": Image.fromarray(np.full((11000, 10000 + i), 5, np.uint16)),
            "colour": Image.new("RGB", (9000, 9000 + i)),
            "grey": Image.new("L", (13000, 13000 + i)),
        }
        for name, image in kinds.items():
            image.save(tmp_path / "a" / f"{name}{i}.png", compress_level=1)
    code = """if True:
        import os, sys
        from pathlib import Path
        os.cpu_count = lambda: 1  # and four threads more
        from featcache.commands.scan import reading, scan
        scan(Path(sys.argv[1]), Path(sys.argv[2]), dataset="x", group_by="image")
        print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
    """
    command = [sys.executable, "-c", code, str(tmp_path), str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 2**21  # KiB


# Reasons that lead on


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.png", b"x")
    return file.getvalue()


HEIC = b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(40)
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
DATA_SET = struct.pack("<HH2sH", 8, 5, b"CS", 10) + b"ISO_IR 100" + bytes(200)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "an empty file"),
        (POINTER, "a Git LFS pointer and not the image: run git lfs pull"),
        (HEIC, "HEIC, which is not read"),
        (b"\xef\xbb\xbf\n<!DOCTYPE html><html>404", "an HTML page and not an image"),
        (b"<?xml version='1.0'?><svg/>", "an SVG drawing"),
        (zipped(), "a zip archive and not an image: unpack it"),
        (gzip.compress(b"x"), "a gzip archive and not an image: unpack it"),
        (b"%PDF-1.7", "a PDF document"),
        (DATA_SET, "DICOM data without the preamble of a DICOM file"),
        (tiff((258, SHORT, b"\x40\0\0\0"), (339, SHORT, b"\3\0\0\0")),
         "a TIFF whose layout is not read (1 sample of 64-bit floating-point"),
        (b"\xff\xd8\xff\xe0", "a damaged JPEG"),
        (bytes(4000), "only zeros"),
        (b"no picture", "none of AVIF, BMP"),
    ],
    ids=["empty", "lfs", "heic", "html", "svg", "zip", "gz", "pdf", "dicom", "tiff",
         "jpeg", "zeros", "text"],
)  # fmt: skip
def test_a_reason_says_what_a_file_is(data: bytes, why: str) -> None:
    """And, where that helps, what to do."""
    assert reason(data).startswith(why)


# Flat images


def test_flat_images_are_counted(tmp_path: Path) -> None:
    """A picture of one grey is usable, but named; also by a scan that decodes none."""
    for label in "ab":
        (tmp_path / label).mkdir()
        picture(ord(label), 120).save(tmp_path / label / "0.png")
    Image.new("L", (20, 20), 7).save(tmp_path / "b" / "1.png")
    Image.new("RGB", (20, 20), "red").save(tmp_path / "b" / "2.png")
    expected = "2 images are flat (all pixels have one grey value), e.g. b/1.png"
    for group_by in ("image", "image", "near-duplicate"):
        result = scan(tmp_path, tmp_path / "cache", dataset="x", group_by=group_by)
        assert expected in result.warnings
        table = result.manifest.table.set_index("path")
        assert table.loc["b/1.png", ["status", "reason"]].tolist() == [
            "ok", "flat: all pixels have one grey value",
        ]  # fmt: skip
        assert table.loc["b/0.png", "reason"] == ""
    assert result.n_new in (0, 4)


# Mutations


@pytest.mark.slow
def test_ten_thousand_mutated_files_raise_nothing_else(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Bytes changed, cut, doubled or swapped: each decodes or says why not."""
    rng = np.random.default_rng(0)
    whole = seeds()
    reasons = [outcome(mutate(whole[i % len(whole)], rng)) for i in range(10_000)]
    refused = [text for text in reasons if text is not None]
    assert 1000 < len(refused) < 9000
    assert all(text and text.isprintable() for text in refused)
    assert capfd.readouterr().err == ""


def outcome(data: bytes) -> str | None:
    """The reason why a file is refused; None if it is read."""
    try:
        images.inspect(data)
    except UnreadableImageError as error:
        return error.got
    return None


def seeds() -> list[bytes]:
    """Small files of every format, with what their decoders take apart."""
    colour, grey = noise(20, 24, 3), noise(20, 24)
    exif = Image.Exif()
    exif[274] = 6
    deep = grey.astype(np.uint16) * 257
    files = [
        encode(colour, style, **options)
        for style, options in (
            ("PNG", {"exif": exif}), ("JPEG", {"exif": exif}), ("GIF", {}),
            ("JPEG", {"progressive": True}), ("WEBP", {}), ("AVIF", {}),
            ("JPEG2000", {}), ("BMP", {}), ("PPM", {}),
            ("TIFF", {"compression": "tiff_lzw"}),
            ("TIFF", {"compression": "tiff_adobe_deflate"}),
            ("TIFF", {"compression": "jpeg"}), ("TIFF", {"compression": "packbits"}),
        )
    ]  # fmt: skip
    files += [encode(deep), encode(deep, "TIFF"), png(3, 8, b"\0\0", 2), tiff()]
    if pydicom_is_there():
        from test_dicom import dataset, file_of, lut, radiograph

        files.append(radiograph(deep, WindowCenter=9, WindowWidth=9, BitsStored=12))
        files.append(radiograph(deep, VOILUTSequence=lut([*range(300)], 4, 10)))
        compressed = dataset(deep)
        compressed.compress("1.2.840.10008.1.2.5")
        files.append(file_of(compressed))
    return files


def pydicom_is_there() -> bool:
    from importlib.util import find_spec

    return find_spec("pydicom") is not None


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """One to six bytes changed, mostly near the start; perhaps cut, or a part moved."""
    broken = bytearray(data)
    span = len(data) if rng.random() < 0.4 else min(len(data), 400)
    for at in rng.integers(0, span, rng.integers(1, 7)):
        broken[at] = rng.choice([0, 1, 255, rng.integers(0, 256)])
    kind, start, end = rng.random(), *sorted(rng.integers(0, len(data), 2))
    if kind < 0.15:
        return bytes(broken[:end])
    if kind < 0.25:
        return bytes(broken[:end] + broken[start:])
    return bytes(broken)
