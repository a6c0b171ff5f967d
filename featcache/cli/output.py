"""What commands print: bars and messages on stderr, results on stdout."""

import json
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import click

from featcache.cli.spelling import spelled
from featcache.core.command_lines import Folders
from featcache.core.progress import Reporter
from featcache.core.text import counted, printable, warning_text

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID
    from rich.table import Table

    from featcache.evaluation.record import RunRecord
    from featcache.evaluation.runs import Run


def say(text: str) -> None:
    """Says something that is not a result, on stderr, in the command line's words."""
    context = click.get_current_context(silent=True)
    group = context.find_root().command if context else None
    text = spelled(text, group) if isinstance(group, click.Group) else text
    click.echo(printable(folders().complete(text)), err=True)


def folders() -> Folders:
    """The folders of the current call."""
    context = click.get_current_context(silent=True)
    meta = context.meta if context else {}
    return Folders(meta.get("featcache.cache"), meta.get("featcache.reports"))


def mib(size: int, digits: int = 2) -> str:
    """A number of bytes in MiB."""
    return f"{size / 2**20:.{digits}f}"


def show(text: str) -> None:
    """Shows a result on stdout; what a terminal would obey is escaped."""
    click.echo(printable(folders().complete(text)))


@contextmanager
def one_line_warnings() -> Iterator[None]:
    """Says libraries' warnings in one line each, without the file they come from."""

    def show(
        message: Warning | str, category: type[Warning], *_: Any, **__: Any
    ) -> None:
        say(f"Warning: {warning_text(message, category)}")

    before, warnings.showwarning = warnings.showwarning, show
    try:
        yield
    finally:
        warnings.showwarning = before


def print_json(value: Any) -> None:
    """Prints a result as JSON on stdout."""
    click.echo(json.dumps(value, indent=2, default=str))


class Said(Reporter):
    """Says messages on stderr."""

    def message(self, text: str) -> None:
        """Says it."""
        say(text)

    def ended(self, text: str) -> None:
        """Says it, so that a log shows how far a long call is."""
        say(text)


class Bars(Said):
    """Draws a bar for each name as well.

    Args:
        drawing: What the bars are drawn by.
    """

    def __init__(self, drawing: "Progress") -> None:
        self._drawing = drawing
        self._tasks: dict[str, TaskID] = {}
        self._before: dict[str, int] = {}  # done when the bar was new
        self._doing = ""

    def progress(self, name: str, done: int, total: int) -> None:
        """Moves the bar of a name."""
        drawing = self._drawing
        if name not in self._tasks:
            self._tasks[name] = drawing.add_task(name, rate="")
            self._before[name] = done
        number, new = self._tasks[name], done - self._before[name]
        elapsed = drawing.tasks[drawing.task_ids.index(number)].elapsed
        rate = _rate(new / elapsed) if elapsed and new else ""
        drawing.update(number, completed=done, total=total, rate=self._doing or rate)
        if done >= total:
            self._doing = ""

    def doing(self, text: str) -> None:
        """Shows it beside the bar, instead of the rate."""
        self._doing = printable(text)


def _rate(per_second: float) -> str:
    return f"{per_second:.{0 if per_second >= 10 else 1}f}/s"


