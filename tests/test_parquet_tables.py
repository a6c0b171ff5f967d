"""Rules of Parquet files that list images by their paths."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from test_sources import rows, touch

from featcache.dataset.sources import list_source
from featcache.dataset.sources import parquet as parquet_tables
from featcache.dataset.sources.inputs import open_inputs
from featcache.errors import DatasetError


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes a table beside a.png, b.png and sub/c.png."""
    touch(tmp_path, "a.png", "b.png", "sub/c.png")

    def written(**columns: Any) -> Path:
        path = tmp_path / "table.parquet"
        parquet.write_table(pa.table(columns), path)
        return path

    return written


PATHS = ["b.png", "./sub/c.png", "a.png"]


def test_a_parquet_table_is_listed_as_its_csv(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the table's order, across batches; numbers are text, nothing is empty."""
    monkeypatch.setattr(parquet_tables, "_BATCH", 2)
    source = write(path=PATHS, label=["x", "y", "x"], age=[4, None, 60])
    csv = source.with_suffix(".csv")
    csv.write_text("path,label,age\nb.png,x,4\n./sub/c.png,y,\na.png,x,60\n")
    listing = list_source(source)
    assert rows(listing) == [("b.png", "x"), ("sub/c.png", "y"), ("a.png", "x")]
    assert listing.table.to_dict("list") == list_source(csv).table.to_dict("list")


def test_a_table_in_a_zip_is_listed_as_in_a_folder(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    """Of Hugging Face's layout: ``metadata.parquet`` beside the images."""
    table = write(file_name=PATHS, label=["x", "y", "x"])
    table.rename(tmp_path / "metadata.parquet")
    source = tmp_path / "s.zip"
    with zipfile.ZipFile(source, "w") as archive:
        for name in ("metadata.parquet", "a.png", "b.png", "sub/c.png"):
            archive.write(tmp_path / name, name)
    assert rows(list_source(source)) == [
        ("b.png", "x"), ("sub/c.png", "y"), ("a.png", "x"),
    ]  # fmt: skip


def test_labels_of_a_dictionary_column_are_its_words(
    write: Callable[..., Path],
) -> None:
    """As pandas writes its categories."""
    labels = pa.array(["x", "y", "x"]).dictionary_encode()
    listing = list_source(write(path=PATHS, label=labels))
    assert listing.table["label"].tolist() == ["x", "y", "x"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"path": PATHS, "class": ["x", "y", "x"]}, "columns 'path', 'class'"),
        ({"path": [], "label": []}, "rows in"),
        ({"path": ["gone.png"], "label": ["x"]}, "gone.png"),
        ({"path": PATHS, "label": ["x", None, "y"]}, "a label in every row"),
        ({"path": PATHS, "label": ["x"] * 3, "image": [b"x"] * 3}, "image \\(binary"),
        ({"path": PATHS, "label": [["x"]] * 3}, "label \\(list"),
    ],
)
def test_a_table_that_does_not_name_labelled_images_is_refused(
    columns: dict[str, Any], message: str, write: Callable[..., Path]
) -> None:
    """The error names the columns that are there, or the rows."""
    with pytest.raises(DatasetError, match=message):
        list_source(write(**columns))


@pytest.mark.parametrize("kept", [0, 3, -9])
def test_a_file_cut_short_is_refused(kept: int, write: Callable[..., Path]) -> None:
    """An empty one too."""
    source = write(path=PATHS, label=["x", "y", "x"])
    source.write_bytes(source.read_bytes()[:kept])
    with pytest.raises(DatasetError, match="a Parquet file in"):
        list_source(source)


def test_predict_takes_a_parquet_table(write: Callable[..., Path]) -> None:
    """Its further columns go with its images."""
    inputs = open_inputs([write(path=PATHS, ward=["1", "2", "3"])])
    assert [image.columns["ward"] for image in inputs] == ["1", "2", "3"]
    assert [image.read() for image in inputs] == [b"x"] * 3
