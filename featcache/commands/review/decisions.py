"""``reviews.csv``: what people have answered, a line each; none is ever rewritten."""

import csv
import io
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from featcache.core.io import fsync_dir, lock
from featcache.core.text import printable, some
from featcache.errors import DatasetError, UsageError

FILE = "reviews.csv"  # in ``cache/<dataset>``
# What a line says: the answer before and after the model was shown, no answer, a
# remark, or that the reader's last line on the image does not count.
ANSWER, FINAL, SKIP, NOTE, UNDO = "answer", "final", "skip", "note", "undo"
EVENTS = (ANSWER, FINAL, SKIP, NOTE, UNDO)
LONGEST_NOTE, LONGEST_READER = 500, 60  # characters
_YES, _NO = "yes", "no"
_WAIT = 20.0  # seconds for another process that appends
_FORMULA = re.compile(r"'*[=+\-@]")  # how a cell begins that a spreadsheet computes
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z)")
_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Decision:
    """A line of ``reviews.csv``.

    Attributes:
        reader: Who answered.
        time: When, in ISO 8601, UTC.
        image_id: The image.
        queue: Why it was looked at.
        event: "answer", "final", "skip", "note" or "undo".
        model_shown: Whether the reader had seen what the model predicts.
        label: The image's label at that time.
        before: The answer before the model was shown; "" without one.
        after: The answer after it was shown; "" without one.
        note: A remark.
    """

    reader: str
    time: str
    image_id: str
    queue: str
    event: str
    model_shown: bool
    label: str
    before: str = ""
    after: str = ""
    note: str = ""


COLUMNS = tuple(one.name for one in fields(Decision))
_HEADER = ",".join(COLUMNS)


class Reading(NamedTuple):
    """What a reader says of an image by now.

    Attributes:
        last: The newest line that counts; None where all were taken back.
        unblinded: Whether the reader has seen what the model predicts for it.
        notes: The reader's remarks on it.
    """

    last: Decision | None
    unblinded: bool
    notes: tuple[str, ...]

    @property
    def before(self) -> str:
        """The answer before the model was shown; "" without one."""
        return self.last.before if self.last else ""

    @property
    def answer(self) -> str:
        """The answer that counts; "" without one."""
        return (self.last.after or self.last.before) if self.last else ""

    @property
    def is_done(self) -> bool:
        """Whether the reader is through with the image."""
        return self.last is not None and self.last.event in (FINAL, SKIP)


UNREAD = Reading(None, False, ())


@dataclass(frozen=True)
class Decisions:
    """All lines of ``reviews.csv`` that can be read.

    Attributes:
        lines: In their order.
        warnings: What cannot be read, in words.
    """

    lines: Sequence[Decision] = ()
    warnings: Sequence[str] = field(default_factory=tuple)

    @property
    def readers(self) -> list[str]:
        """Everybody with a line, in the order of their first."""
        return list(dict.fromkeys(line.reader for line in self.lines))

    def of(self, reader: str) -> list[Decision]:
        """The lines of a reader, in their order."""
        return [line for line in self.lines if line.reader == reader]

    def readings(self, reader: str) -> dict[str, Reading]:
        """What a reader says of each image by now, by image_id."""
        stacks: dict[str, list[Decision]] = {}
        notes: dict[str, list[str]] = {}
        seen = set()
        for line in self.of(reader):
            stack = stacks.setdefault(line.image_id, [])
            if line.event == UNDO:
                stack[-1:] = []
            elif line.event != NOTE:
                stack.append(line)
            if line.before or line.model_shown:
                seen.add(line.image_id)
            if line.note and line.event != UNDO:
                notes.setdefault(line.image_id, []).append(line.note)
        return {
            image: Reading(
                stack[-1] if stack else None, image in seen, tuple(notes.get(image, ()))
            )
            for image, stack in stacks.items()
        }


def read(folder: Path) -> Decisions:
    """Reads ``cache/<dataset>/reviews.csv``; without it there are no decisions.

    A line that is damaged, such as the last of a process that was killed while it
    wrote, is left out with a warning, and stays in the file.

    Raises:
        DatasetError: The file has other columns.
    """
    path = folder / FILE
    try:
        text = path.read_bytes().decode("utf-8-sig", "replace")
    except FileNotFoundError:
        return Decisions()
    # Not splitlines, for which other characters end a line as well.
    rows = [row.removesuffix("\r") for row in text.split("\n")]
    if rows[0].replace('"', "") != _HEADER:
        if _HEADER.startswith(text):  # cut while it was new
            return Decisions((), (_cut(path, 1),))
        raise DatasetError(
            f"{path} with the columns {', '.join(COLUMNS)}, separated by commas",
            repr(rows[0][:120]),
            "Restore it, or move it away to begin anew.",
        )
    lines, bad = [], []
    for number, row in enumerate(rows[1:], 2):
        if not row:
            continue
        try:
            lines.append(_parse(row))
        except (ValueError, csv.Error) as error:
            is_last = number == len(rows)
            bad.append(
                _cut(path, number)
                if is_last
                else f"line {number} of {path} is left out: {error}"
            )
    return Decisions(lines, bad)


