"""The formats of an export: each is written block by block, in bounded memory."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from featcache.core.io import atomic_folder, atomic_path, canonical_json

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ["image_id", "view", "path", "label", "group"]
_NPZ = {"label": "y", "group": "groups"}  # what arrays of an .npz are called
_BLOCK_BYTES = 32 * 2**20
_CHUNK_BYTES = 512 * 2**10  # of Zarr; as in a store
_SHARD_BYTES = 64 * 2**20
_CSV_ROWS = 1024
_CHUNK_ROWS = 65_536  # of Zarr's columns


@dataclass(frozen=True)
class Table:
    """What is exported.

    Attributes:
        X: (N, D) float32, in memory or mapped.
        meta: N rows with `COLUMNS`, and perhaps more.
        dims: Width of each matrix in X, by its name in a store's file.
        about: Contract and origin, as JSON.
    """

    X: np.ndarray
    meta: pd.DataFrame
    dims: dict[str, int]
    about: dict[str, Any]

    def blocks(self, size: int) -> Iterator[slice]:
        """Successive rows, at most ``size`` at a time; one block if there are none."""
        for start in range(0, max(len(self.X), 1), size):
            yield slice(start, min(start + size, len(self.X)))

    def matrices(self, rows: slice) -> dict[str, np.ndarray]:
        """Some rows of each matrix."""
        ends = np.cumsum(list(self.dims.values()))
        pieces = np.split(self.X[rows], ends[:-1], axis=1)
        return dict(zip(self.dims, pieces, strict=True))


Write = Callable[[Table, Path], None]


def write_npz(table: Table, to: Path) -> None:
    """One array each: X, y, groups, and the other columns."""
    # Text of fixed width: a column of objects would be a pickle.
    columns: dict[str, Any] = {
        _NPZ.get(name, name): table.meta[name].to_numpy(None if name == "view" else str)
        for name in map(str, table.meta)
    }
    with atomic_path(to) as temp, temp.open("wb") as file:
        np.savez(file, X=table.X, **columns)


def write_csv(table: Table, to: Path) -> None:
    """The columns, then f0..f(D-1)."""
    names = [f"f{i}" for i in range(table.X.shape[1])]
    with atomic_path(to) as temp, temp.open("w", encoding="utf-8", newline="") as file:
        for rows in table.blocks(_CSV_ROWS):
            meta = table.meta.iloc[rows].reset_index(drop=True)
            block = pd.concat(
                [meta, pd.DataFrame(table.X[rows], columns=names)], axis=1
            )
            block.to_csv(file, index=False, header=not rows.start)


def write_parquet(table: Table, to: Path) -> None:
    """One file: the columns, and each matrix as a list of its width a row."""
    with atomic_path(to) as temp:
        _write_part(table, slice(0, len(table.X)), temp)


def parquet_folder(part_rows: int) -> Write:
    """A folder of files of so many rows, which its readers take for one table."""

    def write(table: Table, to: Path) -> None:
        with atomic_folder(to) as temp:
            for number, rows in enumerate(table.blocks(part_rows)):
                _write_part(table, rows, temp / f"part-{number:05d}.parquet")

    return write


def _write_part(table: Table, rows: slice, path: Path) -> None:
    from pyarrow import parquet

    schema = _schema(table)
    step = max(1, _BLOCK_BYTES // (4 * table.X.shape[1]))
    # A dictionary of numbers that hardly ever repeat would be built and thrown away.
    texts = [name for name in table.meta if name != "view"]
    with parquet.ParquetWriter(path, schema, use_dictionary=texts) as writer:
        for start in range(rows.start, rows.stop, step):
            block = slice(start, min(start + step, rows.stop))
            writer.write_table(_arrow(table, block, schema))


def _schema(table: Table) -> "pa.Schema":
    import pyarrow as pa

    columns = [
        pa.field(name, pa.int32() if name == "view" else pa.string(), nullable=False)
        for name in table.meta
    ]
    value = pa.field("element", pa.float32(), nullable=False)
    columns += [
        pa.field(name, pa.list_(value, dim), nullable=False)
        for name, dim in table.dims.items()
    ]
    return pa.schema(columns, {"featcache": canonical_json(table.about)})


def _arrow(table: Table, rows: slice, schema: "pa.Schema") -> "pa.Table":
    import pyarrow as pa

    meta = table.meta.iloc[rows]
    arrays = [pa.array(meta[name], schema.field(name).type) for name in meta]
    for name, matrix in table.matrices(rows).items():
        values = pa.array(np.ascontiguousarray(matrix).reshape(-1))
        kind = schema.field(name).type
        arrays.append(pa.FixedSizeListArray.from_arrays(values, type=kind))
    return pa.Table.from_arrays(arrays, schema=schema)


def write_zarr(table: Table, to: Path) -> None:
    """A Zarr group, format 3: an array for each column and for each matrix."""
    import zarr

    with atomic_folder(to) as temp:
        group = zarr.open_group(temp, mode="w", zarr_format=3, attributes=table.about)
        for name, values in table.meta.items():
            column = group.create_array(
                str(name),
                shape=(len(values),),
                chunks=(min(_CHUNK_ROWS, max(len(values), 1)),),
                dtype="int32" if name == "view" else str,
            )
            column[:] = values.to_numpy(np.int32 if name == "view" else object)
        for name, dim in table.dims.items():
            _write_matrix(group, table, name, dim)


def _write_matrix(group: Any, table: Table, name: str, dim: int) -> None:
    """One array of a matrix: chunks as in a store; if it is large, many to a file."""
    n_rows = len(table.X)
    chunk = max(1, min(n_rows, _CHUNK_BYTES // (4 * dim)))
    shard = chunk * max(1, _SHARD_BYTES // (4 * dim * chunk))
    array = group.create_array(
        name,
        shape=(n_rows, dim),
        dtype="float32",
        chunks=(chunk, dim),
        shards=(shard, dim) if shard < n_rows else None,
        compressors=None,  # as in a store: embeddings hardly shrink
    )
    for rows in table.blocks(shard):
        array[rows] = table.matrices(rows)[name]
