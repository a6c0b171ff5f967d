"""A validation as tables on a terminal."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from featcache.cli.output import fits, print_table, show

if TYPE_CHECKING:
    from featcache.evaluation.external import Validation
    from featcache.report.validation_blocks import Block

_MOST_IMAGES = 10  # that are listed of those left out
_SHORT = {
    "prevalence corrected": "prev. corrected",
    "calibration intercept": "intercept",
    "calibration slope": "slope",
}
_Lines = list[list[str]]


def print_validation(result: "Validation") -> None:
    """Prints the three columns of scores, operating points, subgroups and notes."""
    from featcache.report import validation_rows as rows_of
    from featcache.report.validation_blocks import blocks

    show(rows_of.summary(result))
    for line in rows_of.overlap_lines(result, _MOST_IMAGES):
        show(f"  {line}")
    for block in blocks(result):
        show(f"\n{block.title}")
        _print_block(block)
    show("")
    for line in rows_of.notes(result):
        show(line)


def _print_block(block: "Block") -> None:
    """One table; on a narrow terminal in short, and columns that are left over below.

    The first column of text is repeated there.
    """
    whole = _lines(block, is_short=False)
    if fits(_headings(whole), whole[1:]):
        print_table(_headings(whole), whole[1:])
        return
    for lines in _parts(_lines(block, is_short=True), block.stubs):
        print_table(_headings(lines), lines[1:])


def _headings(lines: _Lines) -> list[tuple[str, bool]]:
    return [(heading, number > 0) for number, heading in enumerate(lines[0])]


def _lines(block: "Block", *, is_short: bool) -> _Lines:
    """Headings and rows as text."""
    from featcache.report.validation_rows import short_text_of, text_of

    of = short_text_of if is_short else text_of
    rows = [
        [cell if isinstance(cell, str) else of(cell) for cell in row]
        for row in block.rows
    ]
    lines = [block.headings, *rows]
    return [[_SHORT.get(x, x) for x in row] for row in lines] if is_short else lines


def _parts(lines: _Lines, stubs: int) -> Iterator[_Lines]:
    """As many columns as have room side by side, then the others."""
    first, columns = [*range(stubs)], [*range(stubs, len(lines[0]))]
    while columns:
        n = len(columns)
        while n > 1 and not _has_room(_picked(lines, [*first, *columns[:n]])):
            n -= 1
        yield _picked(lines, [*first, *columns[:n]])
        first, columns = [0], columns[n:]


def _has_room(lines: _Lines) -> bool:
    return fits(_headings(lines), lines[1:])


def _picked(lines: _Lines, columns: Sequence[int]) -> _Lines:
    return [[row[column] for column in columns] for row in lines]
