"""Rules of folders of Hugging Face, written here as the package ``datasets`` does."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from test_images import encode
from test_sources import rows
from toys import picture

from featcache.commands.scan import scan
from featcache.dataset.sources import cells, huggingface, list_source, read_bytes
from featcache.dataset.sources.inputs import open_inputs
from featcache.errors import DatasetError

pa = pytest.importorskip("pyarrow", reason="needs the extra parquet")
parquet = pytest.importorskip("pyarrow.parquet")

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
FEATURES = {
    "image": {"_type": "Image"},
    "label": {"names": ["NORMAL", "COVID"], "_type": "ClassLabel"},
    "age": {"dtype": "int32", "_type": "Value"},
}
Value = dict[str, Any] | None


def values(count: int, start: int = 0) -> list[Value]:
    """The structs of images, named after their patient."""
    return [
        {"bytes": encode(picture(i, 99)), "path": f"p{i // 2}_{i}.png"}
        for i in range(start, start + count)
    ]


def table(
    images: Sequence[Value],
    labels: Sequence[int | None] | None = None,
    features: dict[str, Any] | None = FEATURES,
) -> Any:
    """Rows with an image, a label and an age."""
    labels = [i % 2 for i in range(len(images))] if labels is None else labels
    columns = {
        "image": pa.array(images, IMAGE),
        "label": pa.array(labels, pa.int64()),
        "age": pa.array(range(len(images)), pa.int32()),
    }
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.table(columns, metadata=about if features else None)


def write(path: Path, rows: Any, group: int = 2) -> Path:
    """Writes Parquet with few rows in a row group."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(rows, path, row_group_size=group)
    return path


def save(folder: Path, *shards: Any) -> Path:
    """What ``Dataset.save_to_disk`` writes."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"data-{i:05d}-of-{len(shards):05d}.arrow" for i in range(len(shards))]
    for name, shard in zip(names, shards, strict=True):
        with pa.ipc.new_stream(str(folder / name), shard.schema) as stream:
            stream.write_table(shard, max_chunksize=2)
    files = [{"filename": name} for name in names]
    state = {"_data_files": files, "_fingerprint": "0", "_split": None}
    (folder / "state.json").write_text(json.dumps(state))
    info = json.dumps({"description": "", "features": FEATURES})
    (folder / "dataset_info.json").write_text(info)
    return folder


def parquet_repository(root: Path) -> Path:
    """A snapshot with two splits."""
    write(root / "data/train-00000-of-00002.parquet", table(values(3)))
    write(root / "data/train-00001-of-00002.parquet", table(values(2, 3)))
    write(root / "data/test-00000-of-00001.parquet", table(values(2, 5)))
    (root / "README.md").write_text("# X-rays\n")
    return root


def saved_splits(root: Path) -> Path:
    """A ``DatasetDict`` on disk."""
    save(root / "train", table(values(3)), table(values(2, 3)))
    save(root / "test", table(values(2, 5)))
    (root / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    return root


@pytest.mark.parametrize("make", [parquet_repository, saved_splits])
def test_rows_are_listed_with_names_of_classes_and_splits(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    """Images are read by their row, in any order."""
    listing = list_source(make(tmp_path / "hf"))
    names = [path.rpartition("/")[2] for path in listing.table["path"]]
    assert sorted(names) == [f"p{i // 2}_{i}.png" for i in range(7)]
    facts = dict(zip(names, listing.table.to_dict("records"), strict=True))
    assert facts["p2_4.png"]["label"] == "COVID"
    assert facts["p2_5.png"] | {"path": ""} == {
        "path": "", "label": "NORMAL", "age": "0", "split": "test",
    }  # fmt: skip
    for name in ("p1_2.png", "p0_0.png", "p0_1.png", "p2_4.png", "p0_0.png"):
        data = read_bytes(listing.root, facts[name]["path"])
        assert data == encode(picture(int(name[3:-4]), 99))


def test_a_scan_groups_by_the_names_of_the_images(tmp_path: Path) -> None:
    """A row without a picture, or with one that is none, is an unreadable image."""
    images = [*values(3), None, {"bytes": b"no", "path": "p9_9.png"}]
    images += [{"bytes": None, "path": "/etc/passwd"}]
    source = write(tmp_path / "in" / "x.parquet", table(images, [0, 1, 0, 1, 0, 1]))
    result = scan(source, tmp_path / "cache", group_by="(p\\d)_")
    assert result.manifest.ok["group"].tolist() == ["p0", "p0", "p1"]
    assert result.counts == {"COVID": 1, "NORMAL": 2}
    reasons = dict(result.unreadable)
    assert "no image in the row" in reasons["x.parquet/image/3"]
    assert "x.parquet/image/4/p9_9.png" in reasons
    assert "names a file elsewhere" in reasons["x.parquet/image/5/passwd"]


CARD = (
    "---\ndataset_info:\n- config_name: other\n  features: []\n"
    "- config_name: main\n  features:\n  - name: image\n    dtype: image\n"
    "  - name: label\n    dtype:\n      class_label:\n        names:\n"
    "          '1': sick\n          '0': well\n---\n# Text\n"
)


def test_the_card_names_classes_where_the_file_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The YAML at its head, for the configuration of the files."""
    write(tmp_path / "main/train/0.parquet", table(values(2), features=None))
    (tmp_path / "README.md").write_text(CARD)
    assert list_source(tmp_path).table["label"].tolist() == ["well", "sick"]
    monkeypatch.setattr(huggingface, "find_spec", lambda _: None)
    with pytest.raises(DatasetError, match=r"pyyaml .* pip install 'featcache\[parq"):
        list_source(tmp_path)


