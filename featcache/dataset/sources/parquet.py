"""A Parquet table of paths, read as text by record batches."""

import io
from pathlib import Path
from typing import Any

import pandas as pd

from featcache.core.text import first_line, some
from featcache.dataset.sources.cells import need_pyarrow
from featcache.dataset.sources.reading import is_zip, read_bytes
from featcache.dataset.urls import Location
from featcache.errors import DatasetError

_BATCH = 2**16  # rows that are converted at once


def read_parquet(root: Location, path: str, where: str, hint: str) -> pd.DataFrame:
    """Reads a table as text, like a CSV; what is missing is empty.

    Args:
        root: The folder that the table lies in.
        path: The table's, relative to it.
        where: Its name in errors.
        hint: What to give instead.

    Raises:
        DatasetError: It is no Parquet file, has a column that is no text, number or
            date, or pyarrow is missing.
    """
    need_pyarrow(where)
    import pyarrow as pa
    from pyarrow import parquet

    try:
        if isinstance(root, Path) and not is_zip(root):
            file: Any = root / path
        else:
            file = io.BytesIO(read_bytes(root, path))
        with parquet.ParquetFile(file) as table:
            _check_schema(where, table.schema_arrow)
            batches = table.iter_batches(_BATCH)
            frames = [as_text(batch) for batch in batches]
            names = table.schema_arrow.names
    except (pa.ArrowException, OSError) as error:
        rule = f"a Parquet file in {where}"
        raise DatasetError(rule, first_line(error), hint) from error
    if not frames:
        return pd.DataFrame({name: pd.Series(dtype=str) for name in names})
    return pd.concat(frames, ignore_index=True)


def _check_schema(where: str, schema: Any) -> None:
    from pyarrow import types

    names = [name.strip() for name in schema.names]
    if len({*names}) < len(names):
        rule = f"columns with different names in {where}"
        raise DatasetError(rule, some(names), "Rename one.")
    others = [
        f"{field.name} ({str(field.type)[:40]})"
        for field in schema
        if types.is_nested(field.type) or types.is_binary(field.type)
    ]
    if others:
        raise DatasetError(
            f"columns of text, numbers or dates in {where}",
            some(others),
            "Leave them out. Images in a Parquet file are structs of bytes and path.",
        )


def as_text(batch: Any) -> pd.DataFrame:
    """The rows as text; what is missing is empty."""
    import pyarrow as pa

    texts = [column.cast(pa.string()).fill_null("") for column in batch.columns]
    names = [name.strip() for name in batch.schema.names]
    rows: pd.DataFrame = pa.RecordBatch.from_arrays(texts, names).to_pandas()
    return rows.astype(str)
