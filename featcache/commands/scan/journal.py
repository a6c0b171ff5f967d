"""The journal of a scan: what it has read, so that a killed one goes on from there.

The first line says of which scan it is, each further line is a file. A line begins with
the CRC-32 of the rest. The first that does not fit ends the journal: the process was
killed while it wrote it.
"""

import base64
import json
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any, Self

from featcache.commands.scan.files import File, Picture
from featcache.core.io import canonical_json
from featcache.dataset.images import DECODER_VERSION
from featcache.errors import DatasetError

FILE = "scan.journal"
_SCHEMA = 1
_FACTS = [str, str, int, str, str, str]  # of a line, before the picture
_OF_PICTURE = [int, int, str, str, bool]


class Journal:
    """The journal in a dataset's folder; whoever opens it holds the manifest's lock.

    Args:
        folder: ``cache/<dataset>``.
        source: What is scanned; the journal of another source begins anew.
        keyword: The DICOM element that files are read for; likewise.
    """

    def __init__(self, folder: Path, source: str, keyword: str) -> None:
        self.path = folder / FILE
        self._head = [_SCHEMA, source, DECODER_VERSION, keyword]
        self._file: FileIO | None = None
        self._end = 0  # of the lines that are whole

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()

    def entries(self) -> Iterator[tuple[str, File]]:
        """Path and file of each line, a later one of the same path counts.

        To be run to the end before anything is added.

        Raises:
            DatasetError: It is a link, which could lead to any file, or no file.
        """
        if self.path.is_symlink() or (self.path.exists() and not self.path.is_file()):
            raise DatasetError(
                f"{self.path} to be a file of featcache's own",
                "a link, a folder or a device",
                "Remove it, and scan again.",
            )
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            for number, line in enumerate(file):
                record = _parse(line)
                if record is None or (number == 0 and record != self._head):
                    return
                entry = _entry(record) if number else None
                if number and entry is None:
                    return
                self._end += len(line)
                if entry:
                    yield entry

    def add(self, files: Iterable[tuple[str, File]]) -> None:
        """Appends files that could be read and can be recognised as unchanged.

        Raises:
            OSError: It cannot be written; names the journal.
        """
        lines = [_line(path, file) for path, file in files if _is_lasting(file)]
        if not lines:
            return
        try:
            if self._file is None:
                self._file = FileIO(self.path, "ab")
                self._file.truncate(self._end)
                lines = lines if self._end else [_seal(self._head), *lines]
            data = b"".join(lines)
            while data:  # a disk that is nearly full takes a part of it
                data = data[self._file.write(data) :]
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def remove(self) -> None:
        """The scan has ended."""
        self.path.unlink(missing_ok=True)


def _is_lasting(file: File) -> bool:
    return bool(file.image_id and file.stamp and not file.reason)


def _seal(record: Any) -> bytes:
    text = canonical_json(record).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _line(path: str, file: File) -> bytes:
    *values, picture = file
    if picture:
        thumb = base64.b64encode(picture.thumb).decode()
        picture = picture._replace(thumb=thumb)  # type: ignore[arg-type]
    return _seal([path, *values, picture])


def _parse(line: bytes) -> Any:
    crc, _, text = line.removesuffix(b"\n").partition(b" ")
    whole = line.endswith(b"\n") and crc == b"%08x" % zlib.crc32(text)
    with suppress(ValueError, RecursionError):
        return json.loads(text) if whole else None
    return None


def _entry(record: Any) -> tuple[str, File] | None:
    """Path and file of a line; None if its checksum fits, but not what it says."""
    with suppress(TypeError, ValueError):
        path, *facts, picture = record
        if [type(value) for value in (path, *facts)] == _FACTS:
            return path, File._make([*facts, _picture(picture)])
    return None


def _picture(values: list[Any] | None) -> Picture | None:
    if values is None:
        return None
    *facts, thumb = values
    if [type(value) for value in facts] != _OF_PICTURE:
        raise TypeError
    return Picture._make([*facts, base64.b64decode(thumb)])
