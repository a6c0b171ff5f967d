"""``featcache compare``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from featcache.cli.options import (
    cache_option,
    dataset_name,
    dataset_option,
    reports_option,
)
from featcache.cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from featcache.commands.compare import Confusion, Leaderboard
    from featcache.dataset.manifest import Manifest


@click.command("compare", short_help="Rank the runs, with intervals.")
@dataset_option
@click.option("--metric", default="accuracy", show_default=True)
@click.option(
    "--split", metavar="NAME", help="Which split.  [default: the newest run's]"
)
@click.option(
    "--against",
    metavar="RUN",
    help="Test all others against this run: its short id, or a part of its id.  "
    "[default: the best]",
)
@click.option(
    "--on",
    "part",
    type=click.Choice(["train", "test"]),
    default="train",
    show_default=True,
    help="Rank by out-of-fold predictions, or by those on the test part.",
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
    "--confusion",
    "confusion_of",
    metavar="RUN",
    help="Show this run's confusion matrix instead.",
)
@click.option(
    "--html",
    is_flag=False,
    flag_value="",
    metavar="[FILE]",
    help="Also write the report, one self-contained page.  [default: none; without "
    "FILE reports/<dataset>/report.html, or report-test.html with --on test]",
)
@cache_option
@reports_option
def compare_command(
    dataset: str | None,
    metric: str,
    split: str | None,
    against: str | None,
    part: str,
    style: str,
    as_json: bool,
    confusion_of: str | None,
    html: str | None,
    cache: Path,
    reports: Path,
) -> None:
    """Rank the runs of a dataset, with intervals and paired tests, best first."""
    from featcache.commands.compare import compare, confusion
    from featcache.evaluation import runs

    folder = reports / dataset_name(dataset, cache, reports)
    as_json = as_json or style == "json"
    if confusion_of:
        matrix = confusion(runs.find(folder, confusion_of))
        print_confusion(matrix, as_json=as_json)
        return
    manifest = _manifest(folder, cache)
    board = compare(
        folder,
        metric=metric,
        split=split,
        against=against,
        part=part,
        manifest=manifest,
    )
    for line in board.left_out:
        say(f"Not ranked: {line}")
    for line in board.warnings:
        say(f"Warning: {line}")
    print_board(board, "json" if as_json else style)
    if html is not None:
        write_html(board, folder, cache, html)


def print_board(board: "Leaderboard", style: str) -> None:
    """Prints a leaderboard on stdout in one of the formats."""
    from featcache.report import tables

    if style in tables.FORMATS:
        click.echo(tables.FORMATS[style](board))
        return
    columns = tables.columns(board)
    cells = zip(*(cells for _, _, cells in columns), strict=True)
    dropped = print_table(
        [(heading, numeric) for heading, numeric, _ in columns],
        [list(line) for line in cells],
        drop_first=tables.drop_first(board),
        line_before=tables.line_before(board),
    )
    click.echo(tables.caption(board))
    if dropped:
        say(f"Too narrow for: {', '.join(dropped)}. --format csv has all.")


def write_html(board: "Leaderboard", folder: Path, cache: Path, file: str) -> None:
    """Writes the report; without the cache it is a smaller one."""
    from featcache.report.html import page

    dataset = _manifest(folder, cache)
    if dataset is None:
        say(f"No {folder.name} in {cache}: the report has no map and no thumbnails.")
    path = page.write(
        folder, board, manifest=dataset, path=Path(file) if file else None
    )
    say(f"Report: {path}")


def _manifest(folder: Path, cache: Path) -> "Manifest | None":
    """The dataset of a folder of reports, where the cache has it."""
    from featcache.dataset import manifest

    here = (cache / folder.name / "manifest.csv").is_file()
    return manifest.load(cache / folder.name) if here else None


def print_confusion(matrix: "Confusion", *, as_json: bool) -> None:
    """Prints confusion matrices on stdout: rows are true classes."""
    from featcache.report import tables

    if as_json:
        both = {"train": matrix.train, "test": matrix.test}
        counts = {k: None if n is None else n.tolist() for k, n in both.items()}
        print_json(vars(matrix) | counts)
        return
    for part, rows in tables.confusion_parts(matrix).items():
        click.echo(f"{matrix.run} {matrix.run_id}, {part}: rows are true classes")
        names = [(name, True) for name in matrix.classes]
        scores = [
            (tables.METRIC_NAMES.get(s, s), True)
            for s in next(iter(matrix.scores.values()))
        ]
        print_table([("", False), *names, *scores], rows)
