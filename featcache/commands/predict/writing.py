"""Writing predictions: csv and jsonl row by row, parquet in groups of rows."""

import csv
import json
import math
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import IO, Any

from featcache.commands.predict.columns import COUNT, FLAG, NUMBER, TEXT, Column
from featcache.core.io import atomic_path
from featcache.core.output_file import check_output
from featcache.core.text import no_formula
from featcache.errors import UsageError

FORMATS = ("csv", "jsonl", "parquet")
PARQUET = "parquet"
_GROUP = 4096  # rows that parquet keeps together
Rows = Iterable[Sequence[Any]]


def check_format(style: str | None, output: Path | None, *, force: bool = False) -> str:
    """Decides on the format, before any work is done.

    Args:
        style: One of `FORMATS`; by default what the file's name ends in, else csv.
        output: The new file, or None for a stream.
        force: Replace a file that is there; never a record of featcache.

    Raises:
        UsageError: The file is there, another format, parquet without a file or
            without pyarrow.
    """
    ending = output.suffix.lower().removeprefix(".") if output else ""
    style = style or (ending if ending in FORMATS else "csv")
    if style not in FORMATS:
        raise UsageError(
            f"`style` one of {', '.join(FORMATS)}", style, "Choose one of them."
        )
    if style == PARQUET and output is None:
        raise UsageError(
            "a file for `style='parquet'`", "none", "Name one with `output`."
        )
    if style == PARQUET and not find_spec("pyarrow"):
        raise UsageError(
            "pyarrow, to write parquet",
            "it is not installed",
            "Run: pip install 'featcache[parquet]', or write csv or jsonl.",
        )
    if output:
        check_output(output, "output", force=force)
    return style


def write(columns: Sequence[Column], rows: Rows, style: str, output: Path) -> int:
    """Writes rows to a file that is there only when it is complete.

    Returns:
        How many rows there are.

    Raises:
        OSError: It cannot be written.
    """
    with atomic_path(output) as temp:
        if style == PARQUET:
            return _parquet(columns, rows, temp)
        with temp.open("w", encoding="utf-8", newline="") as file:
            return write_text(columns, rows, style, file)


def write_text(
    columns: Sequence[Column],
    rows: Rows,
    style: str,
    file: IO[str],
    escape: Callable[[str], str] = str,
) -> int:
    """Writes rows as csv or jsonl, each at once.

    Args:
        columns: Of the rows.
        rows: Their values.
        style: "csv" or "jsonl".
        file: Where to.
        escape: Applied to the texts of csv, for a file that a terminal may show. In
            jsonl all but ASCII is escaped.

    Returns:
        How many rows there were.
    """
    writer = csv.writer(file, lineterminator="\n")
    names = [column.name for column in columns]
    if style == "csv":
        writer.writerow([escape(no_formula(name)) for name in names])
        file.flush()
    n = 0
    for row in rows:
        if style == "csv":
            writer.writerow([_cell(value, escape) for value in row])
        else:
            values = dict(zip(names, map(_plain, row), strict=True))
            file.write(json.dumps(values, allow_nan=False) + "\n")
        file.flush()
        n += 1
    return n


def _cell(value: Any, escape: Callable[[str], str]) -> str:
    """A value as text that a reader turns into the same value to nine digits."""
    if isinstance(value, str):
        return escape(no_formula(value))
    if isinstance(value, bool):
        return str(value).lower()
    value = _plain(value)
    return "" if value is None else f"{value:.9g}"


def _plain(value: Any) -> Any:
    """The value, or None for a number that is none."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _parquet(columns: Sequence[Column], rows: Rows, path: Path) -> int:
    import pyarrow as pa
    from pyarrow import parquet

    types = {TEXT: pa.string(), NUMBER: pa.float64(), FLAG: pa.bool_()}
    types[COUNT] = pa.int32()
    schema = pa.schema([(column.name, types[column.kind]) for column in columns])
    n, rows = 0, iter(rows)
    with parquet.ParquetWriter(path, schema) as writer:
        while group := list(islice(rows, _GROUP)):
            arrays = [
                pa.array([_plain(row[at]) for row in group], field.type)
                for at, field in enumerate(schema)
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            n += len(group)
    return n
