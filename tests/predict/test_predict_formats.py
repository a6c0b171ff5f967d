"""Formats and files: every one has the same values."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_predict_answers import png
from toy_model import COLUMNS, ToyModel, csv_rows

from featcache.api.predictor import predict as predict_frame
from featcache.commands import predict as predicting
from featcache.commands.predict import check_format, predict, write, write_text
from featcache.dataset.sources.inputs import open_inputs
from featcache.deploy.answers import Scored
from featcache.deploy.model import Candidate
from featcache.errors import UsageError


def written(inputs: list[Any], style: str, **options: Any) -> str:
    predictions = predict(ToyModel(), open_inputs(inputs), **options)
    file = io.StringIO()
    write_text(predictions.columns, predictions.rows(), style, file)
    return file.getvalue()


def test_formats_have_the_same_values(scans: Path, tmp_path: Path) -> None:
    """To nine digits in csv, exactly in the others; no value is empty or null."""
    pytest.importorskip("pyarrow")
    frame = predict_frame(ToyModel(), scans, by=r"(p\d)_")
    options = {"by": r"(p\d)_"}
    lines = written([scans], "jsonl", **options).splitlines()
    records = [json.loads(line) for line in lines]
    predictions = predict(ToyModel(), open_inputs([scans]), **options)
    n = write(
        predictions.columns, predictions.rows(), "parquet", tmp_path / "t.parquet"
    )
    stored = pd.read_parquet(tmp_path / "t.parquet", dtype_backend="numpy_nullable")
    table = pd.read_csv(
        io.StringIO(written([scans], "csv", **options)), keep_default_na=False
    )
    assert n == len(records) == len(stored) == len(table) == len(frame) == 8
    assert list(records[0]) == list(stored) == list(table) == list(frame)
    for name in frame:
        expected = [None if pd.isna(v) else v for v in frame[name]]
        assert [r[name] for r in records] == expected
        assert [None if pd.isna(v) else v for v in stored[name]] == expected
        for cell, value in zip(table[name], expected, strict=True):
            if isinstance(value, float):
                assert abs(float(cell) - value) <= 1e-8 * abs(value)
            else:
                text = "" if value is None else str(value)
                text = text.lower() if isinstance(value, bool) else text
                assert str(cell).lower() == text.lower()


def test_parquet_is_written_in_groups_of_rows(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory does not grow with the rows; columns have their types without any row."""
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(predicting.writing, "_GROUP", 4)
    predictions = predict(ToyModel(), open_inputs([scans]))
    columns = predictions.columns
    write(columns, predictions.rows(), "parquet", tmp_path / "t.parquet")
    assert parquet.ParquetFile(tmp_path / "t.parquet").num_row_groups == 2
    write(columns, [], "parquet", tmp_path / "empty.parquet")
    schemas = [parquet.read_schema(tmp_path / f"{n}.parquet") for n in ("t", "empty")]
    assert schemas[0].equals(schemas[1])


def test_rows_are_written_as_they_come(tmp_path: Path) -> None:
    """The row of an image is out before the next batch is answered."""
    (tmp_path / "a.png").write_bytes(png(100))
    file, seen = io.StringIO(), []

    class Watching(ToyModel):
        def answer(self, batch: list[Candidate]) -> Scored:
            seen.append(len(file.getvalue().splitlines()))
            return super().answer(batch)

    inputs = open_inputs([tmp_path / "a.png"] * 3)
    predictions = predict(Watching(), inputs, batch_size=1)
    write_text(predictions.columns, predictions.rows(), "csv", file)
    assert seen == [1, 2, 3]


def test_a_spreadsheet_computes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text that begins like a formula has an apostrophe; a number stays one."""
    monkeypatch.chdir(tmp_path)
    for name in ("=1+1.png", "-x.png", "@x.png", "+x.png"):
        (tmp_path / name).write_bytes(png(100))
        text = f"path,note\n{name},=cmd\n{name},-1.5\n"
        (tmp_path / "t.csv").write_text(text)
        first, second = csv_rows(written(["t.csv"], "csv"))
        assert (first["path"], first["note"]) == (f"'{name}", "'=cmd")
        assert second["note"] == "-1.5"
        assert json.loads(written([name], "jsonl"))["path"] == name


def test_further_columns_keep_their_content(tmp_path: Path) -> None:
    """Line breaks and quotes too; a name of ours becomes given_NAME."""
    (tmp_path / "a.png").write_bytes(png(100))
    text = 'path,note,class,given_class,level\na.png,"a\n""b"",c",x,y,z\n'
    (tmp_path / "t.csv").write_text(text)
    (row,) = csv_rows(written([tmp_path / "t.csv"], "csv"))
    assert list(row)[len(COLUMNS) :] == [
        "note",
        "given_class",
        "given_given_class",
        "level",
    ]
    assert (row["note"], row["given_class"]) == ('a\n"b",c', "x")
    assert (row["given_given_class"], row["level"]) == ("y", "z")
    grouped = csv_rows(written([tmp_path / "t.csv"], "csv", by="level"))
    assert (grouped[0]["given_level"], grouped[1]["group"]) == ("z", "z")


def test_numbers_that_are_none_are_empty() -> None:
    """A score that cannot be computed is no text such as nan."""

    class Unsure(ToyModel):
        def answer(self, batch: list[Candidate]) -> Scored:
            scored = super().answer(batch)
            return Scored(
                scored.p, scored.refused, {"distance": np.array([np.nan])},
                [None], scored.flags, scored.zones,
            )  # fmt: skip

    for style, expected in (("csv", ""), ("jsonl", None)):
        pixels = np.full((4, 4), 99, np.uint8)
        predictions = predict(Unsure(), open_inputs([pixels]))
        file = io.StringIO()
        write_text(predictions.columns, predictions.rows(), style, file)
        text = file.getvalue()
        row = csv_rows(text)[0] if style == "csv" else json.loads(text)
        assert (row["distance"], row["nearest_distance"]) == (expected, expected)
        assert (row["path"], row["nearest_id"]) == ("", "")


@pytest.mark.parametrize(
    ("style", "output", "expected"),
    [
        (None, None, "csv"),
        (None, Path("x.JSONL"), "jsonl"),
        (None, Path("x.tsv"), "csv"),
        ("csv", Path("x.jsonl"), "csv"),
    ],
)
def test_the_format_is_that_of_the_name(
    style: str | None, output: Path | None, expected: str
) -> None:
    """Unless another is named."""
    assert check_format(style, output) == expected


def test_a_format_that_cannot_be_written_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before any image is read."""
    with pytest.raises(UsageError, match="csv, jsonl, parquet"):
        check_format("xml", None)
    with pytest.raises(UsageError, match="a file for"):
        check_format("parquet", None)
    monkeypatch.setattr(predicting.writing, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"featcache\[parquet\]"):
        check_format(None, Path("x.parquet"))
