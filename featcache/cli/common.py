"""What commands share: options, bars, tables."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

if TYPE_CHECKING:
    from rich.table import Table

    from featcache.commands.scan import ScanResult
    from featcache.dataset.manifest import Manifest

F = TypeVar("F", bound=Callable[..., Any])


def options(*decorators: Callable[[Any], Any]) -> Callable[[F], F]:
    """Bundles several options into one decorator, in the order given."""

    def apply(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


dataset_option = click.option(
    "--dataset", metavar="NAME", help="Dataset in the cache; may be left out for one."
)
cache_option = click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    default="cache",
    envvar="FEATCACHE_CACHE",
    show_default=True,
    show_envvar=True,
    help="Folder of manifests, splits and feature stores.",
)
reports_option = click.option(
    "--reports",
    type=click.Path(file_okay=False, path_type=Path),
    default="reports",
    show_default=True,
    help="Folder of runs and leaderboards.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
seed_option = click.option("--seed", type=int, default=0, show_default=True)
region_options = options(
    click.option(
        "--region",
        type=click.Choice(["whole", "inside", "outside", "ring"]),
        default="whole",
        show_default=True,
        help="What is shown of each image, the rest black: all, what its mask shows, "
        "all but that, or the outer twelfth.",
    ),
    click.option(
        "--mask",
        default="mask",
        show_default=True,
        metavar="COLUMN",
        help="Column of the manifest that names masks, for inside and outside.",
    ),
)
source_options = options(
    click.option(
        "--group-by",
        metavar="COLUMN|REGEX",
        help="What stays together: a column of the CSV, an expression with one group "
        r"for the file name such as '(\d{8})_', dicom:PatientID, image, or "
        "near-duplicate (default without a column group).",
    ),
    click.option(
        "--per-class",
        type=int,
        metavar="N",
        help="The first N images of each class; kept by later scans, 0 for all.",
    ),
    click.option(
        "--on-conflict",
        type=click.Choice(["error", "drop"]),
        help="The same bytes under two labels.  [default: error]",
    ),
)


def say(text: str) -> None:
    """Tells the user something that is not a result, on stderr."""
    click.echo(text, err=True)


def print_json(value: Any) -> None:
    """Prints a result as JSON on stdout."""
    click.echo(json.dumps(value, indent=2, default=str))


@contextmanager
def bars() -> Iterator[Callable[[str, int, int], None]]:
    """Yields a callback (name, done, total) that draws a bar a name on stderr."""
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
    ) as progress:
        tasks: dict[str, Any] = {}

        def update(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, rate="")
            task = progress.tasks[progress.task_ids.index(tasks[name])]
            rate = f"{done / task.elapsed:.0f}/s" if task.elapsed else ""
            progress.update(tasks[name], completed=done, total=total, rate=rate)

        yield update


def print_table(
    headings: list[tuple[str, bool]],
    rows: list[list[str]],
    *,
    drop_first: Sequence[str] = (),
    line_before: int | None = None,
) -> list[str]:
    """Prints a table on stdout; each heading says whether its column is numeric.

    Args:
        headings: Of the columns.
        rows: Their cells.
        drop_first: Headings that a narrow terminal does without, the least important
            first; columns of long text are folded where they must.
        line_before: Index of the row above which there is a line.

    Returns:
        The headings that were dropped.
    """
    from rich.console import Console

    # A cell is text and never markup; a file or a pipe has no width to keep to.
    console = Console(markup=False, highlight=False)
    if not console.is_terminal:
        console = Console(markup=False, highlight=False, width=1000)
    columns = [
        (heading, numeric, [row[i] for row in rows])
        for i, (heading, numeric) in enumerate(headings)
    ]
    dropped = {*drop_first}
    for name in reversed(drop_first):
        shown = [column for column in columns if column[0] not in dropped - {name}]
        if _least_width(shown) <= console.width:
            dropped.remove(name)
    shown = [column for column in columns if column[0] not in dropped]
    console.print(_table(shown, line_before, whole_cells=bool(drop_first)))
    return [heading for heading, *_ in columns if heading in dropped]


_Column = tuple[str, bool, list[str]]  # heading, whether it is numeric, cells
_WIDEST = 24  # of a column of text, before numbers have to go
_SHORT = 10  # letters of a text that is never folded, such as the short id of a run


def _least_width(columns: list[_Column]) -> int:
    """Characters that a table needs so that its numbers are whole."""
    from rich.cells import cell_len

    widths = [max(map(cell_len, [heading, *cells])) for heading, _, cells in columns]
    least = [
        width if numeric else min(width, _WIDEST)
        for width, (_, numeric, _) in zip(widths, columns, strict=True)
    ]
    return sum(least) + 3 * len(columns) - 1


def _table(
    columns: list[_Column], line_before: int | None, *, whole_cells: bool
) -> "Table":
    from rich.box import Box
    from rich.table import Table

    # SIMPLE_HEAD of rich, with a line between sections.
    box = Box("    \n    \n ── \n    \n ── \n    \n    \n    \n")
    table = Table(box=box, pad_edge=False)
    for heading, numeric, cells in columns:
        side: Literal["left", "right"] = "right" if numeric else "left"
        whole = whole_cells and (numeric or max(map(len, cells), default=0) <= _SHORT)
        table.add_column(heading, justify=side, overflow="fold", no_wrap=whole)
    for number, row in enumerate(zip(*(cells for *_, cells in columns), strict=True)):
        if number == line_before:
            table.add_section()
        table.add_row(*row)
    return table


def scan_source(
    source: Path, cache: Path, dataset: str | None, **settings: Any
) -> "ScanResult":
    """Scans a source with a bar and tells what is worth knowing."""
    from featcache.commands.scan import scan

    with bars() as update:
        result = scan(
            source,
            cache,
            dataset=dataset,
            progress=lambda done, total: update("scan", done, total),
            **settings,
        )
    for warning in result.warnings:
        say(f"Warning: {warning}")
    for path, reason in result.unreadable[:10]:
        say(f"Unreadable: {path}: {reason}")
    if len(result.unreadable) > 10:
        say(f"Unreadable: {len(result.unreadable) - 10} more; see the manifest.")
    return result


def open_dataset(cache: Path, dataset: str | None) -> "Manifest":
    """Opens a scanned dataset; without a name, the only one."""
    from featcache.dataset import manifest

    return manifest.load(manifest.find(cache, dataset))


def dataset_name(dataset: str | None, cache: Path, reports: Path) -> str:
    """Runs can be compared where the cache is not, so both places name datasets."""
    from featcache.dataset import manifest

    known = sorted(p.parent.name for p in reports.glob("*/runs"))
    if dataset in known:
        return str(dataset)
    if dataset is None and len(known) == 1:
        return known[0]
    return manifest.find(cache, dataset).name
