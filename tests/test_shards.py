"""Rules of tars in the layout of WebDataset."""

import io
import tarfile
from pathlib import Path

import pytest
from test_images import encode
from test_sources import rows
from toys import picture

from featcache.commands.scan import scan
from featcache.dataset.sources import list_source, read_bytes
from featcache.errors import DatasetError


def pack(path: Path, *members: tuple[str, bytes]) -> Path:
    """Writes a tar; names may occur twice."""
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def test_labels_come_from_cls_json_txt_or_folders(tmp_path: Path) -> None:
    """Members are read where they lie, and JSON values are columns."""
    source = pack(
        tmp_path / "s-0.tar",
        ("a.png", b"A"), ("a.cls", b"0\n"), ("b.x.png", b"B"), ("b.txt", b"y"),
        ("c.png", b"C"), ("c.json", b'{"label": "z", "ward": 3}'), ("w/d.png", b"D"),
    )  # fmt: skip
    listing = list_source(source)
    labels = [("a.png", "0"), ("b.x.png", "y"), ("c.png", "z"), ("w/d.png", "w")]
    assert rows(listing) == [(f"s-0.tar/{name}", label) for name, label in labels]
    assert listing.table["ward"].tolist() == ["", "", "3", ""]
    data = [read_bytes(listing.root, path) for path in listing.table["path"]]
    assert data == [b"A", b"B", b"C", b"D"]
    assert rows(list_source(tmp_path)) == rows(listing)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "has no members"),
        (["../a.png"], "stay inside"),
        (["/a.png"], "stay inside"),
        (["x/a.png", "x/a.png"], "each name once"),
        (["a.png"], "a label for each image"),
        (["x/a.md"], "images in"),
    ],
)
def test_tars_that_cannot_be_used_are_refused(
    names: list[str], message: str, tmp_path: Path
) -> None:
    """In one clear error."""
    source = pack(tmp_path / "s.tar", *((name, b"x") for name in names))
    with pytest.raises(DatasetError, match=message):
        list_source(source)


def test_a_member_cut_short_is_a_bad_image(tmp_path: Path) -> None:
    """The others are kept, and the place is named."""
    images = [(f"{'xy'[i % 2]}/{i}.png", encode(picture(i, 99))) for i in range(5)]
    (tmp_path / "in").mkdir()
    source = pack(tmp_path / "in" / "s.tar", *images)
    with tarfile.open(source) as archive:
        end = archive.getmembers()[-1].offset_data + 9
    source.write_bytes(source.read_bytes()[:end])
    result = scan(source, tmp_path / "cache", group_by="image")
    assert [path for path, _ in result.unreadable] == ["s.tar/x/4.png"]
    assert "cut short" in result.unreadable[0][1]
    assert any("s.tar is broken at byte" in line for line in result.warnings)


def test_an_image_cut_short_before_its_label_is_left_out(tmp_path: Path) -> None:
    """With a warning, as it has no class."""
    members = [("a.png", b"A"), ("a.cls", b"0"), ("b.png", b"B"), ("b.cls", b"1")]
    source = pack(tmp_path / "s.tar", *members, ("c.png", b"C" * 99), ("c.cls", b"1"))
    with tarfile.open(source) as archive:
        end = archive.getmember("c.png").offset_data + 9
    source.write_bytes(source.read_bytes()[:end])
    listing = list_source(source)
    assert rows(listing) == [("s.tar/a.png", "0"), ("s.tar/b.png", "1")]
    assert "broken at byte" in listing.warnings[0]
