"""Rules of sources: which files a folder or a CSV names."""

import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from featcache.dataset.sources import Listing, list_source
from featcache.errors import DatasetError

Table = list[tuple[str, str]]


def touch(root: Path, *names: str) -> Path:
    """Makes files (a listing opens none of them)."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def rows(listing: Listing) -> Table:
    return list(zip(listing.table["path"], listing.table["label"], strict=True))


def paths(listing: Listing) -> list[str]:
    return listing.table["path"].tolist()


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Path]:
    """Writes a CSV beside a.png, b.png and sub/c.png."""
    touch(tmp_path / "set", "a.png", "b.png", "sub/c.png")

    def write(text: str, encoding: str = "utf-8") -> Path:
        path = tmp_path / "set" / "table.csv"
        path.write_text(text, encoding=encoding)
        return path

    return write


# Folders


def test_a_folder_is_listed_in_natural_order(tmp_path: Path) -> None:
    """Classes and files stand in the order a person counts."""
    names = ["c10/a (2).png", "c10/a (10).png", "c10/a (1).png", "c2/x.png"]
    listing = list_source(touch(tmp_path, *names))
    assert rows(listing) == [
        ("c2/x.png", "c2"),
        ("c10/a (1).png", "c10"),
        ("c10/a (2).png", "c10"),
        ("c10/a (10).png", "c10"),
    ]
    assert listing.root == tmp_path
    assert listing.warnings == []
    assert list(listing.table.columns) == ["path", "label"]


def test_the_folder_is_the_label_however_deep_the_file(tmp_path: Path) -> None:
    """Sub-folders of a class belong to it; suffixes may be upper case."""
    names = ["A/2020/x.PNG", "A/2020/ward 3/y.JPeG", "A/z.Tif", "B/x.webp"]
    listing = list_source(touch(tmp_path, *names))
    assert sorted(rows(listing)) == sorted((name, name[0]) for name in names)


def test_hidden_and_system_files_are_no_images(tmp_path: Path) -> None:
    """What a desktop leaves behind is passed over without a word."""
    touch(tmp_path, "A/x.png", "B/y.png")
    touch(tmp_path, "A/.x.png", "A/._x.png", "A/Thumbs.db", "A/desktop.ini")
    touch(tmp_path, ".cache/z.png", "__MACOSX/A/x.png", "A/.git/x.png")
    listing = list_source(tmp_path)
    assert paths(listing) == ["A/x.png", "B/y.png"]
    assert listing.warnings == []


def test_masks_are_a_column_and_never_images(tmp_path: Path) -> None:
    """In the later release images/ holds images, masks/ their masks, and no more."""
    touch(tmp_path, "COVID/images/c-1.png", "COVID/images/c-2.png")
    touch(tmp_path, "COVID/masks/c-1.png", "COVID/lesions/c-1.png")
    touch(tmp_path, "Normal/n-1.png", "Normal/masks/n-1.png", "Normal/Masks/n-9.png")
    touch(tmp_path, "masks/all.png", "COVID.metadata.xlsx")
    listing = list_source(tmp_path)
    assert list(zip(paths(listing), listing.table["mask"], strict=True)) == [
        ("COVID/images/c-1.png", "COVID/masks/c-1.png"),
        ("COVID/images/c-2.png", ""),
        ("Normal/n-1.png", "Normal/masks/n-1.png"),
    ]


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    """Other files, loose images and empty folders are told."""
    touch(tmp_path, "A/x.png", "A/n.txt", "A/m.txt", "A/README", "B/images/y.png")
    touch(tmp_path, "B/loose.png", "stray.png", "notes/n.md")
    listing = list_source(tmp_path)
    assert paths(listing) == ["A/x.png", "B/images/y.png"]
    told = " | ".join(listing.warnings)
    assert "folder notes contains no images, so it is not a class" in told
    assert "1 (no suffix), 1 .md, 2 .txt, 1 beside images/" in told
    assert "they are not inside a class folder: 1 image" in told


def test_a_table_beside_class_folders_is_named(tmp_path: Path) -> None:
    """It is not used; the warning says what scans it, as another dataset."""
    source = touch(tmp_path, "A/x.png", "B/y.png")
    (source / "metadata.csv").write_text("path,label\nA/x.png,A\nB/y.png,B\n")
    (told,) = list_source(source).warnings
    assert told == (
        "metadata.csv is not used, because there are class folders beside it; to use "
        f"it, scan {source}/metadata.csv and give it a dataset name of its own"
    )


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    """A linked class folder is a class; a link to its own parent ends there."""
    touch(tmp_path, "store/x.png", "set/B/y.png")
    (tmp_path / "set" / "A").symlink_to(tmp_path / "store")
    (tmp_path / "set" / "B" / "loop").symlink_to(tmp_path / "set")
    assert paths(list_source(tmp_path / "set")) == ["A/x.png", "B/y.png"]


def test_links_of_two_folders_to_each_other_end(tmp_path: Path) -> None:
    """Each class has the images of the other one once, and not once per turn."""
    touch(tmp_path, "A/x.png", "B/y.png")
    (tmp_path / "A" / "link").symlink_to(tmp_path / "B")
    (tmp_path / "B" / "link").symlink_to(tmp_path / "A")
    names = ["A/x.png", "A/link/y.png", "B/y.png", "B/link/x.png"]
    assert paths(list_source(tmp_path)) == names


def test_a_broken_link_is_listed(tmp_path: Path) -> None:
    """An image that cannot be opened is for the scan to report, not to hide."""
    touch(tmp_path, "A/x.png", "B/y.png")
    (tmp_path / "A" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert paths(list_source(tmp_path)) == ["A/gone.png", "A/x.png", "B/y.png"]


def test_a_file_whose_name_no_csv_keeps_is_listed_but_not_taken(
    tmp_path: Path,
) -> None:
    """Its name is spelled out, and why it cannot be taken goes with it."""
    touch(tmp_path, "A/\udcff.png", "A/a\rb.png", "A/x.png", "B/b.png")
    listing = list_source(tmp_path)
    assert paths(listing) == ["A/a\\rb.png", "A/x.png", "A/\\udcff.png", "B/b.png"]
    assert set(listing.refused) == {"A/a\\rb.png", "A/\\udcff.png"}
    assert all("rename it" in reason for reason in listing.refused.values())


def test_names_that_differ_in_case_alone_have_one_order(tmp_path: Path) -> None:
    """The order of files never depends on that of the disk."""
    names = [f"A/{a}{b}.png" for a in "xX" for b in "yY"]
    touch(tmp_path, "B/b.png", *reversed(names))
    assert paths(list_source(tmp_path))[:4] == sorted(names)


def test_per_class_takes_the_first_in_natural_order(tmp_path: Path) -> None:
    """Two of each class; a class with fewer is told."""
    touch(tmp_path, "A/1.png", "A/2.png", "A/10.png", "B/1.png")
    listing = list_source(tmp_path, per_class=2)
    assert paths(listing) == ["A/1.png", "A/2.png", "B/1.png"]
    assert listing.table.index.tolist() == [0, 1, 2]
    assert listing.warnings == ["class B has 1 image, fewer than `per_class=2`"]


@pytest.mark.parametrize(
    ("names", "got"),
    [
        ([], "no files"),
        (["a.png", "b.png"], "2 images directly in the folder"),
        (["A/a.txt", "A/b.txt", "B/c.md"], "1 .md, 2 .txt files"),
        (["A/a.png", "A/b.png"], "one: A"),
        (["A/a.png", "B/readme.txt"], "one: A"),
        (["images/A/a.png", "masks/A/a.png"], "one: images"),
        (["A\udcff/a.png", "B/b.png"], r"'A\udcff'"),
        (["A\r/a.png", "B/b.png"], r"'A\r'"),
    ],
    ids=["empty", "flat", "text", "one class", "one with images", "one level up",
         "no UTF-8", "control"],
)  # fmt: skip
def test_a_folder_without_classes_of_images_is_refused(
    tmp_path: Path, names: list[str], got: str
) -> None:
    """The error says what is there instead."""
    with pytest.raises(DatasetError) as caught:
        list_source(touch(tmp_path, *names))
    assert got in caught.value.got


def test_no_such_path_is_refused(tmp_path: Path) -> None:
    """The error names the path."""
    with pytest.raises(DatasetError, match=r"no such path: .*/nowhere"):
        list_source(tmp_path / "nowhere")


# CSV


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na.png,A\nsub/c.png,B\n",
        "label,path\r\nA,a.png\r\nB,sub/c.png\r\n",
        '"path", "label"\n"a.png", "A"\nsub/c.png, B \n',
        "path,label\na.png,A\n\nsub\\c.png,B\n\n",
    ],
    ids=["plain", "other order, CRLF", "quotes and spaces", "backslash, blank lines"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_csv_is_read_as_people_write_it(
    table: Callable[..., Path], text: str, encoding: str
) -> None:
    """With or without a BOM, spaces behind commas, or paths from Windows."""
    source = table(text, encoding)
    listing = list_source(source)
    assert rows(listing) == [("a.png", "A"), ("sub/c.png", "B")]
    assert listing.root == source.parent


def test_a_backslash_that_is_in_the_name_stays(table: Callable[..., Path]) -> None:
    """A file that is there under the very name is that file."""
    source = table("path,label\nsub\\c.png,A\na.png,B\n")
    touch(source.parent, "sub\\c.png")
    assert paths(list_source(source)) == ["sub\\c.png", "a.png"]


def test_absolute_paths_are_kept(table: Callable[..., Path], tmp_path: Path) -> None:
    """A CSV may point to images elsewhere."""
    far = touch(tmp_path / "far", "x.png") / "x.png"
    assert paths(list_source(table(f"path,label\n{far},A\na.png,B\n")))[0] == str(far)


def test_further_columns_are_kept_as_text(table: Callable[..., Path]) -> None:
    """Nothing becomes a number or a missing value; short rows are blank."""
    text = 'path,label,group,age,note\na.png,NA,p1,007,"x, ""y"""\nb.png,1,nan,,null\n'
    listing = list_source(table(text + "sub/c.png,B\n"))
    assert listing.table.to_dict("list") == {
        "path": ["a.png", "b.png", "sub/c.png"],
        "label": ["NA", "1", "B"],
        "group": ["p1", "nan", ""],
        "age": ["007", "", ""],
        "note": ['x, "y"', "null", ""],
    }