def test_a_card_that_is_not_needed_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file names its classes, or its labels are names; predict needs no label."""
    monkeypatch.setattr(huggingface, "find_spec", lambda _: None)
    (tmp_path / "README.md").write_text(CARD)
    plain = table(values(2), features=None)
    named = plain.set_column(1, "label", pa.array(["NORMAL", "COVID"]))
    for one in (table(values(2)), named):
        write(tmp_path / "main/train/0.parquet", one)
        labels = list_source(tmp_path).table["label"].tolist()
        assert labels == ["NORMAL", "COVID"]
    write(tmp_path / "main/train/0.parquet", plain.drop(["label"]))
    assert len(list(open_inputs([tmp_path]))) == 2
    with pytest.raises(DatasetError, match="pyyaml"):
        list_source(tmp_path)


def test_rows_without_a_label_are_left_out_and_counted(tmp_path: Path) -> None:
    """-1 is how ``datasets`` marks them; predict takes all."""
    source = write(tmp_path / "x.parquet", table(values(4), [0, -1, None, 1]))
    listing = list_source(source)
    assert listing.table["label"].tolist() == ["NORMAL", "COVID"]
    assert "2 rows have no label" in listing.warnings[0]
    inputs = list(open_inputs([tmp_path]))
    assert [image.columns["label"] for image in inputs] == ["NORMAL", "", "", "COVID"]
    assert [image.read() for image in inputs] == [v["bytes"] for v in values(4) if v]


@pytest.mark.parametrize("fields", [["bytes"], ["bytes", "path"]])
def test_predict_takes_rows_with_nothing_but_an_image(
    fields: list[str], tmp_path: Path
) -> None:
    """Whether its file had a name or not."""
    images = [{name: v[name] for name in fields} for v in values(3) if v]
    source = write(tmp_path / "x.parquet", pa.table({"image": images}))
    inputs = list(open_inputs([source]))
    assert [image.read() for image in inputs] == [image["bytes"] for image in images]
    with pytest.raises(DatasetError, match="a column label"):
        list_source(source)


def test_columns_that_are_no_text_are_left_out(tmp_path: Path) -> None:
    """With one line for all files."""
    rows = table(values(2)).append_column(" box", pa.array([[1], [2]]))
    rows = rows.append_column(" ward ", pa.array(["a", "b"]))
    for part in ("train", "test"):
        write(tmp_path / f"{part}-0.parquet", rows)
    listing = list_source(tmp_path)
    columns = ["path", "label", "age", " ward ", "split"]
    assert listing.table.columns.tolist() == columns
    notes = [note for note in listing.warnings if "left out" in note]
    assert notes == ["columns that are no text, number or date are left out:  box"]
    binary = pa.table({"image": pa.array(values(1), IMAGE), "label": [b"x"]})
    with pytest.raises(DatasetError, match=r"one label in a cell .*binary"):
        list_source(write(tmp_path / "b" / "x.parquet", binary))


def test_masks_in_a_column_go_with_their_images(tmp_path: Path) -> None:
    """They are read like the images."""
    both = table(values(2)).append_column("mask", pa.array(values(2, 7), IMAGE))
    listing = list_source(write(tmp_path / "x.parquet", both.replace_schema_metadata()))
    assert listing.table["mask"].tolist() == ["x.parquet/mask/0", "x.parquet/mask/1"]
    assert read_bytes(tmp_path, "x.parquet/mask/1") == encode(picture(8, 99))


def test_going_back_and_little_memory_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that is no longer kept is read again."""
    monkeypatch.setattr(cells, "_KEPT", 1)
    source = write(tmp_path / "x.parquet", table(values(6)), group=3)
    order = [5, 0, 2, 1, 1, 4, 3]
    data = [cells.read_cell(source, f"image/{row}", 9**9) for row in order]
    assert data == [encode(picture(row, 99)) for row in order]
    with pytest.raises(OSError, match="no such row"):
        cells.read_cell(source, "image/6", 9**9)
    with pytest.raises(OSError, match="larger than"):
        cells.read_cell(source, "image/0", 9)


