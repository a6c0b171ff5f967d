"""Rules of tars and Parquet files with images at URLs: read by ranges."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from servers import WebServer
from test_huggingface import table, values, write
from test_images import encode
from test_shards import pack
from toys import picture

from featcache.commands.scan import scan
from featcache.dataset.sources import list_source, read_bytes, remote, samples
from featcache.dataset.sources.inputs import open_inputs
from featcache.dataset.sources.shards import index
from featcache.dataset.urls import Url, location
from featcache.errors import DatasetError

Put = Callable[[Path, str], None]
IMAGES = [(f"{'xy'[i % 2]}/{i}.png", encode(picture(i, 99))) for i in range(4)]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Two tars with two images each."""
    folder = tmp_path / "shards"
    folder.mkdir()
    pack(folder / "s-0.tar", *IMAGES[:2])
    pack(folder / "s-1.tar", *IMAGES[2:])
    return folder


@pytest.mark.parametrize("name", ["", "/s-{0..1}.tar"])
def test_tars_at_a_url_are_scanned_as_here(
    in_memory: Put, shards: Path, tmp_path: Path, name: str
) -> None:
    """The manifest is the same, whether the folder is named or its files."""
    in_memory(shards, "memory://data/shards")
    here = scan(shards, tmp_path / "here", group_by="image")
    source = location(f"memory://data/shards{name}")
    there = scan(source, tmp_path / "there", group_by="image")
    assert there.manifest.table.equals(here.manifest.table)
    assert there.manifest.root == Url.of("memory://data/shards")
    assert there.manifest.dataset == "shards"
    inputs = list(open_inputs([f"memory://data/shards{name}"]))
    assert [image.read() for image in inputs] == [data for _, data in IMAGES]


def test_a_tar_on_the_web_is_read_by_ranges(
    web: WebServer, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its headers once, and then each image by itself."""
    monkeypatch.setattr(remote, "BLOCK", 512)
    web.files = {"/s.tar": (shards / "s-0.tar").read_bytes()}
    listing = list_source(location(f"{web.url}/s.tar"))
    assert listing.table["label"].tolist() == ["x", "y"]
    before = len(web.requests)
    data = [read_bytes(listing.root, path) for path in listing.table["path"]]
    assert data == [data for _, data in IMAGES[:2]]
    ranges = [text for _, text in web.requests[before:]]
    members = index(Url.of(f"{web.url}/s.tar")).members.values()
    for member in members:
        wanted = f"bytes={member.offset}-{member.offset + member.size - 1}"
        assert ranges.count(wanted) == 1


def test_labels_of_a_tar_at_a_url_are_requested_side_by_side(
    in_memory: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many at once as allowed, and the rows keep the tar's order."""
    monkeypatch.setattr(remote, "AT_ONCE", 2)
    pictures = [(f"{i}.png", encode(picture(i, 99))) for i in range(6)]
    labels = [(f"{i}.cls", f"c{i % 3}".encode()) for i in range(6)]
    pack(tmp_path / "s.tar", *pictures, *labels)
    in_memory(tmp_path / "s.tar", "memory://data/s.tar")
    both, read = threading.Barrier(2, timeout=30), samples.read_member

    def together(*arguments: Any) -> bytes:
        both.wait()  # for ever, were one requested after the other
        return read(*arguments)

    monkeypatch.setattr(samples, "read_member", together)
    table = list_source(location("memory://data/s.tar")).table
    assert table["label"].tolist() == [f"c{i % 3}" for i in range(6)]
    assert table["path"].tolist() == [f"s.tar/{i}.png" for i in range(6)]


def test_a_table_may_name_members_at_a_url(
    in_memory: Put, shards: Path, tmp_path: Path
) -> None:
    """By their whole URL, whatever the table's own is."""
    in_memory(shards, "memory://data/shards")
    rows = [f"memory://data/shards/s-0.tar/{name},{name[0]}" for name, _ in IMAGES[:2]]
    (tmp_path / "t.csv").write_text("\n".join(["path,label", *rows]))
    in_memory(tmp_path / "t.csv", "memory://other/t.csv")
    listing = list_source(location("memory://other/t.csv"))
    data = [read_bytes(listing.root, path) for path in listing.table["path"]]
    assert data == [data for _, data in IMAGES[:2]]


def test_rows_at_a_url_are_read_by_ranges(in_memory: Put, tmp_path: Path) -> None:
    """A repository, and a file of it."""
    folder = tmp_path / "hf"
    write(folder / "data" / "train-0.parquet", table(values(5)))
    in_memory(folder, "memory://hub/hf")
    for url in ("memory://hub/hf", "memory://hub/hf/data/train-0.parquet"):
        listing = list_source(location(url))
        assert [*listing.table["label"][:2]] == ["NORMAL", "COVID"]
        data = [read_bytes(listing.root, path) for path in listing.table["path"]]
        assert data == [v["bytes"] for v in values(5) if v]


def test_what_is_missing_or_compressed_at_a_url(in_memory: Put, tmp_path: Path) -> None:
    """Is said as of files here."""
    file = tmp_path / "s.tar"
    file.write_bytes(b"\x1f\x8b" + bytes(99))
    in_memory(file, "memory://d/s.tar")
    with pytest.raises(DatasetError, match=r"gunzip -k s\.tar"):
        list_source(location("memory://d/s.tar"))
    with pytest.raises(DatasetError, match="no such file"):
        list_source(location("memory://d/{0..1}.tar"))
