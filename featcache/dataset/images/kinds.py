"""What a file is that no decoder takes: reasons that lead on."""

import struct

_MAGIC = {
    b"version https://git-lfs": "a Git LFS pointer and not the image: run git lfs pull",
    b"PK\x03\x04": "a zip archive and not an image: unpack it",
    b"\x1f\x8b": "a gzip archive and not an image: unpack it",
    b"BZh": "a bzip2 archive and not an image: unpack it",
    b"\xfd7zXZ": "an xz archive and not an image: unpack it",
    b"7z\xbc\xaf": "a 7z archive and not an image: unpack it",
    b"Rar!": "a RAR archive and not an image: unpack it",
    b"%PDF": "a PDF document: save its images as PNG",
    b"8BPS": "a Photoshop file: save it as PNG or TIFF",
    b"\xff\x0a": "JPEG XL, which is not read: convert it to PNG",
    b"\0\0\0\x0cJXL ": "JPEG XL, which is not read: convert it to PNG",
    b"\x93NUMPY": "a NumPy array and not an image: save it as PNG or TIFF",
    b"\x89HDF": "an HDF5 file and not an image",
    b"MATLAB": "a MATLAB file and not an image",
    b"NRRD": "an NRRD volume: save its image as DICOM, PNG or TIFF",
    b"ObjectType": "a MetaImage header: save its image as DICOM, PNG or TIFF",
}
_BROKEN = {
    b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG", b"GIF8": "GIF", b"BM": "BMP",
    b"\xff\x4f\xff\x51": "JPEG2000", b"\0\0\0\x0cjP  ": "JPEG2000",
}  # fmt: skip
_HEIC = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}
_AVIF = {b"avif", b"avis"}
_TIFF = {b"II*\0": "<", b"MM\0*": ">"}
_NUMBERS = {1: "unsigned integers", 2: "signed integers", 3: "floating-point numbers"}
_BITS, _SAMPLES, _NUMBER = 258, 277, 339  # tags of a TIFF


def describe(data: bytes) -> str:
    """Says what a file is by its first bytes; nothing if they are not known."""
    for magic, text in _MAGIC.items():
        if data.startswith(magic):
            return text
    start = data[:512].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head")):
        return (
            "an HTML page and not an image, as servers send for an error: get it anew"
        )
    if b"<svg" in start:
        return "an SVG drawing: save it as PNG"
    if start.startswith((b"<?xml", b"<")):
        return "an XML or HTML text and not an image"
    if data[4:8] == b"ftyp":
        brands = _brands(data)
        if _AVIF & brands:
            return "a damaged AVIF"
        if _HEIC & brands:
            return "HEIC, which is not read: convert it to JPEG or PNG"
    if data[:4] in _TIFF:
        return _tiff(data, _TIFF[data[:4]])
    if _starts_as_dicom(data):
        return (
            "DICOM data without the preamble of a DICOM file: write it anew, "
            "such as with dcmconv of DCMTK"
        )
    for magic, kind in _BROKEN.items():
        if data.startswith(magic):
            return f"a damaged {kind}"
    return "" if data.strip(b"\0") else "only zeros, as of an interrupted download"


def _brands(data: bytes) -> set[bytes]:
    """The brands of an ISO media file: the major one and the compatible ones."""
    size = min(int.from_bytes(data[:4]), 256)
    return {data[8:12], *(data[i : i + 4] for i in range(16, size, 4))}


def _starts_as_dicom(data: bytes) -> bool:
    """Whether the first element is one of groups 2 or 8, with a length that fits."""
    if len(data) < 16:
        return False
    group, element, short = struct.unpack("<HH2xH", data[:8])
    implicit = int.from_bytes(data[4:8], "little")
    explicit = data[4:6].isalpha() and data[4:6].isupper()
    length = short if explicit else implicit
    return group in (2, 8) and element <= 0x0070 and 0 < length <= len(data)


def _tiff(data: bytes, order: str) -> str:
    """Names the layout of a TIFF by the directory of its first image."""
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, start)
        tags = {}
        for at in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, number = struct.unpack_from(f"{order}HHI", data, at)
            where = at + 8
            if number > 2 and kind == 3:
                (where,) = struct.unpack_from(f"{order}I", data, where)
            if tag in (_BITS, _SAMPLES, _NUMBER):
                (tags[tag],) = struct.unpack_from(f"{order}H", data, where)
    except struct.error:
        return "a damaged TIFF"
    number = _NUMBERS.get(tags.get(_NUMBER, 1), "numbers of an unknown type")
    count = tags.get(_SAMPLES, 1)
    samples = "1 sample" if count == 1 else f"{count} samples"
    return (
        f"a TIFF whose layout is not read ({samples} of {tags.get(_BITS, 1)}-bit "
        f"{number}): save it with 8 or 16 bits"
    )