def test_a_page_that_is_damaged_costs_only_its_images(tmp_path: Path) -> None:
    """Those before it in the row group and those of others are read."""
    source = write(tmp_path / "in" / "x.parquet", table(values(8)), group=4)
    chunk = parquet.ParquetFile(source).metadata.row_group(0).column(0)
    data = bytearray(source.read_bytes())
    at = chunk.data_page_offset
    data[at : at + 9] = b"\xff" * 9
    source.write_bytes(data)
    result = scan(source, tmp_path / "cache", group_by="image")
    assert len(result.manifest.ok) == 4
    assert all(
        "damaged in the Parquet file" in reason for _, reason in result.unreadable
    )


def test_an_arrow_file_cut_short_keeps_the_rows_before(tmp_path: Path) -> None:
    """A warning says where it breaks off, also where only the end mark is lost."""
    source = save(tmp_path / "ds", table(values(6)))
    file = source / "data-00000-of-00001.arrow"
    data = file.read_bytes()
    for cut, count in ((300, 4), (8, 6)):
        file.write_bytes(data[:-cut])
        listing = list_source(source)
        assert len(listing.table) == count
        assert f"breaks off after row {count}" in listing.warnings[0]


def test_a_folder_of_images_is_read_by_its_metadata(tmp_path: Path) -> None:
    """``file_name`` is the path; each split has a table of its own."""
    for part, label in (("test", "B"), ("train", "A")):
        (tmp_path / part / "pics").mkdir(parents=True)
        (tmp_path / part / "pics" / "1.png").write_bytes(b"x")
        row = {"file_name": "pics/1.png", "label": label, "age": 3, "x": None}
        (tmp_path / part / "metadata.jsonl").write_text(json.dumps(row) + "\n\n")
    listing = list_source(tmp_path)
    assert rows(listing) == [("test/pics/1.png", "B"), ("train/pics/1.png", "A")]
    assert listing.table["split"].tolist() == ["test", "train"]
    assert listing.table["age"].tolist() == ["3", "3"]
    (tmp_path / "test" / "metadata.jsonl").unlink()
    listing = list_source(tmp_path / "train", fewest_classes=1)
    assert rows(listing) == [("pics/1.png", "A")]
    listing = list_source(tmp_path, fewest_classes=1)
    assert rows(listing) == [("train/pics/1.png", "A")]
    assert "no part of the split: test" in listing.warnings[0]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_one_table_may_name_the_images_of_all_splits(kind: str, tmp_path: Path) -> None:
    """The folders of the splits are no classes."""
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "1.png").write_bytes(b"x")
    lines = [("train/1.png", "A"), ("test/1.png", "B")]
    path = tmp_path / f"metadata.{kind}"
    if kind == "parquet":
        names, labels = zip(*lines, strict=True)
        parquet.write_table(pa.table({"file_name": names, "label": labels}), path)
    elif kind == "jsonl":
        texts = [json.dumps({"file_name": n, "label": x}) for n, x in lines]
        path.write_text("\n".join(texts))
    else:
        path.write_text("file_name,label\n" + "\n".join(map(",".join, lines)))
    listing = list_source(tmp_path)
    assert rows(listing) == lines
    assert listing.table["split"].tolist() == ["train", "test"]
    assert [image.columns for image in open_inputs([path])] == [
        {"label": "A"}, {"label": "B"},
    ]  # fmt: skip


