"""Cells with an image in Parquet and Arrow files, as Hugging Face writes them.

A cell is named ``COLUMN/ROW``, perhaps with ``/NAME`` of the image behind, which is for
people and for expressions on file names. It holds a struct whose field ``bytes`` is the
file of the image.
"""

import errno
import os
import re
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

from featcache.core.text import counted, first_line
from featcache.dataset.sources import remote
from featcache.dataset.urls import Location, Url
from featcache.errors import DatasetError

ARROW, PARQUET = ".arrow", ".parquet"
_BATCH = 2**16  # rows of text that are converted at once
_CELL = re.compile(r"([^/]+)/(\d{1,18})(?:/[^/]*)?", re.DOTALL)
_BUFFER = 2**20  # bytes that are read at once of a column
_KEPT = 2**27  # bytes of images that are kept of a column, for threads that lag
_END = b"\xff\xff\xff\xff\0\0\0\0"  # of an Arrow stream
_LFS = b"version https://git-lfs"
_GUARD = threading.Lock()


class Rows(Protocol):
    """The rows of a file.

    Attributes:
        schema: Of its columns.
        n_rows: That can be read.
        broken_at: The row at which the file breaks off, or None.
    """

    schema: Any
    n_rows: int
    broken_at: int | None

    def batches(self, columns: Sequence[str]) -> Iterator[Any]:
        """Record batches with these columns; of ``image.path`` at least that field."""

    def cell(self, column: str, row: int) -> bytes | None:
        """The bytes in a cell, if there are any; safe in threads."""


def is_cell(name: str) -> bool:
    """Whether a name is one of a cell."""
    return bool(_CELL.fullmatch(name))


def read_cell(file: Location, name: str, limit: int) -> bytes:
    """The bytes of an image.

    Raises:
        OSError: There is no such cell, or none with bytes; or the file is damaged.
        DatasetError: pyarrow is missing, or a server does not answer.
    """
    match = _CELL.fullmatch(name)
    if not match:
        raise FileNotFoundError(errno.ENOENT, "no column and row of a file", name)
    data = open_rows(file).cell(match[1], int(match[2]))
    if data is None:
        reason = "no image in the row: it is empty, or names a file elsewhere"
        raise OSError(errno.ENODATA, reason, name)
    if len(data) > limit:
        raise OSError(errno.EFBIG, "larger than 1 GiB", name)
    return data


def need_pyarrow(where: object) -> None:
    """Refuses to go on without it.

    Raises:
        DatasetError: pyarrow is not installed.
    """
    if find_spec("pyarrow") is None:
        fix = "Run: pip install 'featcache[parquet]', or give a CSV."
        raise DatasetError(f"pyarrow, to read {where}", "it is not installed", fix)


def image_columns(schema: Any) -> list[str]:
    """The columns that are structs with bytes."""
    from pyarrow import types

    return [
        name
        for name, field in zip(schema.names, schema, strict=True)
        if "bytes" in struct_fields(field)
        and _is_binary(field.type.field("bytes").type, types)
    ]


def struct_fields(field: Any) -> list[str]:
    """The names in a struct; none of another type."""
    from pyarrow import types

    if not types.is_struct(field.type):
        return []
    return [field.type.field(number).name for number in range(field.type.num_fields)]


def _is_binary(kind: Any, types: Any) -> bool:
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def open_rows(file: Location) -> Rows:
    """Opens a file once per process and version.

    Raises:
        OSError: It cannot be read, or is no such file.
        DatasetError: pyarrow is missing, or a server does not answer.
    """
    need_pyarrow(file)
    with _GUARD:
        return _opened(file, remote.version(file), os.getpid())


@lru_cache(maxsize=4)
def _opened(file: Location, version: tuple[int | str, ...], pid: int) -> Rows:
    import pyarrow as pa

    is_arrow = file.suffix.lower() == ARROW
    try:
        return _ArrowRows(file) if is_arrow else _ParquetRows(file)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(error, file) from error


def _damaged(error: Exception, file: Location) -> OSError:
    """An error that says what the file is instead, where that is known."""
    if isinstance(file, Path):
        with file.open("rb") as start:
            if start.read(len(_LFS)) == _LFS:
                reason = "a Git LFS pointer and not the file; run: git lfs pull"
                return OSError(errno.EIO, reason, str(file))
    kind = "Arrow stream" if file.suffix.lower() == ARROW else "Parquet file"
    reason = f"no complete {kind} ({first_line(error)})"
    return OSError(errno.EIO, reason, str(file))