@contextmanager
def bars() -> Iterator[Bars]:
    """Draws bars on stderr, on a terminal, while the block runs."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    # Not a terminal: a bar would only fill the log.
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as drawing:
        yield Bars(drawing)


def print_table(
    headings: list[tuple[str, bool]],
    rows: list[list[str]],
    *,
    drop_first: Sequence[str] = (),
    lines_before: Collection[int] = (),
) -> list[str]:
    """Prints a table on stdout; each heading says whether its column is numeric.

    Args:
        headings: Of the columns.
        rows: Their cells.
        drop_first: Headings that a narrow terminal does without, the least important
            first; columns of long text are folded where they must, and further for the
            last heading than for the others.
        lines_before: Indices of the rows above which there is a line.

    Returns:
        The headings that were dropped.
    """
    from rich.console import Console

    rows = [[printable(cell).replace("\n", "\\n") for cell in row] for row in rows]
    headings = [(printable(heading), numeric) for heading, numeric in headings]
    # A cell is text and never markup.
    console = Console(markup=False, highlight=False, width=terminal_width())
    columns = _columns(headings, rows)
    gap = _GAP if _least_width(columns) <= console.width else _NARROW_GAP
    dropped = {*drop_first}
    for name in reversed(drop_first):
        visible = [column for column in columns if column[0] not in dropped - {name}]
        widest = _FOLDED if name == drop_first[-1] else _WIDEST
        if _least_width(visible, widest, gap) <= console.width:
            dropped.remove(name)
    visible = [column for column in columns if column[0] not in dropped]
    console.print(_table(visible, lines_before, gap, whole_cells=bool(drop_first)))
    return [heading for heading, *_ in columns if heading in dropped]


def terminal_width() -> int:
    """Characters in a line; a file or a pipe has no width to keep to."""
    from rich.console import Console

    console = Console()
    return console.width if console.is_terminal else 1000


def fits(headings: list[tuple[str, bool]], rows: list[list[str]]) -> bool:
    """Whether `print_table` has room for all columns, with their numbers whole."""
    return _least_width(_columns(headings, rows)) <= terminal_width()


def _columns(
    headings: list[tuple[str, bool]], rows: list[list[str]]
) -> "list[_Column]":
    return [
        (heading, numeric, [row[i] for row in rows])
        for i, (heading, numeric) in enumerate(headings)
    ]


_Column = tuple[str, bool, list[str]]  # heading, whether it is numeric, cells
_WIDEST = 24  # of a column of text, before numbers have to go
_FOLDED = 12  # of one, before the most important of them has to go
_GAP, _NARROW_GAP = 3, 2  # between columns
_SHORT = 10  # letters of a text that is never folded, such as the short id of a run


def _least_width(columns: list[_Column], widest: int = _WIDEST, gap: int = _GAP) -> int:
    """Characters that a table needs so that its numbers are whole."""
    from rich.cells import cell_len

    widths = [max(map(cell_len, [heading, *cells])) for heading, _, cells in columns]
    least = [
        width if numeric else min(width, widest)
        for width, (_, numeric, _) in zip(widths, columns, strict=True)
    ]
    return sum(least) + gap * (len(columns) - 1) + 2  # of the edges


def _table(
    columns: list[_Column],
    lines_before: Collection[int],
    gap: int,
    *,
    whole_cells: bool,
) -> "Table":
    from rich.box import Box
    from rich.table import Table

    # SIMPLE_HEAD of rich, with a line between sections.
    box = Box("    \n    \n ── \n    \n ── \n    \n    \n    \n")
    table = Table(box=box, pad_edge=False, padding=(0, 1, 0, gap - 2))
    for heading, numeric, cells in columns:
        side: Literal["left", "right"] = "right" if numeric else "left"
        whole = whole_cells and (numeric or max(map(len, cells), default=0) <= _SHORT)
        table.add_column(heading, justify=side, overflow="fold", no_wrap=whole)
    for number, row in enumerate(zip(*(cells for *_, cells in columns), strict=True)):
        if number in lines_before:
            table.add_section()
        table.add_row(*row)
    return table


def print_runs_as_json(runs: "Sequence[Run]") -> None:
    """Prints the records of runs, each with its short and its whole id."""
    ids = [{"run": run.short_id, "run_id": run.run_id} for run in runs]
    print_json(
        [run.record.to_json() | names for run, names in zip(runs, ids, strict=True)]
    )


def print_runs(runs: "Sequence[Run]", new: list[str]) -> None:
    """Prints a line for each run that a call made."""
    if not new:
        exist = counted(len(runs), "run exists", "runs exist")
        show(f"{exist} already: nothing to do.")
    for run in runs:
        if not run.failed and run.run_id in new:
            show(run_line(run))


def run_line(run: "Run") -> str:
    """What a run is, its accuracy, and how long its fits took."""
    scores = run.record.scores
    part = "train" if "train" in scores else "test"
    score, where = scores[part], "" if part == "train" else "on the test set only "
    return (
        f"{run.short_id} {run.run_id} ({features_text(run.record)}): "
        f"accuracy {where}{score['accuracy']:.3f} "
        f"({score['accuracy_low']:.3f}-{score['accuracy_high']:.3f}), "
        f"fit {run.record.fit_seconds:.1f} s"
    )


def features_text(record: "RunRecord") -> str:
    """What a run was trained on: backbones with their input sizes, and taps."""
    if record.members:
        return f"{len(record.members)} members"
    pairs = [(block.backbone, block.input_size) for block in record.features]
    names = dict.fromkeys(f"{n} {side} px" if side else n for n, side in pairs)
    taps = dict.fromkeys(block.tap for block in record.features if block.tap)
    return " + ".join(names) + (f", taps {', '.join(taps)}" if taps else "")
