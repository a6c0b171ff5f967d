"""Reading all files of a listing: in threads or processes, and on from a journal."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd

from featcache.commands.scan.columns import Columns
from featcache.commands.scan.files import File, Reading, Request, read_files
from featcache.commands.scan.journal import Journal
from featcache.core.parallel import in_threads, side_by_side
from featcache.core.progress import Reporter
from featcache.dataset import sources
from featcache.dataset.sources import remote
from featcache.dataset.urls import Url, is_url
from featcache.errors import DatasetError

_MANY = 10_000  # files here from which on processes are worth their start
_BLOCK = 4096  # lines of a journal that are looked up together
_Array = np.ndarray


@dataclass(frozen=True)
class Options:
    """How files are read.

    Attributes:
        keyword: The DICOM element to group by.
        keep_thumbs: Keep small grey pictures.
        jobs: Processes; None for one a core if there are many files here.
        reporter: Hears how many files are read.
    """

    keyword: str
    keep_thumbs: bool
    jobs: int | None
    reporter: Reporter


class Reader:
    """Reads the files of a listing.

    Attributes:
        columns: What was read, by row of the listing.
        thumbs: (1024,) uint8 by image_id.
        decoded: (N,) bool, the rows that this call has decoded.
    """

    def __init__(
        self, listing: sources.Listing, options: Options, journal: Journal
    ) -> None:
        self.columns = Columns(len(listing.table))
        self.decoded = np.zeros(len(listing.table), bool)
        self.thumbs: dict[str, np.ndarray] = {}
        self._listing, self._options, self._journal = listing, options, journal
        self._paths = listing.table["path"]
        self._is_far = isinstance(listing.root, Url) or any(map(is_url, self._paths))
        self._n_threads = remote.AT_ONCE if self._is_far else 1

    def resume(self) -> None:
        """Takes what the journal has of files that have not changed since.

        Raises:
            DatasetError: A server does not answer.
        """
        rows: dict[str, int] = {}
        lines = self._journal.entries()
        while block := [*islice(lines, _BLOCK)]:
            rows = rows or {path: row for row, path in enumerate(self._paths)}
            entries = [(path, file) for path, file in block if path in rows]
            paths = [path for path, _ in entries]
            stamps = in_threads(
                self._stamp, paths, remote.AT_ONCE if self._is_far else 1
            )
            for (path, file), stamp in zip(entries, stamps, strict=True):
                if stamp == file.stamp:
                    self._put(rows[path], file)
        if n := int(self.columns.is_read.sum()):
            text = f"going on: {n} of {len(self._paths)} images were read before"
            self._options.reporter.message(text)

    def read(self, decode: _Array) -> None:
        """Reads the files that the journal did not have.

        Args:
            decode: (N,) bool, which to decode at once.

        Raises:
            DatasetError: A server does not answer, or a worker process fails.
            UsageError: A worker process was killed.
        """
        refused = self._listing.refused
        for row in np.flatnonzero(self._paths.isin([*refused])).tolist():
            self.columns.put(row, File(reason=refused[self._paths.iloc[row]]))
        self._read(np.flatnonzero(~self.columns.is_read), decode, "scan")

    def decode_missing(self, *, thumbs: bool = False) -> None:
        """Decodes a file of each image that is not measured yet.

        Args:
            thumbs: Also of each that has no small picture.

        Raises:
            DatasetError: As `read`.
            UsageError: As `read`.
        """
        decode = np.ones(len(self._paths), bool)
        while len(rows := self._missing(thumbs=thumbs)):
            self._read(rows, decode, "decode")
            self.columns.spread(rows)

    def _missing(self, *, thumbs: bool) -> _Array:
        """The first row of each image that is to be decoded."""
        ids, missing = pd.Series(self.columns.image_id), ~self.columns.is_measured
        if thumbs:
            missing |= ~ids.isin([*self.thumbs]).to_numpy()
        rows = np.flatnonzero(missing & (self.columns.reason == ""))
        return rows[~ids.iloc[rows].duplicated().to_numpy()]

    def _read(self, rows: _Array, decode: _Array, name: str) -> None:
        done = len(self._paths) - len(rows) if name == "scan" else 0
        total = done + len(rows)
        self._options.reporter.progress(name, done, total)
        for chunk, reading in self._readings(rows, decode):
            remote.add_repeated(reading.repeated)
            if reading.error:
                raise reading.error
            for row, file in zip(chunk.tolist(), reading.files, strict=True):
                self._put(row, file)
            self.decoded[chunk] |= decode[chunk]
            self._journal.add(zip(self._paths.take(chunk), reading.files, strict=True))
            done += len(chunk)
            self._options.reporter.progress(name, done, total)

    def _put(self, row: int, file: File) -> None:
        self.columns.put(row, file)
        if file.picture and file.picture.thumb:
            self.thumbs[file.image_id] = np.frombuffer(file.picture.thumb, np.uint8)

    def _stamp(self, path: str) -> str:
        listing = self._listing
        return listing.stamps.get(path) or sources.stamp(listing.root, path)

    def _readings(
        self, rows: _Array, decode: _Array
    ) -> Iterator[tuple[_Array, Reading]]:
        """Reads some rows at a time, in threads of this process or in others."""
        cores, options = os.cpu_count() or 1, self._options
        is_small = self._is_far or len(rows) < _MANY
        jobs = options.jobs or (1 if is_small else cores)
        if jobs == 1:
            usual = 1 if options.jobs else cores + 4
            n_threads = self._n_threads if self._is_far else usual
            calls = _Calls(
                self._listing, options, rows, decode, 1 if self._is_far else 8
            )
            numbers = range(len(calls))
            readings = in_threads(calls.run, numbers, n_threads)
            yield from zip(map(calls.rows_of, numbers), readings, strict=True)
            return
        # All processes have some, and a kill costs little.
        size = max(1, min(64, len(rows) // (4 * jobs)))
        calls = _Calls(self._listing, options, rows, decode, size, self._n_threads)
        for number, reading in side_by_side(read_files, calls, jobs):
            if isinstance(reading, str):
                problem = f"the images cannot be read in a worker process ({reading})"
                raise DatasetError(problem, "Try `jobs=1`; finished work is kept.")
            yield calls.rows_of(number), reading


@dataclass(frozen=True)
class _Calls(Sequence[dict[str, Any]]):
    """The arguments of each call of `read_files`, made when they are needed."""

    listing: sources.Listing
    options: Options
    rows: _Array
    decode: _Array
    size: int
    threads: int = 1

    def __len__(self) -> int:
        return -(-len(self.rows) // self.size)

    def rows_of(self, number: int) -> _Array:
        """The rows that a call reads."""
        return self.rows[number * self.size : (number + 1) * self.size]

    def __getitem__(self, number: Any) -> Any:
        rows = self.rows_of(number)
        if not len(rows):
            raise IndexError(number)
        paths, stamps = self.listing.table["path"].take(rows), self.listing.stamps
        decode = self.decode[rows].tolist()
        requests = [
            Request(path, stamps.get(path, ""), new)
            for path, new in zip(paths, decode, strict=True)
        ]
        return {
            "root": self.listing.root,
            "requests": requests,
            "keyword": self.options.keyword,
            "keep_thumbs": self.options.keep_thumbs,
            "threads": self.threads,
        }

    def run(self, number: int) -> Reading:
        """Makes a call in this process."""
        return read_files(**self[number])
