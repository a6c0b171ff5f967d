"""Where the rows of a store lie: in its own file, or in part files beside it."""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from featcache.core import records
from featcache.core.io import canonical_json, digest
from featcache.core.taps import FEATURES
from featcache.errors import StoreError, StoreUnavailableError
from featcache.features.store.opening import damaged, reading, unavailable

PARTS = "parts"  # the dataset that names the part files of a store in parts
PART_FILE = re.compile(r"[0-9a-f]{16}\.h5")
TAPS = "taps"  # the group of the inner layers' matrices
DATA = ".data"  # the ending of the folder of a store's part files
SLAB_BYTES = 2 * 2**20
_REPAIR = (
    "If another process has just replaced the store, run the command again. Otherwise "
    "run: featcache cache verify --repair (it keeps the rows of the other parts; the "
    "next extract computes these again)."
)


@dataclass(frozen=True)
class RowFile:
    """A file with matrices of successive rows of a store.

    Attributes:
        path: The file: the store's own, or one of its folder of part files.
        bytes: Size of the file.
        filled: Rows of each matrix that are computed, by the matrix's name.
        checksums: SHA-256 of each matrix of the file.
        is_part: Whether it is a part file.
        keys_sha256: Of its keys, as it numbers its policies; empty where the store has
            all keys in its own file, as it was with earlier versions.
        paths_sha256: Of its paths.
        policies: By the file's own number of each of its policies, the store's; empty
            where they are the same.
    """

    path: Path
    bytes: int
    filled: dict[str, int]
    checksums: dict[str, str]
    is_part: bool = False
    keys_sha256: str = ""
    paths_sha256: str = ""
    policies: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The part file, relative to the folder of the store."""
        return f"{self.path.parent.name}/{self.path.name}"

    def damaged(self, got: str) -> StoreError:
        """The error of a file that is not what was sealed."""
        if not self.is_part:
            return damaged(self.path, got)
        expected = f"the bytes that were written to {self.path}"
        return StoreError(expected, f"{got}: part {self.name}", _REPAIR)

    def check_presence(self) -> None:
        """Looks whether the file is there, in its size.

        Raises:
            StoreError: It is missing or of another size.
            StoreUnavailableError: The system does not say.
        """
        try:
            size = os.stat(self.path).st_size
        except (FileNotFoundError, NotADirectoryError):
            raise self.damaged("a missing file") from None
        except OSError as error:
            raise unavailable(self.path, error) from error
        if size != self.bytes:
            raise self.damaged(f"{size} bytes instead of {self.bytes}")

    def renumbered(self, number_of: Mapping[int, int]) -> "RowFile":
        """The file in a store that numbers its policies anew; -1 for none any more."""
        numbers = self.policies or range(1 + max(number_of, default=-1))
        policies = tuple(number_of.get(number, -1) for number in numbers)
        is_same = policies == tuple(range(len(policies)))
        return replace(self, policies=() if is_same else policies)

    @contextmanager
    def opened(self) -> Iterator[h5py.File]:
        """Opens the file for reading.

        Raises:
            StoreError: The file is missing or damaged.
            StoreUnavailableError: The system does not let us read it now.
        """
        if self.is_part:
            self.check_presence()
        try:
            with reading(self.path) as file:
                yield file
        except StoreUnavailableError:
            raise
        except StoreError as error:
            raise error if self.name in error.got else self.damaged(error.got) from None

    @contextmanager
    def matrix(self, name: str, like: np.ndarray) -> Iterator[h5py.Dataset]:
        """Opens a matrix.

        Args:
            name: Of the matrix.
            like: (0, D) of its type.

        Raises:
            StoreError: The file is damaged.
        """
        with self.opened() as file:
            matrix = file[dataset_name(name)]
            if (matrix.shape[1:], matrix.dtype) != (like.shape[1:], like.dtype):
                raise self.damaged(f"{name} of another width or type")
            yield matrix


@dataclass(frozen=True)
class Segment:
    """Successive rows of a store, and the files that their matrices lie in.

    Attributes:
        rows: Their number.
        files: Each with all of these rows; of a matrix that several have, the last
            one's counts.
    """

    rows: int
    files: tuple[RowFile, ...]

    @property
    def filled(self) -> dict[str, int]:
        """Rows of each matrix that are computed, by the matrix's name."""
        return {name: n for file in self.files for name, n in file.filled.items()}

    @property
    def checksums(self) -> dict[str, str]:
        """SHA-256 of each matrix."""
        return {
            name: sum_ for one in self.files for name, sum_ in one.checksums.items()
        }

    @property
    def is_part(self) -> bool:
        """Whether the rows lie in part files."""
        return any(file.is_part for file in self.files)

    def renumbered(self, number_of: Mapping[int, int]) -> "Segment":
        """The rows in a store that numbers its policies anew; -1 for none any more."""
        return replace(self, files=tuple(f.renumbered(number_of) for f in self.files))

    def file_of(self, name: str) -> RowFile | None:
        """The file that has a matrix."""
        return next((f for f in reversed(self.files) if name in f.checksums), None)

    def slabs(self, name: str, like: np.ndarray) -> Iterator[np.ndarray]:
        """Yields a matrix in blocks of bounded size; verifies it at the end.

        Args:
            name: Of the matrix; where the files lack it, its rows are NaN.
            like: (0, D) of its type.
        """
        step = slab_rows(like.shape[1])
        starts = range(0, self.rows, step)
        file = self.file_of(name)
        if file is None:
            for start in starts:
                yield _missing(min(step, self.rows - start), like)
            return
        sha = hashlib.sha256()
        with file.matrix(name, like) as matrix:
            for start in starts:
                end = min(start + step, self.rows)
                block = np.ascontiguousarray(matrix[start:end])
                sha.update(block.data)
                yield block
            if sha.hexdigest() != file.checksums[name]:
                raise file.damaged(f"{name} with another checksum")

    def select(self, name: str, like: np.ndarray, rows: Any) -> np.ndarray:
        """Reads some rows of a matrix, unverified.

        Args:
            name: Of the matrix; where the files lack it, its rows are NaN.
            like: (0, D) of its type.
            rows: A slice, or numbers in strictly ascending order.
        """
        file = self.file_of(name)
        if file is None:
            return _missing(len(np.arange(self.rows)[rows]), like)
        with file.matrix(name, like) as matrix:
            return np.asarray(matrix[rows])