def _cut(path: Path, number: int) -> str:
    return (
        f"line {number} of {path} is cut off, as by a process that was killed; "
        "that answer is lost, all others are there"
    )


def _parse(row: str) -> Decision:
    """A line of the file.

    Raises:
        ValueError: It is none of ours; says why.
        csv.Error: It is no CSV.
    """
    (cells,) = csv.reader([row], strict=True)
    if len(cells) != len(COLUMNS):
        raise ValueError(f"{len(cells)} cells instead of {len(COLUMNS)}")
    values = dict(zip(COLUMNS, map(_plain, cells), strict=True))
    if not _TIME.fullmatch(values["time"]):
        raise ValueError(f"{values['time'][:40]!r} is no time in UTC")
    if not _ID.fullmatch(values["image_id"]):
        raise ValueError("an image_id that is no SHA-256")
    if values["event"] not in EVENTS:
        raise ValueError(f"{values['event'][:40]!r} is none of {', '.join(EVENTS)}")
    if values["model_shown"] not in (_YES, _NO):
        raise ValueError("model_shown that is neither yes nor no")
    answers = bool(values["before"]) + bool(values["after"])
    needed = {ANSWER: values["before"], FINAL: values["after"], SKIP: not answers}
    if not needed.get(values["event"], True):
        raise ValueError(f"{values['event']} with other answers")
    if not _is_reader(values["reader"]):
        raise ValueError("the name of a reader that cannot be one")
    model_shown = values.pop("model_shown") == _YES
    return Decision(model_shown=model_shown, **values)


def _row(decision: Decision) -> str:
    """A line as it is written, without its end."""
    text = io.StringIO()
    cells = [
        _YES if c is True else _NO if c is False else _safe(c)
        for c in astuple(decision)
    ]
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()


def _safe(cell: str) -> str:
    """The cell with an apostrophe where a spreadsheet would compute."""
    return f"'{cell}" if _FORMULA.match(cell) else cell


def _plain(cell: str) -> str:
    """What `_safe` was applied to."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def check_reader(name: str) -> str:
    """The name of a reader, as it is written.

    Raises:
        UsageError: It is empty, too long, or has characters that are not shown.
    """
    if _is_reader(name):
        return name
    raise UsageError(
        f"`reader`, a name of 1 to {LONGEST_READER} letters that can be shown",
        repr(name[:LONGEST_READER]),
        "Use a plain name, such as `reader='ann'`.",
    )


def _is_reader(name: str) -> bool:
    return (
        0 < len(name) <= LONGEST_READER
        and name == " ".join(name.split())
        and name == printable(name)
        and not _FORMULA.match(name)
    )


def clean_note(text: str) -> str:
    """A remark in one line, with what is never shown escaped, and not too long."""
    return printable(" ".join(text.split()))[:LONGEST_NOTE].strip()


def now() -> str:
    """The time for a line."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@contextmanager
def appending(folder: Path) -> Iterator["Appender"]:
    """Holds the lock of ``reviews.csv``, so that what is read there stays true.

    Raises:
        LockedError: Another process has been writing for 20 seconds.
        DatasetError: The file has other columns.
    """
    guard = folder / f".{FILE}.lock"
    with lock(guard, f"{FILE} of {folder.name}", timeout=_WAIT):
        yield Appender(folder, read(folder))


@dataclass(frozen=True)
class Appender:
    """``reviews.csv`` while its lock is held.

    Attributes:
        folder: ``cache/<dataset>``.
        decisions: What stands in it.
    """

    folder: Path
    decisions: Decisions

    def append(self, decisions: Iterable[Decision]) -> None:
        """Writes lines behind those that are there; on disk when it returns.

        Raises:
            OSError: They cannot be written; then none of them is there.
        """
        path = self.folder / FILE
        rows = "".join(f"{_row(one)}\n" for one in decisions)
        is_new = not path.exists()
        with path.open("a+b", buffering=0) as file:
            file.seek(0)
            beginning = file.read(len(_HEADER) + 1)
            if not beginning.endswith(b"\n") and _HEADER.encode().startswith(beginning):
                file.truncate(0)  # a header that was cut while the file was new
                rows = f"{_HEADER}\n{rows}"
            else:
                file.seek(-1, os.SEEK_END)
                # What was cut off stays a line of its own.
                rows = rows if file.read(1) == b"\n" else f"\n{rows}"
            _write(file, rows.encode())
        if is_new:
            fsync_dir(self.folder)


def _write(file: io.RawIOBase, data: bytes) -> None:
    """Writes all of the data to the disk, or nothing."""
    size = file.seek(0, os.SEEK_END)
    try:
        while data:
            data = data[file.write(data) or 0 :]
        os.fsync(file.fileno())
    except BaseException:
        file.truncate(size)
        raise


def unknown_reader(name: str, decisions: Decisions) -> UsageError:
    """The error for a reader without a line."""
    readers = some(decisions.readers, 10)
    return UsageError(
        f"a reader with answers: {readers or 'there are none yet'}",
        repr(name[:LONGEST_READER]),
        "Name one of these." if readers else "Run: featcache review",
    )