def test_columns_of_our_names_are_renamed(table: Callable[..., Path]) -> None:
    """What a CSV calls status or width stays beside what we measure."""
    listing = list_source(table("path,label,status,width\na.png,A,ill,3\nb.png,B,,4\n"))
    assert list(listing.table.columns) == [
        "path", "label", "given_status", "given_width",
    ]  # fmt: skip


def test_per_class_follows_the_order_of_the_csv(table: Callable[..., Path]) -> None:
    """The first row of each class is taken."""
    source = table("path,label\nb.png,A\na.png,A\nsub/c.png,B\n")
    assert paths(list_source(source, per_class=1)) == ["b.png", "sub/c.png"]


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("", "No columns to parse"),
        ("\n\n", "No columns to parse"),
        ("path,label\n", "none"),
        ("path,class\na.png,A\n", "columns 'path', 'class'"),
        ("path;label\na.png;A\n", "columns 'path;label'"),
        ("a.png,A\nb.png,B\n", "columns 'a.png', 'A'"),
        ("path,label\nx.png,A\na.png,B\ny.png,B\n", "missing: x.png, y.png"),
        ("path,label\n" + "z" * 300 + ".png,A\nb.png,B\n", "missing: zzz"),
        ("path,label\nsub,A\nb.png,B\n", "missing: sub"),
        ("path,label\na.png,A\nb.png,B\na.png,A\n", "repeated: a.png"),
        ("path,label\nsub/c.png,A\nsub\\c.png,B\n", "repeated: sub/c.png"),
        ("path,label\na.png,A\nb.png,  \nsub/c.png\n", "missing in: b.png, sub/c.png"),
        ("path,label\na.png,A\n,B\n", "none in: row 3"),
        ("path,label\na.png,A\nb.png,A\n", "one: A"),
        ("path,label\na.png,A,x\nb.png,B,y\n", "more fields than the header"),
        ("path,label\na.png,A\nb.png,B,y\n", "Expected 2 fields in line 3, saw 3"),
        ("path,label,label \na.png,A,A\n", "two columns with the same name"),
        ('path,label\na.png,"A\nb.png,B\n', "EOF inside string"),
        ('path,label\na.png,"A\nA"\nb.png,B\n', r"others: 'A\nA'"),
        ("\0\0\0\x1b[2J" + "junk" * 5000, r"columns '"),
    ],
)
def test_a_csv_that_cannot_be_used_is_refused(
    table: Callable[..., Path], text: str, got: str
) -> None:
    """The error names the first rows at fault, in one short line."""
    with pytest.raises(DatasetError) as caught:
        list_source(table(text))
    assert got in caught.value.got
    assert len(caught.value.got) < 400
    assert caught.value.got.isprintable()


