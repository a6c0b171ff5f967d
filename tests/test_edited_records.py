"""Records and tables that a person or another program has edited, or damaged."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_manifest import made
from toys import write_images

from featcache.commands.scan import scan
from featcache.dataset import manifest
from featcache.dataset.sources import list_source
from featcache.dataset.splits import load_or_make, read_folds
from featcache.errors import DatasetError, FeatcacheError, SplitError

HUGE = "9" * 30
ROWS = {"labels": ["A", "B"] * 6, "groups": [f"p{i}" for i in range(12)]}
IDS = [f"{i:064x}" for i in range(12)]


def load_split(path: Path) -> None:
    load_or_make(path, IDS, **ROWS, name="x", folds=2)


def write_split(folder: Path) -> Path:
    load_split(folder / "splits-x.json")
    return folder / "splits-x.json"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (",4,6,", f",{HUGE},6,", "width that is no number"),
        (",4,6,", ",18446744073709551615,6,", "width that is no number"),
        (",4,6,", ",-4,6,", "width that is no number"),
        (",4,6,", ",4.0,6,", "width that is no number"),
        (",4,6,", ",NaN,6,", "width that is no number"),
        ("1" * 64, "x", "image_id that is no SHA-256"),
        ("path1", "", "path that is empty"),
        ("path1", "a\0b", "NUL"),
        ("label1", "", "label that is empty"),
        (",ok,", ",unreadable,", "no usable image"),
        ("image_id,", "image,", "columns image, path"),
    ],
)
def test_an_edited_manifest_is_told(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    """One line with what is wrong, and the command that scans alike."""
    manifest.save(made(tmp_path / "d"))
    path = tmp_path / "d" / "manifest.csv"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(DatasetError, match=said) as caught:
        manifest.load(tmp_path / "d")
    assert caught.value.hint == (
        "Scan the source again: featcache scan /src --dataset d --group-by image"
    )
    assert "\n" not in str(caught.value)


def test_one_image_in_two_rows_is_told(tmp_path: Path) -> None:
    """The same id twice would put one image into two parts."""
    manifest.save(made(tmp_path / "d", image_id=["1" * 64] * 2, status=["ok", "ok"]))
    with pytest.raises(DatasetError, match="an image_id in two rows"):
        manifest.load(tmp_path / "d")


@pytest.mark.parametrize(
    "text",
    [
        '{"schema": 1, "settings": {"source": "/x", "root": "/x", "group_by": 1e999}}',
        '{"schema": 1, "settings": {"source": "/x", "root": "/x", "group_by": ""}}',
        '{"schema": 1, "settings": {"source": "/", "root": "\\u0000", "group_by": ""}}',
        '{"schema": true, "settings": {"source": "/x", "root": "/x", "group_by": "a"}}',
        '{"schema": 1, "settings": {"source": "/x", "root": "/x", "group_by": "a", '
        '"per_class": -1}}',
        '{"schema": 1, "settings": {"source": "/x", "root": "/x", "group_by": "a", '
        '"on_conflict": "keep"}}',
        '{"schema": 1, "settings": []}', "null", "[" * 100_000, '"' + "\ud800",
    ],
    ids=range(10),
)  # fmt: skip
def test_edited_settings_are_told_and_healed(tmp_path: Path, text: str) -> None:
    """One line says how; that command then heals."""
    source = write_images(tmp_path / "chest")
    first = scan(source, tmp_path / "c", per_class=2)
    record = tmp_path / "c" / "chest" / "dataset.json"
    record.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(DatasetError, match="Scan the source again: featcache scan"):
        manifest.load(record.parent)
    with pytest.raises(DatasetError, match="--dataset chest"):
        scan(source, tmp_path / "c")
    healed = scan(source, tmp_path / "c", dataset="chest", per_class=2)
    assert healed.manifest.table.equals(first.manifest.table)


@pytest.mark.parametrize(
    "change",
    [
        {"images": {IDS[0]: True}}, {"images": {IDS[0]: 0.0}}, {"images": {IDS[0]: 2}},
        {"images": {IDS[0]: -2}}, {"images": {IDS[0]: [0]}}, {"images": [0]},
        {"folds": 10**9}, {"folds": "2"}, {"test_size": "nan"}, {"seed": None},
        {"schema": 2}, {"images": {IDS[0]: 10**400}}, {"repeat": "a"},
    ],
    ids=str,
)  # fmt: skip
def test_an_edited_split_is_told(tmp_path: Path, change: dict[str, Any]) -> None:
    """Folds of another type or number are no folds; the error says how to go on."""
    path = write_split(tmp_path)
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | change))
    with pytest.raises(SplitError, match="another or a damaged file"):
        load_split(path)


def tokens(rng: random.Random) -> bytes:
    """What people and programs leave in records."""
    odd = [
        b"", b"NaN", b"-1", b"1e999", HUGE.encode(), b"null", b"true", b"[]", b"{}",
        b"\0", b"\xff\xfe", b'"', b",", b"\n", b"[" * 5000, b"=1+1", "é".encode(),
        b"0.5", b"\\ud800",
    ]  # fmt: skip
    return rng.choice(odd)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """One to three edits: a value replaced, a piece cut, doubled or moved, a bit."""
    for _ in range(rng.randint(1, 3)):
        start = rng.randrange(len(data) + 1)
        end = min(len(data), start + rng.choice([1, 3, 20, 200]))
        piece = data[start:end]
        edits = [tokens(rng), b"", piece * 2, piece[::-1], bytes(b ^ 4 for b in piece)]
        data = data[:start] + rng.choice(edits) + data[end:]
    return data


Reader = tuple[Path, Callable[[], object]]


@pytest.fixture
def readers(tmp_path: Path) -> dict[str, Reader]:
    """Each file of a dataset that can be edited, and what reads it."""
    source = write_images(tmp_path / "chest")
    folder = scan(source, tmp_path / "c", per_class=2).manifest.folder
    rows = [
        f"{p.relative_to(source)},{p.parent.name}" for p in source.glob("*/*1).png")
    ]
    table = source / "t.csv"
    table.write_text("path,label\n" + "\n".join(rows))
    split = write_split(tmp_path)
    return {
        "manifest": (folder / "manifest.csv", lambda: manifest.load(folder)),
        "settings": (folder / "dataset.json", lambda: manifest.load(folder)),
        "split": (split, lambda: (read_folds(split), load_split(split))),
        "table": (table, lambda: list_source(table, split_by="label")),
    }


def attack(reader: Reader, rng: random.Random) -> None:
    path, read = reader
    whole, said = path.read_bytes(), ""
    path.write_bytes(mutated(whole, rng))
    try:
        read()
    except FeatcacheError as error:
        said = str(error)
    path.write_bytes(whole)
    assert "\n" not in said
    assert len(said) < 3000


@pytest.mark.parametrize("name", ["manifest", "settings", "split", "table"])
def test_damaged_records_raise_nothing_else(
    readers: dict[str, Reader], name: str
) -> None:
    """40 edits of each file are read, or refused in one line."""
    rng = random.Random(name)
    for _ in range(40):
        attack(readers[name], rng)


@pytest.mark.slow
def test_many_damaged_records_raise_nothing_else(readers: dict[str, Reader]) -> None:
    """1000 edits of all files, from another seed than the fast test's."""
    rng = random.Random(12)
    for _ in range(1000):
        attack(readers[rng.choice([*readers])], rng)
