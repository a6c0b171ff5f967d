"""Rules of tars in the layout of WebDataset."""

import gzip
import io
import tarfile
from pathlib import Path

import pytest
from test_images import encode
from test_sources import rows
from toys import picture

from featcache.commands.scan import scan
from featcache.dataset.sources import list_source, read_bytes
from featcache.dataset.sources.braces import expand
from featcache.dataset.sources.inputs import open_inputs
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


def sample(number: int, label: str) -> list[tuple[str, bytes]]:
    """An image and its label."""
    return [(f"{number}.png", b"%d" % number), (f"{number}.cls", label.encode())]


def test_names_in_braces_are_those_of_a_shell() -> None:
    """Ranges with zeros before them, lists, and both in one another."""
    assert expand("s/{008..010}.tar") == ["s/008.tar", "s/009.tar", "s/010.tar"]
    assert expand("{b,a}/{9..10}") == ["b/9", "b/10", "a/9", "a/10"]
    assert expand("{a,{b,c}}") == ["a", "b", "c"]
    assert expand("{a}.tar") == ["{a}.tar"]
    for text in ("{3..1}", "{0..99999999999}", "{0..99999}{0..99999}"):
        with pytest.raises(DatasetError, match="1 to 100,000 files"):
            expand(text)


def test_tars_in_braces_keep_their_folders_and_their_split(tmp_path: Path) -> None:
    """Paths begin at the folder before the first brace."""
    for number, part in enumerate(("train", "test")):
        (tmp_path / part).mkdir()
        pack(tmp_path / part / "0.tar", *sample(number, "x"), *sample(number + 5, "y"))
    listing = list_source(tmp_path / "{train,test}" / "{0..0}.tar")
    assert listing.root == tmp_path
    assert listing.table["path"][3] == "test/0.tar/6.png"
    assert listing.table["split"].tolist() == ["train", "train", "test", "test"]
    assert read_bytes(tmp_path, "test/0.tar/6.png") == b"6"
    assert {*list_source(tmp_path).table["path"]} == {*listing.table["path"]}
    assert [i.read() for i in open_inputs([tmp_path])] == [b"1", b"6", b"0", b"5"]
    with pytest.raises(DatasetError, match=r"missing: 1\.tar"):
        list_source(tmp_path / "train" / "{0..1}.tar")
    (tmp_path / "{0,1}.tar").write_bytes((tmp_path / "test" / "0.tar").read_bytes())
    assert len(list_source(tmp_path / "{0,1}.tar").table) == 2


def test_a_file_beside_the_tars_names_the_classes(tmp_path: Path) -> None:
    """Their numbers are its lines; other text beside tars is passed over."""
    pack(tmp_path / "s.tar", *sample(0, "1"), *sample(1, "0\n"))
    (tmp_path / "README.md").write_text("two")
    (tmp_path / "classnames.txt").write_text("well\nsick\n")
    assert list_source(tmp_path).table["label"].tolist() == ["sick", "well"]
    (tmp_path / "classnames.txt").write_text("well\n")
    with pytest.raises(DatasetError, match=r"from 0 to 0.*others: 1"):
        list_source(tmp_path / "s.tar")


def test_masks_go_with_the_image_of_their_key(tmp_path: Path) -> None:
    """They are no images of their own."""
    pack(tmp_path / "s.tar", *sample(0, "x"), *sample(1, "y"), ("1.mask.png", b"M"))
    listing = list_source(tmp_path)
    assert listing.table["mask"].tolist() == ["", "s.tar/1.mask.png"]
    assert read_bytes(tmp_path, "s.tar/1.mask.png") == b"M"