@pytest.mark.parametrize(
    "data", [b"\x89PNG\r\n\x1a\n\0\0", bytes(range(256)), "path,lábel".encode("utf-16")]
)
def test_binary_junk_is_no_csv(tmp_path: Path, data: bytes) -> None:
    """A picture or a UTF-16 file given as the source is told from a CSV."""
    path = tmp_path / "junk.csv"
    path.write_bytes(data)
    with pytest.raises(DatasetError, match="a CSV \\(UTF-8, commas\\)"):
        list_source(path)


# Spellings of paths


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
def test_names_match_in_any_unicode_form(
    tmp_path: Path, on_disk: str, zipped: bool
) -> None:
    """A CSV from one system names the files of another; ./ and // say nothing."""
    form = unicodedata.normalize
    names = [form(on_disk, f"images/Ör dner/Röntgen{i}.png") for i in range(3)]
    root = touch(tmp_path / "s", *names, "images/b.png")
    other = {"NFC": "NFD", "NFD": "NFC"}[on_disk]
    spelled = [
        "./" + form(other, names[0]),
        form(other, names[1]),
        names[2],
        "images//./b.png",
    ]
    rows = [f"{path},{'AB'[i % 2]}" for i, path in enumerate(spelled)]
    (root / "metadata.csv").write_text("path,label\n" + "\n".join(rows), "utf-8")
    if zipped:
        root = Path(shutil.make_archive(str(root), "zip", root))
    assert paths(list_source(root)) == [*names, "images/b.png"]


