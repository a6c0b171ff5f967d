"""``featcache compare``."""

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from featcache.cli.completion import complete_metrics, complete_runs
from featcache.cli.options import (
    cache_option,
    dataset_name,
    force_option,
    is_given,
    refuse_ignored,
    reports_option,
    trained_dataset_option,
)
from featcache.cli.output import print_json, print_table, say, show, terminal_width
from featcache.core.text import printable
from featcache.errors import RunError, UsageError

if TYPE_CHECKING:
    from featcache.commands.compare import Confusion, Leaderboard, SampleSize
    from featcache.commands.compare.sample_size import Detection
    from featcache.dataset.manifest import Manifest

_OF_NEEDED = ("half_width", "detect")


@click.command(
    "compare",
    short_help="Rank the runs, with confidence intervals.",
    context_settings={"allow_extra_args": True},  # refused with what is meant
)
@trained_dataset_option
@click.option(
    "--metric",
    default="accuracy",
    show_default=True,
    shell_complete=complete_metrics,
    metavar="NAME",
    help="Rank by accuracy, balanced_accuracy, macro_f1, auc, log_loss, brier or ece.",
)
@click.option(
    "--split",
    metavar="NAME",
    help="Split whose runs are ranked.  [default: the newest run's]",
)
@click.option(
    "--against",
    metavar="RUN",
    shell_complete=complete_runs,
    help="Test all other runs against this one: its rank, short id, or "
    "part of its id.  [default: the best]",
)
@click.option(
    "--on",
    "part",
    type=click.Choice(["train", "test"]),
    default="train",
    show_default=True,
    help="Rank by out-of-fold predictions (train) or by predictions on the test set.",
)
@click.option(
    "--format",
    "style",
    type=click.Choice(["table", "markdown", "csv", "json", "latex"]),
    default="table",
    show_default=True,
    help="Output format.",
)
@click.option("--json", "as_json", is_flag=True, help="Same as --format json.")
@click.option(
    "--confusion",
    "confusion_of",
    metavar="RUN",
    shell_complete=complete_runs,
    help="Show this run's confusion matrix instead: its rank, short id, or part of "
    "its id.",
)
@click.option(
    "--needed",
    "needed_by",
    metavar="RUN",
    shell_complete=complete_runs,
    help="Show instead how many patients this run's claims would take: its rank, short "
    "id, or part of its id.",
)
@click.option(
    "--half-width",
    type=float,
    default=0.05,
    show_default=True,
    help="Of the intervals that --needed plans for: score plus or minus this.",
)
@click.option(
    "--detect",
    type=float,
    default=0.02,
    show_default=True,
    help="Difference between two runs that --needed plans for.",
)
@click.option(
    "--html",
    is_flag=False,
    flag_value="",
    metavar="[FILE]",
    help="Also write a self-contained HTML report.  [default: none; without "
    "FILE reports/<dataset>/report.html, or report-test.html with --on "
    "test]",
)
@click.option(
    "--no-images",
    is_flag=True,
    help="Leave thumbnails and heat maps out of the report; file names stay.",
)
@force_option
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
    needed_by: str | None,
    half_width: float,
    detect: float,
    html: str | None,
    no_images: bool,
    force: bool,
    cache: Path,
    reports: Path,
) -> None:
    """Rank the runs of a dataset, with intervals and paired tests, best first."""
    from featcache.commands.compare import compare, confusion, sample_size
    from featcache.evaluation import references

    _refuse_runs(click.get_current_context().args)
    runs = [one for one in (against, confusion_of, needed_by) if one]
    folder = reports / dataset_name(dataset, cache, reports, runs)
    if as_json and is_given("style"):
        raise UsageError("--json or --format", "both", "Leave one of them out.")
    as_json = as_json or style == "json"
    if html is None:
        refuse_ignored(("no_images",), "--html with --no-images", "Add --html.")
    if confusion_of:
        refuse_ignored(
            ("metric", "against", "part", "style", "html", "needed_by", *_OF_NEEDED),
            "--confusion without options of the leaderboard",
            "Leave them out; with --json it is printed as JSON.",
        )
        matrix = confusion(references.find(folder, confusion_of, split))
        print_confusion(matrix, as_json=as_json)
        return
    if not needed_by:
        refuse_ignored(_OF_NEEDED, "--needed RUN with these", "Name the run.")
    file = Path(html) if html else None
    if file:
        from featcache.report.html import page

        page.check_path(file, force=force)
    manifest = _manifest(folder, cache)
    settings: dict[str, Any] = {"metric": metric, "split": split, "against": against}
    try:
        board = compare(folder, part=part, manifest=manifest, **settings)
    except RunError:
        tell_orphaned_pages(folder)
        raise
    for line in board.excluded:
        say(f"Not ranked: {line}")
    for line in board.warnings:
        say(f"Warning: {line}")
    if needed_by:
        refuse_ignored(
            ("style", "html"),
            "--needed without --format and --html",
            "Leave them out; with --json it is printed as JSON.",
        )
        run = references.find(folder, needed_by, split)
        size = sample_size(board, run, half_width=half_width, detect=detect)
        print_needed(size, as_json=as_json)
        return
    print_board(board, "json" if as_json else style, with_differences=bool(against))
    if html is not None:
        write_html(board, folder, cache, file, force=force, images=not no_images)
    else:
        tell_stale_pages(folder, manifest)