def labelled(*labels: int | None) -> Callable[[Path], Path]:
    return lambda root: write(root / "x.parquet", table(values(2), labels))


def renamed(*names: str) -> Callable[[Path], Path]:
    rows = table(values(2)).rename_columns([*names])
    return lambda root: write(root / "x.parquet", rows)


def without_images(root: Path) -> Path:
    write(root / "data" / "train-0.parquet", table(values(2)).drop(["image"]))
    return root


def incomplete(root: Path) -> Path:
    folder = save(root / "ds", table(values(2)))
    next(folder.glob("*.arrow")).unlink()
    return folder


def hostile(name: Any) -> Callable[[Path], Path]:
    def make(root: Path) -> Path:
        save(root, table(values(2)))
        folder = save(root / "ds", table(values(2)))
        state = {"_data_files": [{"filename": name}]}
        (folder / "state.json").write_text(json.dumps(state))
        return folder

    return make


def outside(root: Path) -> Path:
    save(root, table(values(2)))
    (root / "ds").mkdir()
    (root / "ds" / "dataset_dict.json").write_text('{"splits": [".."]}')
    return root / "ds"


def pointer(root: Path) -> Path:
    (root / "data").mkdir()
    path = root / "data" / "train-00000-of-00001.parquet"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    return root


def several(root: Path) -> Path:
    for name in ("plain", "small"):
        write(root / name / "train-0.parquet", table(values(2)))
    return root


def lines(text: str) -> Callable[[Path], Path]:
    def make(root: Path) -> Path:
        (root / "a.png").write_bytes(b"x")
        (root / "metadata.jsonl").write_text(text)
        return root

    return make


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (labelled(0, 2), "from 0 to 1 .*others: 2"),
        (labelled(None, -1), "with a label"),
        (renamed("image", "kind", "age"), "image \\(struct"),
        (renamed("a/b", "label", "age"), "without / or ."),
        (without_images, "a column of images"),
        (incomplete, "missing: 'data-00000"),
        (hostile("../data-00000-of-00001.arrow"), "missing: '../data"),
        (hostile(3), "missing: 3"),
        (outside, r"dataset_dict.json names"),
        (pointer, "git lfs pull"),
        (several, "one configuration"),
        (lines('{"file_name": "a.png", "label": "x"}\n' * 2), "each path once"),
        (lines('{"file_name": "b.png", "label": "x"}\n'), "missing: b.png"),
        (lines('{"file_name": "a.png", "label": ["x"]}\n'), "objects as label"),
        (lines('\n{"file_name": "a.png"\n'), "line 2"),
        (lines("[1]\n"), "line 1: no object"),
        (lines('{"file_name": "a.png", "label": "x", "b": "\\ud800"}'), "line 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused(
    make: Callable[[Path], Path], message: str, tmp_path: Path
) -> None:
    """In one error that says what is there instead."""
    with pytest.raises(DatasetError, match=message):
        list_source(make(tmp_path))
