"""Rules of DICOM files: which are refused, and what of a patient stays private."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_dicom import DEEP, dataset, file_of, radiograph
from test_images import RAMP, encode, reason
from test_scan import column
from toys import picture

from featcache.commands.scan import scan
from featcache.dataset import images
from featcache.dataset.images import dicom
from featcache.errors import DatasetError, UsageError

pydicom = pytest.importorskip("pydicom")

from pydicom import uid  # noqa: E402
from pydicom.encaps import encapsulate  # noqa: E402

NEEDS = "needs pydicom: pip install 'featcache[dicom]'"


# What is refused


def without(keyword: str) -> bytes:
    made = dataset(RAMP)
    del made[keyword]
    return file_of(made)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (lambda: radiograph(np.zeros((12, 4), np.uint8), Rows=1, NumberOfFrames=12),
         "12 frames: only files with one image can be used"),
        (lambda: without("PixelData"), "a DICOM file without pixels"),
        (lambda: radiograph(RAMP)[:-40], "pixel data"),
        (lambda: radiograph(RAMP)[:150], "DICOM"),
        (lambda: radiograph(RAMP)[:132], "DICOM"),
        (lambda: bytes(128) + b"DICM" + bytes(range(256)) * 4, "DICOM"),
        (lambda: without("Rows"), "without pixels"),
        (lambda: without("PhotometricInterpretation"), "hotometric"),
        (lambda: radiograph(RAMP, Rows=60000, Columns=60000), "too many"),
        (lambda: radiograph(RAMP, PhotometricInterpretation="ARGB"), "ARGB"),
    ],
    ids=["frames", "no pixels", "cut", "cut header", "magic alone", "junk",
         "no rows", "no kind", "bomb", "odd colours"],
)  # fmt: skip
def test_what_is_no_single_whole_picture_is_refused(
    data: Callable[[], bytes], why: str
) -> None:
    """Each with a reason of one line."""
    found = reason(data())
    assert why in found
    assert "\n" not in found


@pytest.mark.parametrize("syntax", [uid.JPEGLosslessSV1, uid.JPEGLSLossless])
def test_a_compression_without_its_plug_in_is_named(
    syntax: uid.UID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason says which compression, and which packages would read it."""
    decoder = pydicom.pixels.get_decoder(syntax)
    monkeypatch.setattr(decoder, "_available", {})  # whatever is installed here
    found = reason(
        radiograph(RAMP, TransferSyntaxUID=syntax, PixelData=encapsulate([b"\xff\xd8"]))
    )
    assert syntax.name in found
    assert "pylibjpeg" in found


def forget_pydicom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes every import of it fail, as where it is not installed."""
    for name in ["pydicom", *sys.modules]:
        if name.split(".")[0] == "pydicom":
            monkeypatch.setitem(sys.modules, name, None)


def test_without_pydicom_the_reason_is_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DICOM is an extra; who lacks it is told how to get it."""
    data = radiograph(RAMP)
    forget_pydicom(monkeypatch)
    assert reason(data) == NEEDS
    assert dicom.pseudonym(data) == ""
    with pytest.raises(UsageError, match="featcache\\[dicom\\]"):
        dicom.check_keyword("PatientID")


