"""reviews.csv: nothing that was answered is lost, and nothing in it can do harm."""

import csv
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from toy_review import IDS, final, line, write

from featcache.commands.review import decisions as log
from featcache.commands.review.decisions import COLUMNS, FILE, NOTE, SKIP, UNDO
from featcache.dataset.manifest import Manifest
from featcache.errors import DatasetError, UsageError

HOSTILE = [
    '=HYPERLINK("http://x")', "+1+1", "-2", "@SUM(A1)", "a,b", 'say "so"', "'=x",
    "é\u4e2d",
]  # fmt: skip


def test_lines_come_back_as_they_were_written(chest: Manifest) -> None:
    """Every field of a line is read as it was written, hostile texts as well."""
    lines = [line("ann", n, "COVID", note=text) for n, text in enumerate(HOSTILE)]
    lines += [replace(lines[0], before=text) for text in HOSTILE]
    write(chest, *lines[:3])
    write(chest, *lines[3:])
    decisions = log.read(chest.folder)
    assert (list(decisions.lines), list(decisions.warnings)) == (lines, [])


def test_no_cell_is_a_formula(chest: Manifest) -> None:
    """A spreadsheet computes no cell."""
    write(chest, *(line("ann", 0, text, note=text) for text in HOSTILE))
    with (chest.folder / FILE).open(newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if cell[:1] in set("=+-@\t\r")]


def test_a_note_is_one_line(chest: Manifest) -> None:
    """Line feeds, tabs and what is never shown do not reach the file."""
    assert log.clean_note(" a\r\nb\tc \u202e ") == "a b c \\u202e"
    assert len(log.clean_note("x" * 10_000)) == log.LONGEST_NOTE


@pytest.mark.parametrize(
    "name", ["", " ann", "a\nb", "=cmd", "@ann", "x" * 61, "\u202eann", "a\x00", "'=a"]
)
def test_readers_that_cannot_be(name: str) -> None:
    """A reader's name is short, shows whole, and is no formula."""
    with pytest.raises(UsageError, match="reader"):
        log.check_reader(name)


@pytest.mark.parametrize("name", ["ann", "Dr. Ünal", "O'Neil", "a,b", "李"])
def test_readers_that_can_be(name: str) -> None:
    """People have names."""
    assert log.check_reader(name) == name


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_a_cut_last_line_is_left_out(chest: Manifest, cut: int) -> None:
    """Of a line that was cut a warning remains; the next one is whole again."""
    first, last, more = (line("ann", n, "COVID", note="why") for n in range(3))
    write(chest, first, last)
    path = chest.folder / FILE
    data = path.read_bytes()
    path.write_bytes(data[: -cut - 1] if cut > 1 else data[:-8])
    decisions = log.read(chest.folder)
    assert list(decisions.lines) == [first]
    assert "line 3" in decisions.warnings[0]
    assert "cut off" in decisions.warnings[0]
    write(chest, more)
    again = log.read(chest.folder)
    assert list(again.lines) == [first, more]
    assert len(again.warnings) == 1


def test_a_line_without_its_newline_counts(chest: Manifest) -> None:
    """An editor that leaves out the last newline costs nothing."""
    first, more = line("ann", 0, "COVID"), line("ann", 1, "COVID")
    write(chest, first)
    path = chest.folder / FILE
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    write(chest, more)
    decisions = log.read(chest.folder)
    assert (list(decisions.lines), list(decisions.warnings)) == ([first, more], [])


@pytest.mark.parametrize("size", [0, 3, len(",".join(COLUMNS))])
def test_a_cut_header_is_written_again(chest: Manifest, size: int) -> None:
    """A process that died while the file was new leaves nothing behind."""
    (chest.folder / FILE).write_text(",".join(COLUMNS)[:size])
    assert not log.read(chest.folder).lines
    write(chest, line("ann", 0, "COVID"))
    decisions = log.read(chest.folder)
    assert (len(decisions.lines), list(decisions.warnings)) == (1, [])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ann", "=ann"), ("answer", "think"), (",no,", ",maybe,"), (IDS[0], "abc"),
        ("2026-01-01T", "yesterday "), ("random", "a,b"), ("COVID,,", ",,"),
        ("random", '"a'),
    ],
)  # fmt: skip
def test_lines_edited_by_hand(chest: Manifest, old: str, new: str) -> None:
    """A line that none of ours can be is left out, by its number; the rest counts."""
    write(chest, line("ann", 0, "COVID"), line("bob", 1, "COVID"))
    path = chest.folder / FILE
    head, first, rest = path.read_text().split("\n", 2)
    path.write_text("\n".join([head, first.replace(old, new, 1), rest]))
    decisions = log.read(chest.folder)
    assert [one.reader for one in decisions.lines] == ["bob"]
    assert "line 2 of" in decisions.warnings[0]


