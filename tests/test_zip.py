"""Rules of zips: their images are listed and read without unpacking."""

import os
import re
import struct
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from test_images import encode
from test_scan import column
from test_sources import paths, rows
from toys import picture

import featcache
from featcache import backbones
from featcache.commands.extract import extract
from featcache.commands.scan import scan
from featcache.dataset.sources import list_source, read_bytes
from featcache.dataset.sources.reading import LIMIT
from featcache.errors import DatasetError


def pack(path: Path, *names: str, **contents: bytes) -> Path:
    """Writes a zip of members that hold their own names, or what is given."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in (*names, *contents):
            archive.writestr(name, contents.get(name, name.encode()))
    return path


@pytest.fixture
def packed(image_folder: Path, tmp_path: Path) -> Path:
    """The folder of images as a zip, as a file manager packs it."""
    path = tmp_path / "Chest X-rays.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(image_folder.rglob("*")):
            archive.write(file, file.relative_to(image_folder.parent))
        archive.writestr("__MACOSX/chest/COVID/._p000.png", b"junk")
    return path


# Listing


def test_a_zip_is_listed_as_the_folder_that_was_packed(
    packed: Path, image_folder: Path
) -> None:
    """The same files with the same labels, one folder down; the root is the zip."""
    listing, folder = list_source(packed), list_source(image_folder)
    assert rows(listing) == [(f"chest/{path}", label) for path, label in rows(folder)]
    assert (listing.root, listing.warnings) == (packed, [])


@pytest.mark.parametrize("top", ["", "chest-main/"])
@pytest.mark.parametrize("separator", ["/", "\\"])
def test_the_rules_are_those_of_folders(
    tmp_path: Path, top: str, separator: str
) -> None:
    """Order, masks, images/, hidden files, notes; with or without a top folder."""
    names = [
        "COVID/images/c (2).png", "COVID/images/c (10).png", "COVID/masks/c (2).png",
        "COVID/loose.png", "N/deep/er/n.jpg", "N/.hidden.png", "N/readme.txt",
        "N/IM0001", "empty/x.md", "masks/x.png", "README.md",
    ]  # fmt: skip
    stored = [(top + name).replace("/", separator) for name in names]
    listing = list_source(pack(tmp_path / "s.zip", *stored))
    assert rows(listing) == [
        (f"{top}COVID/images/c (2).png", "COVID"),
        (f"{top}COVID/images/c (10).png", "COVID"),
        (f"{top}N/deep/er/n.jpg", "N"),
    ]
    assert listing.table["mask"].tolist() == [f"{top}COVID/masks/c (2).png", "", ""]
    assert listing.warnings == [
        "folder empty contains no images, so it is not a class",
        "left out because they are not images: 1 (no suffix), 1 .md, 1 .txt, "
        "1 beside images/",
    ]
    assert read_bytes(listing.root, paths(listing)[0]) == stored[0].encode()


def test_names_of_members_are_those_of_files(tmp_path: Path) -> None:
    """``a//b`` is no class without a name, and ``./a/b`` no class called dot."""
    members = ("A//x.png", "./A/y.png", "B/./z.png", "B\\w.png", "./", "C//")
    listing = list_source(pack(tmp_path / "s.zip", *members))
    assert rows(listing) == [
        ("A/x.png", "A"), ("A/y.png", "A"), ("B/w.png", "B"), ("B/z.png", "B"),
    ]  # fmt: skip
    assert read_bytes(listing.root, "A/x.png") == b"A//x.png"


