"""Inputs: which images files, folders, zips, tables and standard input name."""

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from toys import picture

from featcache.dataset.sources import list_source
from featcache.dataset.sources.inputs import Inputs, open_inputs
from featcache.dataset.sources.tables import STRIPPED
from featcache.errors import DatasetError, UsageError

ODD_NAMES = ["line\nbreak.png", "bell\x07.png", "\x1b[2J.png", os.fsdecode(b"\xff.png")]


def paths(inputs: Inputs) -> list[str]:
    return [image.path for image in inputs]


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Path]:
    """Writes a CSV beside a.png and sub/b.png, which hold their names."""
    for name in ("a.png", "sub/b.png"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(name.encode())

    def write(text: str) -> Path:
        path = tmp_path / "set" / "table.csv"
        path.write_text(text)
        return path

    return write


# What is listed


def test_a_folder_is_searched_like_a_class_folder(scans: Path) -> None:
    """Recursive, in natural order, without hidden files, masks and other files."""
    (scans / "masks").mkdir()
    picture(0, 0).save(scans / "masks" / "p0_0.png")
    picture(0, 0).save(scans / "p0_10.png")
    inputs = open_inputs([scans])
    names = ["p0_0", "p0_1", "p0_10", "p1_2", "p1_3", "p1_text", "ward 2/p0_9"]
    assert paths(inputs) == [f"{scans}/{name}.png" for name in names]
    assert inputs.total == 7
    assert inputs.notes == (f"{scans}: left out because they are not images: 1 .txt",)
    scanned = list_source(_with_another_class(scans.parent)).table["path"]
    assert [f"{scans.parent}/{p}" for p in scanned if "scans" in p] == paths(inputs)


def _with_another_class(root: Path) -> Path:
    (root / "other").mkdir()
    picture(0, 0).save(root / "other" / "x.png")
    return root


def test_paths_are_as_they_were_named(
    scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative input gives relative paths, which are read where they were named."""
    monkeypatch.chdir(scans.parent)
    inputs = open_inputs(["scans/p0_0.png", "scans/ward 2/", "./scans/ward 2"])
    monkeypatch.chdir("/")
    expected = ["scans/p0_0.png", "scans/ward 2/p0_9.png", "./scans/ward 2/p0_9.png"]
    assert paths(inputs) == expected
    data = (scans / "ward 2/p0_9.png").read_bytes()
    assert [image.read() == data for image in inputs] == [False, True, True]


def test_a_zip_is_read_without_unpacking(scans: Path, tmp_path: Path) -> None:
    """Its images are named behind it, in the order of the folder that was packed."""
    archive = tmp_path / "s.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in reversed(sorted(scans.rglob("*.*"))):
            file.write(path, path.relative_to(scans))
    folder, packed = open_inputs([scans]), open_inputs([archive])
    assert paths(packed) == [p.replace(str(scans), str(archive)) for p in paths(folder)]
    assert [i.read() for i in packed] == [i.read() for i in folder]


def test_a_table_names_images_relative_to_itself(table: Callable[..., Path]) -> None:
    """Its paths stay as they are written; further columns are kept as text."""
    text = "patient, path,age\nA,a.png,007\nB,sub\\b.png,\nA,./a.png,9\n"
    inputs = open_inputs([table(text)])
    assert paths(inputs) == ["a.png", "sub\\b.png", "./a.png"]
    assert [i.read() for i in inputs] == [b"a.png", b"sub/b.png", b"a.png"]
    assert inputs.columns == ("patient", "age")
    assert [i.columns["age"] for i in inputs] == ["007", "", "9"]
    assert inputs.total == 3


def test_secrets_in_a_table_are_cut_off_with_a_note(table: Callable[..., Path]) -> None:
    """Once, however many rows and tables have some; URLs without them need no note."""
    plain = open_inputs([table("path\ns3://bucket/x.png\na.png\n")])
    assert plain.notes == ()
    path = table("path\nhttps://host/x.png?sig=hush\nhttps://me:pw@host/y.png\na.png\n")
    inputs = open_inputs([path, path])
    assert inputs.notes == (STRIPPED,)
    assert paths(inputs) == ["https://host/x.png", "https://host/y.png", "a.png"] * 2


def test_a_file_that_a_table_names_may_be_missing(table: Callable[..., Path]) -> None:
    """That is an image that cannot be read, and no error of the table."""
    for path in ("gone.png", "sub", "a\0.png", "/nowhere/x.png"):
        (image,) = open_inputs([table(f'path\n"{path}"\n')])
        with pytest.raises((OSError, ValueError)):
            image.read()


def test_standard_input_names_a_file_per_line(scans: Path) -> None:
    """Empty lines are none; a byte that is not UTF-8 is kept; folders are no images."""
    lines = f"{scans}/p0_0.png\n\n{scans}/p0_1.png\r\n{scans}".encode() + b"\n\xff.png"
    inputs = open_inputs(["-"], io.BytesIO(lines))
    assert inputs.total is None
    images = list(inputs)
    names = [f"{scans}/p0_0.png", f"{scans}/p0_1.png", str(scans), "\udcff.png"]
    assert [image.path for image in images] == names
    assert images[1].read() == (scans / "p0_1.png").read_bytes()
    for image in images[2:]:
        with pytest.raises(OSError):  # noqa: PT011
            image.read()


def test_standard_input_is_taken_as_it_comes(scans: Path) -> None:
    """Of a list without an end only the lines that are needed are read."""
    taken = []

    def endless() -> Any:
        while True:
            taken.append(1)
            yield b"x.png\n"

    inputs = iter(open_inputs(["-"], endless()))
    assert [next(inputs).path for _ in range(3)] == ["x.png"] * 3
    assert len(taken) <= 4


def test_a_minus_is_a_file_where_there_is_no_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python has no other way to name it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-").write_bytes(b"x")
    assert [image.read() for image in open_inputs(["-"])] == [b"x"]


def test_pictures_and_arrays_are_inputs_too() -> None:
    """Their bytes are those that the embedder knows them by."""
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    inputs = open_inputs([grey, Image.fromarray(grey)])
    assert [(i.path, i.read()[:2]) for i in inputs] == [("", b"P5")] * 2
    with pytest.raises(UsageError, match="an array of float64"):
        open_inputs([grey.astype(float)])


def test_several_inputs_are_listed_in_their_order(
    scans: Path, table: Callable[..., Path]
) -> None:
    """What is named twice is there twice; columns of tables are joined."""
    file = scans / "p1_3.png"
    inputs = open_inputs([file, table("path,ward\na.png,3\n"), scans / "ward 2", file])
    ward = f"{scans}/ward 2/p0_9.png"
    assert paths(inputs) == [str(file), "a.png", ward, str(file)]
    assert inputs.columns == ("ward",)
    assert inputs.total == 4
    assert paths(inputs) == paths(inputs)


# What is hostile


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_are_read_and_escaped(tmp_path: Path, name: str) -> None:
    """A file is read whatever it is called, and what is printed of it is harmless."""
    (tmp_path / name).write_bytes(b"x")
    for inputs in (open_inputs([tmp_path]), open_inputs([tmp_path / name])):
        (image,) = inputs
        assert image.read() == b"x"
        assert image.printed_path == f"{tmp_path}/{ascii(name)[1:-1]}"
        assert image.printed_path.encode().decode().isprintable()


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_are_escaped_in_errors(tmp_path: Path, name: str) -> None:
    """A missing file is an error in one printable line."""
    with pytest.raises(DatasetError) as caught:
        open_inputs([tmp_path / name])
    assert str(caught.value).isprintable()


def test_links_in_circles_end(tmp_path: Path) -> None:
    """Also where each of two folders holds a link to the other one."""
    for name, other in (("A", "B"), ("B", "A")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(b"x")
        (tmp_path / name / "link").symlink_to(tmp_path / other)
    (tmp_path / "self").symlink_to("self")
    inputs = open_inputs([tmp_path])
    names = ["A/x.png", "A/link/x.png", "B/x.png", "B/link/x.png"]
    assert sorted(paths(inputs)) == sorted(f"{tmp_path}/{name}" for name in names)


def test_a_large_table_is_listed_fast(table: Callable[..., Path]) -> None:
    """10,000 rows, of which none is opened."""
    rows = "".join(f"{n}.png,P{n}\n" for n in range(10_000))
    inputs = open_inputs([table(f"path,patient\n{rows}")])
    assert inputs.total == len(paths(inputs)) == 10_000


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_an_error(scans: Path) -> None:
    """Nothing of it would be answered."""
    (scans / "ward 2").chmod(0)
    try:
        with pytest.raises(DatasetError, match="Permission denied"):
            open_inputs([scans])
    finally:
        (scans / "ward 2").chmod(0o755)


def test_a_folder_that_cannot_be_listed_is_an_error(
    scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line that names it."""

    def listdir(path: Any) -> list[str]:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "listdir", listdir)
    with pytest.raises(DatasetError, match=r"Permission denied: .*scans"):
        open_inputs([scans])


# What is refused


def empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    (folder / "empty" / "notes.txt").write_text("x")
    return folder / "empty"


def packed(name: str) -> Callable[[Path], Path]:
    def pack(folder: Path) -> Path:
        with zipfile.ZipFile(folder / "s.zip", "w") as file:
            file.writestr(name, b"x")
        return folder / "s.zip"

    return pack


def written(name: str, text: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_text(text)
        return folder / name

    return write


@pytest.mark.parametrize(
    ("make", "got"),
    [
        (lambda folder: folder / "gone.png", "no such file: "),
        (lambda folder: "", "no such file: "),
        (lambda folder: "a\0b", "no such file: "),
        (lambda folder: "x" * 5000, "no such file: "),
        (empty, "1 .txt files"),
        (packed("notes.txt"), "1 .txt files"),
        (packed("../up.png"), "others: '../up.png'"),
        (packed("/etc/x.png"), "others: '/etc/x.png'"),
        (written("s.zip", "no zip"), "not a complete zip file"),
        (written("t.csv", ""), "No columns to parse"),
        (written("t.csv", "path\n"), "none"),
        (written("t.csv", "file,label\na.png,A\n"), "columns 'file', 'label'"),
        (written("t.csv", "path;label\na.png;A\n"), "columns 'path;label'"),
        (written("t.csv", "path,age\na.png,3\n,4\n"), "none in: row 3"),
        (written("t.csv", "path\na.png,3\n"), "more fields"),
    ],
)  # fmt: skip
def test_what_names_no_images_is_refused(
    tmp_path: Path, make: Callable[[Path], Any], got: str
) -> None:
    """In one line that says what is there instead."""
    with pytest.raises(DatasetError) as caught:
        open_inputs([make(tmp_path)])
    assert got in caught.value.got
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("lines", [b"", b"\n\n", b"  \n"])
def test_empty_standard_input_is_refused(lines: bytes) -> None:
    """As is a list of no inputs."""
    with pytest.raises(DatasetError, match="standard input"):
        open_inputs(["-"], io.BytesIO(lines))
    with pytest.raises(DatasetError, match="no inputs"):
        open_inputs([])


def test_a_file_is_an_image_whatever_its_name(tmp_path: Path) -> None:
    """A pipe, a device or a text is for the reader to report."""
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "notes.txt").write_text("x")
    pipe, text, device = open_inputs(
        [tmp_path / "pipe.png", tmp_path / "notes.txt", "/dev/null"]
    )
    assert text.read() == b"x"
    for image in (pipe, device):
        with pytest.raises(OSError, match="not a regular file"):
            image.read()