def _missing(rows: int, like: np.ndarray) -> np.ndarray:
    return np.full((rows, like.shape[1]), np.nan, like.dtype)


def starts(segments: Sequence[Segment]) -> list[int]:
    """The number of the first row of each segment in its store."""
    ends = np.cumsum([segment.rows for segment in segments])
    return [
        int(end) - segment.rows for end, segment in zip(ends, segments, strict=True)
    ]


def combined_checksum(name: str, segments: Sequence[Segment]) -> str:
    """SHA-256 over the rows and digests of a matrix's pieces, in order."""
    return digest([[one.rows, one.checksums.get(name)] for one in segments])


def mapping(
    dataset: str,
    segments: Sequence[Segment],
    files: Sequence[RowFile | None],
    shape: Sequence[int],
) -> list[tuple[Any, str, str]]:
    """The pieces of a virtual dataset, as HDF5 names them.

    Args:
        dataset: Its name, in the store and in the files.
        segments: The rows, in order.
        files: Of each segment the file that has the dataset; None for none.
        shape: Of a row.

    Returns:
        Of each piece the first and last corner in the dataset, the file, and the
        dataset in it. A percent sign is doubled, for HDF5 takes one for a number to
        insert.
    """
    least, most = (0,) * len(shape), tuple(width - 1 for width in shape)
    return [
        (
            ((start, *least), (start + segment.rows - 1, *most)),
            file.name.replace("%", "%%"),
            dataset.replace("%", "%%"),
        )
        for start, segment, file in zip(starts(segments), segments, files, strict=True)
        if file
    ]


def matrix_mapping(
    name: str, segments: Sequence[Segment], width: int
) -> list[tuple[Any, str, str]]:
    """The pieces of a virtual matrix; as for ``mapping``."""
    files = [segment.file_of(name) for segment in segments]
    return mapping(dataset_name(name), segments, files, (width,))


@dataclass(frozen=True, kw_only=True)
class _FileRecord:
    """A part file, as the store names it."""

    file: str
    bytes: int
    matrices: dict[str, "_PieceRecord"]
    keys_sha256: str = field(default="", metadata=records.OPTIONAL)
    paths_sha256: str = field(default="", metadata=records.OPTIONAL)
    policies: list[int] = field(default_factory=list, metadata=records.OPTIONAL)


@dataclass(frozen=True, kw_only=True)
class _SegmentRecord(_FileRecord):
    """Its first file, and those with further matrices."""

    rows: int
    beside: list[_FileRecord] = field(default_factory=list, metadata=records.OPTIONAL)