def test_listing_reads_no_member(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names come from the directory at the zip's end."""
    monkeypatch.setattr(zipfile.ZipFile, "open", None)
    assert len(list_source(packed, per_class=2).table) == 6


@pytest.mark.parametrize("top", ["", "set/"])
@pytest.mark.parametrize("folder", ["", "img/"])
def test_without_class_folders_a_metadata_csv_is_the_table(
    tmp_path: Path, top: str, folder: str
) -> None:
    """Its paths are relative to it, and its columns are kept."""
    table = f"path,label,patient\n{folder}a.png,A,p1\n{folder}b.png,B,p2\n"
    names = [f"{top}{folder}{name}.png" for name in "ab"]
    source = pack(tmp_path / "s.zip", *names, **{f"{top}metadata.csv": table.encode()})
    listing = list_source(source)
    assert rows(listing) == [(names[0], "A"), (names[1], "B")]
    assert listing.table["patient"].tolist() == ["p1", "p2"]


def test_class_folders_come_before_a_metadata_csv(tmp_path: Path) -> None:
    """Where there are classes, the CSV is a file beside them."""
    source = pack(tmp_path / "s.zip", "A/a.png", "B/b.png", "metadata.csv")
    assert rows(list_source(source)) == [("A/a.png", "A"), ("B/b.png", "B")]


@pytest.mark.parametrize(
    ("names", "got"),
    [
        ([], "no files"),
        (["a.png", "b.png"], "2 images directly in the folder"),
        (["A/a.png"], "one: A"),
        (["top/A/a.png"], "one: A"),
        (["A/a.png", "B/b.png", "../../etc/x.png"], "others: '../../etc/x.png'"),
        (["A/a.png", "B/b.png", "/etc/x.png"], "others: '/etc/x.png'"),
        (["A/a.png", "B/b.png", "C:\\x.png"], "others: 'C:/x.png'"),
        (["A/a.png", "B\x1b[2J/b.png"], r"others: 'B\x1b[2J'"),
        (["a.png", "metadata.csv"], "columns 'metadata.csv'"),
    ],
)
def test_a_zip_that_cannot_be_used_is_refused(
    tmp_path: Path, names: list[str], got: str
) -> None:
    """The error says what is there instead."""
    with pytest.raises(DatasetError) as caught:
        list_source(pack(tmp_path / "s.zip", *names))
    assert got in caught.value.got


@pytest.mark.parametrize("damage", ["text", "empty", "cut", "directory"])
def test_a_broken_zip_is_told(packed: Path, tmp_path: Path, damage: str) -> None:
    """A download cut short, or what only bears the name, is an error in one line."""
    data = packed.read_bytes()
    packed.write_bytes(
        {
            "text": b"no zip",
            "empty": b"",
            "cut": data[: len(data) // 2],
            "directory": data.replace(b"PK\x01\x02", b"XX\x01\x02"),
        }[damage]
    )
    with pytest.raises(DatasetError, match="not a complete zip file") as caught:
        scan(packed, tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("cache/*"))


def test_a_folder_called_zip_is_a_folder(tmp_path: Path) -> None:
    """The suffix alone makes no zip."""
    for name in ("A/a.png", "B/b.png"):
        (tmp_path / "s.zip" / name).parent.mkdir(parents=True)
        (tmp_path / "s.zip" / name).write_bytes(b"x")
    listing = list_source(tmp_path / "s.zip")
    assert paths(listing) == ["A/a.png", "B/b.png"]
    assert read_bytes(listing.root, "A/a.png") == b"x"


# Reading


def test_members_are_read_by_their_paths(packed: Path, image_folder: Path) -> None:
    """Every file has the bytes that it has in the folder."""
    for path in paths(list_source(packed)):
        assert read_bytes(packed, path) == (image_folder.parent / path).read_bytes()


@pytest.mark.parametrize("root", ["s.zip", "folder", "gone.zip", "gone"])
def test_what_is_not_there_is_an_oserror(tmp_path: Path, root: str) -> None:
    """In a zip as in a folder, with a text that says so."""
    pack(tmp_path / "s.zip", "A/a.png")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FileNotFoundError) as caught:
        read_bytes(tmp_path / root, "A/nowhere.png")
    assert "o such file" in str(caught.value.strerror)


def test_the_directory_is_read_once_for_all_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3,000 reads from 8 threads open the zip once, and each is the right member."""
    names = [f"A/{i}.png" for i in range(200)]
    source = pack(tmp_path / "s.zip", *names)
    opened = []
    original = zipfile.ZipFile.__init__

    def counting(self: zipfile.ZipFile, *given: object, **named: object) -> None:
        opened.append(given)
        original(self, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(zipfile.ZipFile, "__init__", counting)
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda name: read_bytes(source, name), names * 15)
        assert list(found) == [name.encode() for name in names * 15]
    assert len(opened) == 1


def test_a_zip_that_changes_is_opened_anew(tmp_path: Path) -> None:
    """What is read is what is there now."""
    for text in (b"first", b"second"):
        source = pack(tmp_path / "s.zip", **{"A/a.png": text})
        assert read_bytes(source, "A/a.png") == text


def test_a_reader_outlives_the_cache_of_zips(tmp_path: Path) -> None:
    """Ten zips at once, read in turns, do not close one another."""
    sources_ = [pack(tmp_path / f"{i}.zip", f"{i}.png") for i in range(10)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            found = pool.map(lambda i: read_bytes(sources_[i], f"{i}.png"), range(10))
            assert list(found) == [f"{i}.png".encode() for i in range(10)]


def test_a_child_process_does_not_disturb_its_parent(tmp_path: Path) -> None:
    """After a fork both read right bytes: they share no place in the file."""
    names = [f"A/{i}.png" for i in range(200)]
    source = pack(tmp_path / "s.zip", *names)
    read_bytes(source, names[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of forking where there are threads
        child = os.fork()
    wrong = sum(read_bytes(source, n) != n.encode() for n in names * 5)
    if child == 0:
        os._exit(wrong != 0)
    assert os.waitpid(child, 0)[1] == 0
    assert wrong == 0


def patched(source: Path, name: str, offset: int, form: str, value: int) -> None:
    """Writes a number into a member's entry of the directory."""
    data = bytearray(source.read_bytes())
    start = data.rindex(b"PK\x01\x02", 0, data.rindex(name.encode()))
    struct.pack_into(form, data, start + offset, value)
    source.write_bytes(data)


@pytest.mark.parametrize(
    ("offset", "form", "value", "why"),
    [
        (8, "<H", 1, "encrypted"),
        (24, "<I", LIMIT + 1, "larger than 1 GiB"),
        (24, "<I", 10**7, "unpacks to over 1000 times its size"),
        (10, "<H", 9, "damaged in the zip (That compression method"),
        (16, "<I", 12345, "damaged in the zip (Bad CRC-32"),
        (42, "<I", 3, "damaged in the zip (Bad magic number"),
    ],
    ids=["encrypted", "large", "bomb", "compression", "checksum", "place"],
)
def test_a_member_that_cannot_be_read_has_a_reason(
    packed: Path, tmp_path: Path, offset: int, form: str, value: int, why: str
) -> None:
    """It is unreadable as a bad file is, and the others are scanned."""
    name = "chest/NORMAL/p102_NORMAL (5).png"
    patched(packed, name, offset, form, value)
    with pytest.raises(OSError, match=re.escape(why)):
        read_bytes(packed, name)
    result = scan(packed, tmp_path / "cache")
    assert [path for path, _ in result.unreadable] == [name]
    assert why in result.unreadable[0][1]
    assert result.counts == {"COVID": 12, "NORMAL": 11, "Viral Pneumonia": 12}


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    """50 MB of zeros pack to a thousandth, and are left alone."""
    zeros = encode(np.zeros((7000, 7000), np.uint8), "BMP")
    source = pack(
        tmp_path / "s.zip",
        **{"A/a.bmp": zeros, "A/b.png": encode(picture(1, 99)),
           "B/c.png": encode(picture(2, 99))},
    )  # fmt: skip
    result = scan(source, tmp_path / "cache")
    reason = "cannot be read: unpacks to over 1000 times its size"
    assert result.unreadable == [("A/a.bmp", reason)]


def test_mutilated_zips_raise_nothing_else(packed: Path) -> None:
    """200 zips with bytes changed are listed and read, or refused."""
    rng = np.random.default_rng(0)
    whole = packed.read_bytes()
    directory = whole.index(b"PK\x01\x02")
    for _ in range(200):
        data = np.frombuffer(whole, np.uint8).copy()
        data[rng.integers(directory, len(data), 3)] = rng.integers(0, 256, 3)
        packed.write_bytes(data.tobytes())
        try:
            listing = list_source(packed)
        except DatasetError:
            continue
        for path in paths(listing):
            with suppress(OSError):
                read_bytes(packed, path)


# Plain files


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    """Opening one would wait for ever; so would a device give bytes for ever."""
    os.mkfifo(tmp_path / "x.png")
    (tmp_path / "y.png").symlink_to("/dev/zero")
    for name in ("x.png", "y.png"):
        with pytest.raises(OSError, match="not a regular file"):
            read_bytes(tmp_path, name)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    """Over 1 GiB (here of holes) nothing is a picture."""
    with (tmp_path / "x.png").open("wb") as file:
        file.truncate(LIMIT + 1)
    with pytest.raises(OSError, match="larger than 1 GiB"):
        read_bytes(tmp_path, "x.png")


# Scans


def test_a_scan_of_a_zip_equals_that_of_the_folder(
    packed: Path, image_folder: Path, tmp_path: Path
) -> None:
    """Ids, sizes, hashes and groups are the same; the dataset is named by the zip."""
    by = r"(p\d+)"
    result = scan(packed, tmp_path / "cache", group_by=by)
    folder = scan(image_folder, tmp_path / "cache", group_by=by).manifest.table
    assert result.manifest.dataset == "Chest-X-rays"
    assert result.manifest.root == packed
    table = result.manifest.table
    assert table["path"].tolist() == [f"chest/{path}" for path in folder["path"]]
    assert table.drop(columns="path").equals(folder.drop(columns="path"))
    again = scan(packed, tmp_path / "cache")
    assert again.n_new == 0
    assert again.manifest.table.equals(table)


def test_what_was_unpacked_keeps_its_features(
    packed: Path, image_folder: Path, tmp_path: Path
) -> None:
    """The dataset may move from the zip to the folder: its images are known."""
    first = scan(packed, tmp_path / "cache", dataset="x")
    second = scan(image_folder, tmp_path / "cache", dataset="x")
    assert second.n_new == 0
    ids = [list(column(result, "image_id").values()) for result in (first, second)]
    assert ids[0] == ids[1]


def test_a_zip_and_its_folder_give_the_same_features(
    packed: Path, image_folder: Path, tmp_path: Path, toy_network: Path
) -> None:
    """Extraction reads the members too, and what was unpacked is not run again."""
    network = backbones.resolve(str(toy_network))
    caches = tmp_path / "zip", tmp_path / "folder"
    stores = []
    for source, cache in zip((packed, image_folder), caches, strict=True):
        manifest = scan(source, cache, dataset="x").manifest
        [result] = extract(manifest, [network], engine="tensorflow")
        assert (result.computed, result.failures) == (36, [])
        stores.append(featcache.load(result.path).X)
    assert np.array_equal(*stores)
    manifest = scan(image_folder, caches[0], dataset="x").manifest
    assert extract(manifest, [network], engine="tensorflow")[0].computed == 0