def test_a_table_may_name_members(tmp_path: Path) -> None:
    """As one that the audit writes for a source of tars does."""
    pack(tmp_path / "s.tar", *sample(0, "x"), *sample(1, "y"))
    table = tmp_path / "t.csv"
    table.write_text("path,label\ns.tar/0.png,a\ns.tar/1.png,b\n")
    assert rows(list_source(table)) == [("s.tar/0.png", "a"), ("s.tar/1.png", "b")]
    table.write_text("path,label\ns.tar/0.png,a\ns.tar/2.png,b\n")
    with pytest.raises(DatasetError, match=r"missing: s\.tar/2\.png"):
        list_source(table)


@pytest.mark.parametrize("name", ["s.tar.gz", "s.tgz", "s.tar"])
def test_a_compressed_tar_is_refused_with_the_command_to_unpack(
    name: str, tmp_path: Path
) -> None:
    """Whatever it is called; in a folder, for predict and for a scan alike."""
    tar = pack(tmp_path / "t", *sample(0, "x"), *sample(1, "y"))
    (tmp_path / "in").mkdir()
    source = tmp_path / "in" / name
    source.write_bytes(gzip.compress(tar.read_bytes()))
    for place in (source, source.parent):
        with pytest.raises(DatasetError, match=f"gunzip -k {name}"):
            list_source(place)
        with pytest.raises(DatasetError, match=f"gunzip -k {name}"):
            open_inputs([place])


@pytest.mark.parametrize("text", ["[1]", '{"a": "\\ud800"}', "[" * 10**5, "{"])
def test_json_that_is_no_object_is_refused(text: str, tmp_path: Path) -> None:
    """And text that no table keeps; the member is named."""
    pack(tmp_path / "s.tar", ("x/a.png", b"x"), ("x/a.json", text.encode()))
    with pytest.raises(DatasetError, match=r"JSON object in x/a\.json"):
        list_source(tmp_path / "s.tar")


def test_values_of_json_are_written_as_in_json_lines(tmp_path: Path) -> None:
    """In a tar and in a table the same sample has the same label."""
    labels = ["true", "false", "3", "2.5", '"x"']
    members = [
        (f"{i}.json", f'{{"label": {v}}}'.encode()) for i, v in enumerate(labels)
    ]
    pictures = [(f"{i}.png", b"x") for i in range(len(labels))]
    pack(tmp_path / "s.tar", *pictures, *members)
    lines = [f'{{"path": "{i}.png", "label": {v}}}' for i, v in enumerate(labels)]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    for name, data in pictures:
        (tmp_path / name).write_bytes(data)
    of_tar, of_table = (
        list_source(tmp_path / name).table["label"].tolist()
        for name in ("s.tar", "t.jsonl")
    )
    assert of_tar == of_table == ["true", "false", "3", "2.5", "x"]


def test_keys_of_json_do_not_replace_our_columns(tmp_path: Path) -> None:
    """Nor do they break the lines of the manifest."""
    about = b'{"path": "/etc", "mask": "m", "image_id": "1", "a\\rb": "c\\rd"}'
    pack(tmp_path / "s.tar", ("x/a.png", b"x"), ("x/a.json", about), ("y/a.png", b"x"))
    table = list_source(tmp_path / "s.tar").table
    ours = {"given_path": "/etc", "given_mask": "m", "given_image_id": "1"}
    assert table.iloc[0].to_dict() == ours | {
        "path": "s.tar/x/a.png", "label": "x", "a\\rb": "c\nd",
    }  # fmt: skip


def test_predict_takes_tars_without_labels(tmp_path: Path) -> None:
    """A name that no table keeps is a bad image, and an empty tar a note."""
    pack(tmp_path / "a.tar", ("1.png", b"1"), ("x\ny.png", b"2"), ("1.json", b"{}"))
    pack(tmp_path / "b.tar")
    inputs = open_inputs([tmp_path])
    good, bad = inputs
    assert (good.read(), good.columns) == (b"1", {})
    assert good.path == f"{tmp_path}/a.tar/1.png"
    with pytest.raises(OSError, match="rename it"):
        bad.read()
    assert any("b.tar has no members" in note for note in inputs.notes)