def _refuse_runs(named: list[str]) -> None:
    """Says which option runs belong to, where they are named as arguments."""
    if named:
        text = (
            f"compare shows all runs, and takes none as argument; got "
            f"{' '.join(named)}. To test all others against run {named[-1]}: featcache "
            f"compare --against {quote(named[-1])}"
        )
        raise click.UsageError(printable(text))


def tell_orphaned_pages(folder: Path) -> None:
    """Names the pages of a dataset that has no run any more."""
    if any(folder.glob("runs/*/run.json")):
        return
    for path in sorted(folder.glob("*.html")):
        say(f"{path} shows runs that are gone. Delete it, or train them again.")


def tell_stale_pages(folder: Path, manifest: "Manifest | None") -> None:
    """Names the pages of a dataset that do not show its records as they are now."""
    from featcache.report.html import freshness

    for name, options in (("report.html", ""), ("report-test.html", " --on test")):
        path = folder / name
        again = f"featcache compare --dataset {quote(folder.name)}{options} --html"
        if freshness.is_stale(path, folder, manifest):
            say(f"{path} is older than the runs, audit or maps. Run: {again}")


def print_board(
    board: "Leaderboard", style: str, *, with_differences: bool = False
) -> None:
    """Prints a leaderboard on stdout in one of the formats.

    Args:
        board: The leaderboard.
        style: The format.
        with_differences: Print them with their intervals in any case, below a table
            without room for them.
    """
    from featcache.report import tables

    if style in tables.FORMATS:
        show(tables.FORMATS[style](board))
        return
    columns = tables.columns(board)
    cells = zip(*(cells for _, _, cells in columns), strict=True)
    dropped = print_table(
        [(heading, numeric) for heading, numeric, _ in columns],
        [list(line) for line in cells],
        drop_first=tables.drop_first(board),
        lines_before=tables.parts(board),
    )
    show(tables.caption(board, dropped))
    if with_differences and tables.DIFFERENCE_ENDS in dropped:
        show(tables.differences(board))
    if dropped:
        say(
            f"Hidden in {terminal_width()} columns: {', '.join(dropped)}. A wider "
            "terminal or --format csv shows them."
        )


def write_html(
    board: "Leaderboard",
    folder: Path,
    cache: Path,
    file: Path | None,
    *,
    force: bool,
    images: bool,
) -> None:
    """Writes the report; without the cache it is a smaller one."""
    from featcache.report.html import page

    dataset = _manifest(folder, cache)
    if dataset is None:
        say(f"No {folder.name} in {cache}: the report has no map and no thumbnails.")
    about: list[str] = []
    path = page.write(
        folder,
        board,
        manifest=dataset,
        path=file,
        force=force,
        images=images,
        tell=about.append,
    )
    say(f"Report: {path}")
    say(" ".join([*about, *(["--no-images leaves pictures out."] if images else [])]))


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
        show(f"{matrix.run} {matrix.run_id}, {part}: rows are true classes")
        names = [(name, True) for name in matrix.classes]
        scores = [
            (tables.METRIC_NAMES.get(s, s), True)
            for s in next(iter(matrix.scores.values()))
        ]
        print_table([("", False), *names, *scores], rows)


def print_needed(size: "SampleSize", *, as_json: bool) -> None:
    """Prints how many patients the claims of a run would take, on stdout."""
    if as_json:
        from featcache.core import records

        print_json(records.to_json(size))
        return
    unit = size.unit
    show(
        f"{size.run} {size.run_id}: {size.groups} {unit}, {size.images} images now. "
        f"For 95 % intervals of plus or minus {size.half_width:g}:"
    )
    rows = [
        [
            name.replace("_", " "),
            "–" if one.groups is None else str(one.groups),
            "–" if one.images is None else str(one.images),
            "–" if one.design_effect is None else f"{one.design_effect:.2f}",
            one.reason or "",
        ]
        for name, one in size.needed.items()
    ]
    print_table(
        [("score", False), (unit, True), ("images", True), ("design effect", True),
         ("", False)],
        rows,
    )  # fmt: skip
    if test := size.detection:
        show(_detection(size, test))


def _detection(size: "SampleSize", test: "Detection") -> str:
    from featcache.report.tables import METRIC_NAMES

    metric = METRIC_NAMES.get(test.metric, test.metric.replace("_", " "))
    text = f"To tell it from {test.against} by {metric}, with 80 % power: "
    if test.groups_for_detect is None:
        alone = size.groups < 2
        why = "there is a single group" if alone else "the two never differ here"
        return f"{text}not known, as {why}."
    text += f"{test.groups_for_detect} {size.unit} for a difference of {test.detect:g}"
    if test.groups_for_observed is None:
        return f"{text}; none was seen here."
    return (
        f"{text}; {test.groups_for_observed} {size.unit} for the {test.observed:+.3f} "
        "seen here."
    )