def test_a_file_of_other_columns_is_refused(chest: Manifest) -> None:
    """What a spreadsheet saved with semicolons is not taken for an empty file."""
    write(chest, line("ann", 0, "COVID"))
    path = chest.folder / FILE
    path.write_text(path.read_text().replace(",", ";"))
    with pytest.raises(DatasetError, match="separated by commas"):
        log.read(chest.folder)


def test_windows_newlines_and_a_bom_are_read(chest: Manifest) -> None:
    """A CSV that was saved by a spreadsheet is the same CSV."""
    write(chest, line("ann", 0, "COVID"))
    path = chest.folder / FILE
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert len(log.read(chest.folder).lines) == 1


def test_readings(chest: Manifest) -> None:
    """The last line of an image counts; an undo takes it back, and nothing else."""
    write(
        chest,
        line("ann", 0, "COVID", note="haze"),
        final("ann", 0, "NORMAL", "COVID"),
        line("ann", 1, "COVID"),
        line("ann", 2, "", event=SKIP),
        line("ann", 0, "COVID", event=NOTE, note="more", model_shown=True),
        line("bob", 0, "NORMAL"),
    )
    mine = log.read(chest.folder).readings("ann")
    assert (mine[IDS[0]].answer, mine[IDS[0]].before) == ("NORMAL", "COVID")
    assert mine[IDS[0]].notes == ("haze", "more")
    assert [mine[IDS[n]].is_done for n in range(3)] == [True, False, True]
    write(chest, line("ann", 0, "COVID", event=UNDO, after="NORMAL", model_shown=True))
    mine = log.read(chest.folder).readings("ann")
    assert (mine[IDS[0]].answer, mine[IDS[0]].is_done) == ("COVID", False)
    write(chest, line("ann", 0, "COVID", event=UNDO, model_shown=True))
    mine = log.read(chest.folder).readings("ann")
    assert (mine[IDS[0]].answer, mine[IDS[0]].unblinded) == ("", True)


KILLED = """
import sys, pathlib
sys.path[:0] = {path!r}
from toy_review import line
from featcache.commands.review import decisions as log
folder, number = pathlib.Path({folder!r}), 0
while True:
    with log.appending(folder) as appender:
        appender.append([line({reader!r}, number % 90, "COVID", note=str(number))])
    print(number, flush=True)
    number += 1
"""


@pytest.mark.slow
def test_two_processes_that_are_killed(chest: Manifest) -> None:
    """Two write in turn; kill -9 loses no line that was said to be written."""
    code = [
        KILLED.format(path=sys.path, folder=str(chest.folder), reader=reader)
        for reader in ("ann", "bob")
    ]
    writers = [
        subprocess.Popen([sys.executable, "-c", one], stdout=subprocess.PIPE, text=True)
        for one in code
    ]
    for writer in writers:
        assert writer.stdout
        for _ in range(5):
            writer.stdout.readline()
        writer.kill()
    decisions = log.read(chest.folder)
    for reader, writer in zip(("ann", "bob"), writers, strict=True):
        told = 5 + len(writer.communicate()[0].split())
        notes = [int(one.note) for one in decisions.of(reader)]
        assert notes[:told] == list(range(told))
    assert len(decisions.warnings) <= 2


def test_no_folder_is_made_by_reading(tmp_path: Path) -> None:
    """A dataset without answers has none, and gets no file."""
    assert log.read(tmp_path) == log.Decisions()
    assert list(tmp_path.iterdir()) == []