def test_a_folder_is_read_by_its_metadata_csv(tmp_path: Path) -> None:
    """Where no folders are classes, as in a zip; classes come first."""
    root = touch(tmp_path / "s", "images/a.png", "images/b.png")
    (root / "metadata.csv").write_text("path,label\nimages/a.png,A\nimages/b.png,B\n")
    assert rows(list_source(root)) == [("images/a.png", "A"), ("images/b.png", "B")]
    touch(root, "other/c.png")
    assert rows(list_source(root))[0] == ("images/a.png", "images")


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("spelled", ["", "./"])
@pytest.mark.parametrize("folders", [("",), ("train",), ("train", "test")])
def test_masks_are_beside_the_table_that_names_them(
    tmp_path: Path, folders: tuple[str, ...], spelled: str, zipped: bool
) -> None:
    """As images are. A URL is one, an empty cell is none, and a mask may be missing."""
    url = "https://host/c.png"
    masks = [f"{spelled}m/a.png", " ", url, "m/lost.png"]
    csv = ["path,label,mask", *(f"{i}.png,{i},{m}" for i, m in enumerate(masks))]
    root = tmp_path / "s"
    for at in folders:
        touch(root / at, *(f"{i}.png" for i in range(4)), "m/a.png")
        (root / at / "metadata.csv").write_text("\n".join(csv))
    source = Path(shutil.make_archive(str(root), "zip", root)) if zipped else root
    tops = [f"{at}/" if at else "" for at in folders]
    expected = [m for t in tops for m in (f"{t}m/a.png", "", url, f"{t}m/lost.png")]
    assert sorted(list_source(source).table["mask"]) == sorted(expected)


def test_masks_elsewhere_are_found_as_images_are(tmp_path: Path) -> None:
    """Below another folder, by an absolute path, and with other separators."""
    root = touch(tmp_path / "s", "train/a.png", "train/b.png", "train/m/b.png", "m.png")
    (root / "train" / "metadata.csv").write_text(
        "path,label,mask\na.png,A,../m.png\nb.png,B,m\\b.png\n"
    )
    assert list_source(root).table["mask"].tolist() == ["m.png", "train/m/b.png"]
    (root / "train" / "metadata.csv").rename(root / "metadata.csv")
    names = [str(root / "m.png"), "train/m/b.png"]
    (root / "metadata.csv").write_text(
        f"path,label,mask\ntrain/a.png,A,{names[0]}\ntrain/b.png,B,{names[1]}\n"
    )
    assert list_source(root).table["mask"].tolist() == names


def test_one_path_in_two_spellings_is_one(table: Callable[..., Path]) -> None:
    """It is refused as a repeat."""
    with pytest.raises(DatasetError, match=r"repeated: a\.png"):
        list_source(table("path,label\na.png,A\n./a.png,B\n"))