@dataclass(frozen=True, kw_only=True)
class _PieceRecord:
    filled: int
    sha256: str


def read_segments(path: Path, values: Any) -> tuple[Segment, ...]:
    """The part files of a store, by what it says of them.

    Raises:
        ValueError: Names a value that is not of its type, or a file elsewhere.
    """
    segments = []
    for number, value in enumerate(values if isinstance(values, list) else [values]):
        where = f"{PARTS}[{number}]"
        record = records.from_json(_SegmentRecord, value, where)
        files = [_part_file(path, one, where) for one in (record, *record.beside)]
        counts = [count for file in files for count in file.filled.values()]
        if record.rows < 1 or not all(0 <= count <= record.rows for count in counts):
            raise ValueError(f"{where}.rows {record.rows}")
        segments.append(Segment(record.rows, tuple(files)))
    return tuple(segments)


def _part_file(path: Path, record: _FileRecord, where: str) -> RowFile:
    folder, _, name = record.file.rpartition("/")
    if folder != f"{path.stem}{DATA}" or not PART_FILE.fullmatch(name):
        raise ValueError(f"{where}.file is {record.file!r}")
    filled = {name: piece.filled for name, piece in record.matrices.items()}
    sums = {name: piece.sha256 for name, piece in record.matrices.items()}
    return RowFile(
        path.parent / folder / name,
        record.bytes,
        filled,
        sums,
        is_part=True,
        keys_sha256=record.keys_sha256,
        paths_sha256=record.paths_sha256,
        policies=tuple(record.policies),
    )


def check_mapping(
    matrices: dict[str, h5py.Dataset],
    sealed: dict[str, dict[str, str | int]],
    segments: tuple[Segment, ...],
    rows: int,
) -> None:
    """Compares what other programs see, the virtual matrices, with the part files.

    Raises:
        ValueError: They differ.
    """
    names = {name for segment in segments for name in segment.checksums}
    if sum(one.rows for one in segments) != rows or names != {*matrices}:
        raise ValueError("parts of other rows or matrices")
    for name, matrix in matrices.items():
        filled = sum(segment.filled.get(name, 0) for segment in segments)
        checksum = combined_checksum(name, segments)
        if sealed[name] != {"filled": filled, "sha256": checksum}:
            raise ValueError(f"{name} of other parts")
        if virtual_pieces(matrix) != matrix_mapping(name, segments, matrix.shape[1]):
            raise ValueError(f"{name} mapped to other rows")


def virtual_pieces(dataset: h5py.Dataset) -> list[tuple[Any, str, str]]:
    """The pieces of a virtual dataset, each a block of rows that is a whole dataset."""
    whole = h5py.h5s.SEL_ALL
    pieces = [
        (piece.vspace.get_select_bounds(), piece.file_name, piece.dset_name)
        for piece in dataset.virtual_sources()
        if piece.src_space.get_select_type() == whole
    ]
    return sorted(pieces)


def parts_text(segments: Sequence[Segment]) -> str:
    """What a store says of its part files, as canonical JSON."""
    entries = []
    for segment in segments:
        first, *beside = map(_file_record, segment.files)
        record = _SegmentRecord(**vars(first), rows=segment.rows, beside=beside)
        entries.append(records.to_json(record))
    return canonical_json(entries)


def _file_record(file: RowFile) -> _FileRecord:
    pieces = {
        name: _PieceRecord(filled=file.filled[name], sha256=checksum)
        for name, checksum in file.checksums.items()
    }
    return _FileRecord(
        file=file.name,
        bytes=file.bytes,
        matrices=pieces,
        keys_sha256=file.keys_sha256,
        paths_sha256=file.paths_sha256,
        policies=[*file.policies],
    )


def dataset_name(name: str) -> str:
    """Where a matrix lies in the file; a slash in its name begins no group."""
    if name == FEATURES:
        return FEATURES
    link = name.replace("%", "%25").replace("/", "%2F")
    return f"{TAPS}/{'%2E' if link == '.' else link}"  # "." would be the group itself


def matrix_name(link: str) -> str:
    """The name of the matrix that a link in the group of taps is of."""
    return link.replace("%2F", "/").replace("%2E", ".").replace("%25", "%")


def slab_rows(dim: int) -> int:
    """Rows to hold at once."""
    return max(1, SLAB_BYTES // (dim * 4))