class _ParquetRows:
    """A Parquet file; each column of images is read in order, a row at a time."""

    broken_at: int | None = None

    def __init__(self, file: Location) -> None:
        from pyarrow import parquet

        source = remote.RangeFile(file) if isinstance(file, Url) else file
        self._file = parquet.ParquetFile(source, buffer_size=_BUFFER)
        self.schema = self._file.schema_arrow
        groups = range(self._file.metadata.num_row_groups)
        counts = [self._file.metadata.row_group(group).num_rows for group in groups]
        self._starts = [0, *accumulate(counts)]
        self.n_rows = self._starts[-1]
        self._images = image_columns(self.schema)
        self._cursors: dict[str, _Cursor] = {}
        self._lock = threading.Lock()

    def batches(self, columns: Sequence[str]) -> Iterator[Any]:
        yield from self._file.iter_batches(_BATCH, columns=columns)

    def cell(self, column: str, row: int) -> bytes | None:
        if column not in self._images or row >= self.n_rows:
            raise FileNotFoundError(errno.ENOENT, "no such row", f"{column}/{row}")
        with self._lock:
            if column not in self._cursors:
                self._cursors[column] = _Cursor(self._file, column, self._starts)
            return self._cursors[column].read(row)


class _Cursor:
    """A place in a column. Going on is cheap; going back starts its row group again."""

    def __init__(self, file: Any, column: str, starts: Sequence[int]) -> None:
        self._file, self._column, self._starts = file, column, starts
        self._bytes = f"{column}.bytes"
        self._group, self._next = -1, 0
        self._batches: Iterator[Any] = iter(())
        self._recent: OrderedDict[int, bytes | None] = OrderedDict()
        self._size = 0
        self._broken: dict[int, tuple[int, str]] = {}  # row and reason, by row group

    def read(self, row: int) -> bytes | None:
        """The bytes in the row.

        Raises:
            OSError: The row group is damaged there or before.
        """
        if row in self._recent:
            return self._recent[row]
        group = bisect_right(self._starts, row) - 1
        if group in self._broken and row >= self._broken[group][0]:
            raise OSError(errno.EIO, self._broken[group][1], self._column)
        if group != self._group or row < self._next:
            self._batches = self._file.iter_batches(
                1, row_groups=[group], columns=[self._bytes], use_threads=False
            )
            self._group, self._next = group, self._starts[group]
        while self._next <= row:
            value = self._step()
        return value

    def _step(self) -> bytes | None:
        import pyarrow as pa

        try:
            value = _bytes_of(next(self._batches).column(0)[0])
        except (pa.ArrowException, OSError, StopIteration, ValueError) as error:
            is_end = isinstance(error, StopIteration)
            text = "it ends too early" if is_end else first_line(error)
            reason = f"damaged in the Parquet file ({text})"
            self._broken[self._group] = self._next, reason
            self._group = -1
            raise OSError(errno.EIO, reason, self._column) from error
        if self._next not in self._recent:
            self._size += len(value or b"")
        self._recent[self._next] = value
        while self._size > _KEPT and len(self._recent) > 1:
            self._size -= len(self._recent.popitem(last=False)[1] or b"")
        self._next += 1
        return value


def _bytes_of(struct: Any) -> bytes | None:
    """The bytes in a struct; the other fields need not be text that can be read."""
    data: bytes | None = struct["bytes"].as_py() if struct.is_valid else None
    return data


class _ArrowRows:
    """An Arrow stream in a file that is mapped: any row is read where it lies."""

    def __init__(self, file: Location) -> None:
        import pyarrow as pa

        if isinstance(file, Url):
            reason = "an Arrow file at a URL; download it, or save it as Parquet"
            raise OSError(errno.EINVAL, reason, str(file))
        self.broken_at: int | None = None
        mapped = pa.memory_map(str(file))
        stream = pa.ipc.open_stream(mapped)
        self.schema, self._batches = stream.schema, list[Any]()
        is_whole = True
        try:
            self._batches.extend(stream)
        except (pa.ArrowException, OSError):
            is_whole = False
        self._starts = [0, *accumulate(len(batch) for batch in self._batches)]
        self.n_rows = self._starts[-1]
        with file.open("rb") as end:
            end.seek(-len(_END), os.SEEK_END)
            if not is_whole or end.read() != _END:
                self.broken_at = self.n_rows
        self._images = image_columns(self.schema)
        self._checked: set[tuple[int, str]] = set()

    def batches(self, columns: Sequence[str]) -> Iterator[Any]:
        import pyarrow as pa

        names = [column.partition(".")[0] for column in columns]
        for number in range(len(self._batches)):
            arrays = [self._column(number, name) for name in names]
            yield pa.RecordBatch.from_arrays(arrays, names)

    def cell(self, column: str, row: int) -> bytes | None:
        if column not in self._images or row >= self.n_rows:
            raise FileNotFoundError(errno.ENOENT, "no such row", f"{column}/{row}")
        number = bisect_right(self._starts, row) - 1
        return _bytes_of(self._column(number, column)[row - self._starts[number]])

    def _column(self, number: int, name: str) -> Any:
        """A column of a batch; its offsets are checked, as Arrow trusts them."""
        import pyarrow as pa

        array = self._batches[number].column(name)
        if (number, name) not in self._checked:
            try:
                array.validate(full=True)
            except pa.ArrowException as error:
                rows = counted(len(array), "row")
                reason = f"damaged in the Arrow file ({rows} of a batch: {error})"
                raise OSError(errno.EIO, reason[:300], name) from error
            self._checked.add((number, name))
        return array
