"""``featcache compare``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from featcache.cli.common import (
    cache_option,
    dataset_option,
    print_json,
    print_table,
    reports_option,
    say,
)

if TYPE_CHECKING:
    from featcache.compare import Confusion, Leaderboard


@click.command(short_help="Rank the runs, with intervals.")
@dataset_option
@click.option("--metric", default="accuracy", show_default=True)
@click.option(
    "--split", metavar="NAME", help="Which split.  [default: the newest run's]"
)
@click.option(
    "--format",
    "style",
    type=click.Choice(["table", "markdown", "csv", "json", "latex"]),
    default="table",
    show_default=True,
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option(
    "--confusion", metavar="RUN", help="Show this run's confusion matrix instead."
)
@cache_option
@reports_option
def compare(
    dataset: str | None,
    metric: str,
    split: str | None,
    style: str,
    as_json: bool,
    confusion: str | None,
    cache: Path,
    reports: Path,
) -> None:
    """Rank the runs of a dataset, with intervals, best first."""
    from featcache import compare as work
    from featcache import runs

    folder = reports / _dataset_name(dataset, cache, reports)
    as_json = as_json or style == "json"
    if confusion:
        matrix = work.confusion(runs.find(folder, confusion))
        print_confusion(matrix, as_json=as_json)
        return
    board = work.compare(folder, metric=metric, split=split)
    for line in board.left_out:
        say(f"Not ranked: {line}")
    print_board(board, "json" if as_json else style)


def _dataset_name(dataset: str | None, cache: Path, reports: Path) -> str:
    """Runs can be compared where the cache is not, so both places name datasets."""
    from featcache import manifest

    known = sorted(p.parent.name for p in reports.glob("*/runs"))
    if dataset in known:
        return str(dataset)
    if dataset is None and len(known) == 1:
        return known[0]
    return manifest.find(cache, dataset).name


def print_board(board: "Leaderboard", style: str) -> None:
    """Prints a leaderboard on stdout in one of the formats."""
    from featcache.report import tables

    if style in tables.FORMATS:
        click.echo(tables.FORMATS[style](board))
        return
    columns = tables.columns(board)
    cells = zip(*(cells for _, _, cells in columns), strict=True)
    print_table([(h, numeric) for h, numeric, _ in columns], [list(c) for c in cells])
    click.echo(tables.caption(board))


def print_confusion(matrix: "Confusion", *, as_json: bool) -> None:
    """Prints confusion matrices on stdout: rows are true classes."""
    from featcache.report import tables

    if as_json:
        test = None if matrix.test is None else matrix.test.tolist()
        print_json(vars(matrix) | {"train": matrix.train.tolist(), "test": test})
        return
    for part, rows in tables.confusion_parts(matrix).items():
        click.echo(f"{matrix.run_id}, {part}: rows are true classes")
        names = [(name, True) for name in matrix.classes]
        print_table([("", False), *names, ("sensitivity", True)], rows)