def test_a_deflated_file_is_read_unless_it_is_a_bomb(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is unpacked step by step and not kept, to see how large it would be."""
    deflated = uid.DeflatedExplicitVRLittleEndian
    data = radiograph(np.zeros((900, 900), np.uint8), TransferSyntaxUID=deflated)
    assert len(data) < 5000
    assert images.decode(data).size == (900, 900)
    monkeypatch.setattr(dicom, "LIMIT", 2**20)
    assert reason(data).startswith("a deflated DICOM file that unpacks to over")


def test_a_picture_inside_is_as_large_as_the_file_says() -> None:
    """A small file with a large JPEG inside is refused by the JPEG's header."""
    inside = encode(np.zeros((300, 400), np.uint8), "JPEG")
    data = radiograph(
        RAMP, TransferSyntaxUID=uid.JPEGBaseline8Bit, PixelData=encapsulate([inside])
    )
    assert reason(data) == ("a picture of 400x300 pixels inside a file that says 16x16")


def rle(units: bytes) -> bytes:
    """A frame of one segment in RLE."""
    header = np.array([1, 64, *[0] * 14], "<u4").tobytes()
    return radiograph(
        RAMP, TransferSyntaxUID=uid.RLELossless, PixelData=encapsulate([header + units])
    )


def test_rle_unpacks_to_no_more_than_its_picture() -> None:
    """Two bytes unpack to 128; of a whole picture up to twice as many are borne."""
    assert images.decode(rle(b"\x81\x07" * 2)).size == (16, 16)
    assert images.decode(rle(b"\x81\x07" * 3)).size == (16, 16)
    data = rle(b"\x81\x07" * 50_000)  # 6.4 MB
    assert reason(data) == "RLE that unpacks to over 1049088 bytes, of 16x16 pixels"


def long_table() -> bytes:
    item = pydicom.Dataset()
    item.add_new("LUTDescriptor", "US", [256, 0, 8])
    item.add_new("LUTData", "OW", bytes(2**20 + 2))
    return radiograph(RAMP, ModalityLUTSequence=pydicom.Sequence([item]))


def palette_in_segments() -> bytes:
    made = dataset(RAMP)
    made.add_new("SegmentedRedPaletteColorLookupTableData", "OW", bytes(8))
    return file_of(made)


def offsets(length: int) -> bytes:
    table = b"\xfe\xff\x00\xe0" + length.to_bytes(4, "little")
    syntax = uid.RLELossless
    data = table + bytes(length) + encapsulate([bytes(64)], has_bot=False)[8:]
    return radiograph(RAMP, TransferSyntaxUID=syntax, PixelData=data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (lambda: radiograph(RAMP, Rows=256, SamplesPerPixel=60000), "too many"),
        (lambda: radiograph(RAMP, Rows=1, Columns=65535, BitsAllocated=65528),
         "too many"),
        (long_table, "are the most"),
        (palette_in_segments, "a palette in segments"),
        (lambda: offsets(2**20 + 4), "a table of offsets"),
    ],
    ids=["samples", "bits", "table", "segments", "offsets"],
)  # fmt: skip
def test_what_would_unpack_to_much_more_is_refused(
    data: Callable[[], bytes], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what the file declares: nothing of it is decoded."""
    monkeypatch.setattr(dicom, "decode", lambda dataset: pytest.fail("decoded"))
    assert why in reason(data())


def test_mutilated_files_raise_nothing_else() -> None:
    """200 files with bytes changed or cut either decode or say why not."""
    rng = np.random.default_rng(0)
    whole = radiograph(DEEP.repeat(20, 0), WindowCenter=9, WindowWidth=9, PatientID="x")
    refused = 0
    for _ in range(200):
        broken = np.frombuffer(whole, np.uint8).copy()
        broken[rng.integers(132, len(whole), 4)] = rng.integers(0, 256, 4)
        data = broken[: rng.integers(len(whole) // 2, len(whole))].tobytes()
        dicom.pseudonym(data)
        try:
            images.inspect(data)
        except DatasetError as error:
            refused += bool(error.got)
    assert refused > 100


# Patients


def test_a_pseudonym_is_the_digest_of_the_id() -> None:
    """Equal ids, equal pseudonyms; no id, none; other elements by their names."""
    data = radiograph(RAMP, PatientID=" 0815 ", StudyInstanceUID="1.2")
    assert dicom.pseudonym(data) == "patient-c57a5df4f97e"
    assert dicom.pseudonym(data, "StudyInstanceUID").startswith("StudyInstanceUID-")
    assert dicom.pseudonym(radiograph(RAMP, PatientID="")) == ""
    assert dicom.pseudonym(radiograph(RAMP)) == ""
    assert dicom.pseudonym(b"no DICOM") == ""


@pytest.fixture
def hospital(tmp_path: Path) -> Path:
    """Two classes of three radiographs; P1 is in both, the last names nobody."""
    root = tmp_path / "hospital"
    for i, (name, patient) in enumerate(
        [("A/1.dcm", "P1"), ("A/IM0001", "P2"), ("A/1.2.840.77", "P2"),
         ("B/1.DCM", "P1"), ("B/2.dicom", "P3"), ("B/3.dcm", "")]
    ):  # fmt: skip
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.asarray(picture(i, 120)).astype(np.uint16) * 16
        elements = {"PatientID": patient, "PatientName": "Doe^Jane", "BitsStored": 12}
        path.write_bytes(radiograph(pixels, PatientBirthDate="19700101", **elements))
    (root / "A" / "README").write_text("no picture " * 20)
    (root / "A" / "DICOMDIR").write_bytes((root / "A" / "1.dcm").read_bytes())
    return root


def test_files_without_a_suffix_are_known_by_their_magic(
    hospital: Path, tmp_path: Path
) -> None:
    """UIDs and IM0001 are images; a README is not, nor the index DICOMDIR."""
    result = scan(hospital, tmp_path / "cache")
    table = result.manifest.table
    assert table["path"].tolist() == [
        "A/1.2.840.77", "A/1.dcm", "A/IM0001", "B/1.DCM", "B/2.dicom", "B/3.dcm",
    ]  # fmt: skip
    assert set(table["status"]) == {"ok"}
    assert set(table["mode"]) == {"MONOCHROME2"}
    assert any("1 (no suffix)" in warning for warning in result.warnings)


def test_patients_are_kept_together_where_asked(hospital: Path, tmp_path: Path) -> None:
    """P1's two files are a group, P2's another; who has no id is alone, and told."""
    result = scan(hospital, tmp_path / "cache", group_by="dicom:PatientID")
    groups = column(result, "group")
    assert groups["A/1.dcm"] == groups["B/1.DCM"] != groups["B/2.dicom"]
    assert groups["A/IM0001"] == groups["A/1.2.840.77"]
    assert groups["A/1.dcm"] == dicom.pseudonym((hospital / "A/1.dcm").read_bytes())
    assert result.n_groups == 4
    assert "1 file has no group; each becomes a group of its own" in result.warnings
    again = scan(hospital, tmp_path / "cache")
    assert again.manifest.table.equals(result.manifest.table)
    assert again.n_new == 0


def test_who_does_not_ask_is_told_of_patients(hospital: Path, tmp_path: Path) -> None:
    """Near-duplicates are the default here too, with a word on the better way."""
    result = scan(hospital, tmp_path / "cache")
    assert result.manifest.settings.group_by == "near-duplicate"
    assert any("`group_by='dicom:PatientID'`" in w for w in result.warnings)
    for path in hospital.glob("*/*"):
        if path.name != "3.dcm":
            path.write_bytes((hospital / "B/3.dcm").read_bytes() + path.name.encode())
    nobody = scan(hospital, tmp_path / "cache").warnings
    assert not any("dicom:PatientID" in warning for warning in nobody)


@pytest.mark.parametrize("group_by", [None, "dicom:PatientID", "dicom:PatientName"])
def test_nothing_that_names_a_patient_is_written(
    hospital: Path, tmp_path: Path, group_by: str | None
) -> None:
    """Neither the id nor the name nor the birthday is in any file of the cache."""
    (hospital / "A" / "cut.dcm").write_bytes((hospital / "A/1.dcm").read_bytes()[:-9])
    scan(hospital, tmp_path / "cache", group_by=group_by)
    written = [p.read_bytes() for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    assert len(written) == 2 + (group_by is None)  # with pictures of 32x32 pixels
    for secret in (b"Doe", b"Jane", b"19700101", b"P1,", b"P1\n"):
        assert all(secret not in data for data in written)


@pytest.mark.parametrize(
    ("group_by", "got"),
    [("dicom:", "none"), ("dicom:Patient", "Patient"), ("dicom:AccessionNumber", "no")],
)
def test_an_element_that_is_not_there_is_refused(
    hospital: Path, tmp_path: Path, group_by: str, got: str
) -> None:
    """Whether DICOM has no such element or these files do not carry it.

    Nothing is published; what was read may stay in the journal, for the next call.
    """
    with pytest.raises((UsageError, DatasetError)) as caught:
        scan(hospital, tmp_path / "cache", group_by=group_by)
    assert caught.value.got.startswith(got)
    left = [path.name for path in (tmp_path / "cache" / "hospital").glob("*")]
    assert left in ([], ["scan.journal"])


def test_without_pydicom_only_dicom_is_lost(
    hospital: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other images are scanned, and DICOM as soon as pydicom is there."""
    for name in "AB":
        picture(ord(name), 120).save(hospital / name / "plain.png")
    with monkeypatch.context() as patch:
        forget_pydicom(patch)
        result = scan(hospital, tmp_path / "cache")
        assert result.counts == {"A": 1, "B": 1}
        assert {why for _, why in result.unreadable} == {NEEDS}
    assert scan(hospital, tmp_path / "cache").counts == {"A": 4, "B": 4}


def test_copies_are_known_by_their_bytes(hospital: Path, tmp_path: Path) -> None:
    """A copy of a DICOM file is a duplicate, as of any other."""
    shutil.copy(hospital / "A" / "IM0001", hospital / "A" / "IM0002")
    assert scan(hospital, tmp_path / "cache").duplicates == 1
