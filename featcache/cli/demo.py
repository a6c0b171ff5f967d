"""``featcache demo``."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from featcache.cli.bundle import print_stages
from featcache.cli.compare import print_board
from featcache.cli.options import (
    cache_option,
    jobs_option,
    options,
    refuse_ignored,
    reports_option,
    seed_option,
)
from featcache.cli.output import bars, print_table, say, show
from featcache.core.text import counted

if TYPE_CHECKING:
    from featcache.commands.compare import Leaderboard
    from featcache.deploy.answers import Answer
    from featcache.study.demo import Answers, Demo, Maps


@click.command("demo", short_help="Run a complete study on synthetic images.")
@options(
    click.option(
        "--data-only",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Only write the synthetic images to DIR.",
    ),
    click.option(
        "--images",
        type=int,
        default=360,
        show_default=True,
        help="Number of images.",
    ),
    click.option(
        "--shortcut", is_flag=True, help="Plant a marker that gives away the class."
    ),
    click.option(
        "--small-lesions",
        is_flag=True,
        help="Draw findings as one small patch in one lung, 2 to 4 % of the lung area.",
    ),
    click.option(
        "--open", "opens", is_flag=True, help="Open the report in the browser."
    ),
    jobs_option,
)
@seed_option
@cache_option
@reports_option
def demo_command(
    data_only: Path | None,
    images: int,
    shortcut: bool,
    small_lesions: bool,
    opens: bool,
    jobs: int | None,
    seed: int,
    cache: Path,
    reports: Path,
) -> None:
    """Run a complete study on synthetic chest images; needs no connection."""
    kind: dict[str, Any] = {
        "seed": seed, "shortcut": shortcut, "small_lesions": small_lesions,
    }  # fmt: skip
    if data_only:
        write_images(data_only, images, kind)
        return
    from featcache.report.heatmaps import sheets
    from featcache.study.demo import Demo

    demo = Demo(cache, reports, sheets.write, images=images, jobs=jobs, **kind)
    for number, step in enumerate(demo.steps(), 1):
        show(f"\n{number}. {step.title}")
        for command in step.commands:
            show(f"   {command}")
        with bars() as reporter:
            result = step.work(reporter)
        PRINTED.get(type(result).__name__, lambda _: None)(result)
    page = write_report(demo, reports)
    if opens:
        open_page(page)


def write_images(folder: Path, images: int, kind: Mapping[str, Any]) -> None:
    """Writes phantoms and nothing else."""
    from featcache.dataset import phantom

    refuse_ignored(
        ("jobs", "cache", "reports", "opens"),
        "--data-only without options of the study",
        "Leave them out: only images are written.",
    )
    with bars() as reporter:
        table = phantom.write(folder, images, **kind, reporter=reporter)
    show(f"{images} phantoms: {table}")


def print_ranking(board: "Leaderboard") -> None:
    """Prints the leaderboard, and what it is worth."""
    print_board(board, "table")
    show(
        "The network was trained on generated images like these, so its accuracy says "
        "nothing about X-rays."
    )


def print_pointing(maps: "Maps") -> None:
    """Prints how often the strongest evidence lies in a lesion."""
    from featcache.core.io import read_json
    from featcache.report.heatmaps.sheets import ROWS

    show(f"Heat maps of run {maps.run.short_id}: {maps.folder}")
    figures = [row["figures"] for row in read_json(maps.folder / ROWS)["maps"]]
    areas = [one["area lesion"] for one in figures if "area lesion" in one]
    inside = sum(one.get("pointing lesion") or 0 for one in figures)
    if areas:
        show(
            f"The strongest evidence lies inside a lesion in {inside:.0f} of "
            f"{counted(len(areas), 'image')} with lesions; a random point would in "
            f"{sum(areas):.1f}."
        )


def print_answers(answers: "Answers") -> None:
    """Prints an answer a line, beside the truth where it is known."""
    rows = answers.answers
    has_truth = all("label" in one.columns for one in rows)
    truth = [("truth", False)] if has_truth else []
    numbers = [(f"p_{name}", True) for name in answers.classes]
    print_table(
        [("image", False), *truth, ("answer", False), *numbers],
        [_cells(one, len(numbers), has_truth=has_truth) for one in rows],
    )
    if has_truth:
        right = [one.label == one.columns["label"] for one in rows if one.label]
        show(f"{sum(right)} of {counted(len(right), 'answer')} are right.")
    for one in rows:
        if one.reason:
            show(f"{Path(one.path).name} is {one.status}: {one.reason}.")


def _cells(one: "Answer", width: int, *, has_truth: bool) -> list[str]:
    p = ["-"] * width if one.p is None else [f"{value:.2f}" for value in one.p]
    truth = [one.columns["label"]] if has_truth else []
    return [Path(one.path).name, *truth, one.label or one.status, *p]


PRINTED: dict[str, Callable[[Any], None]] = {
    "Leaderboard": print_ranking,
    "Maps": print_pointing,
    "str": show,
    "list": print_stages,
    "Answers": print_answers,
}


NEXT = (
    "featcache audit --dataset demo",
    "featcache demo --shortcut",
    "featcache demo --small-lesions",
)


def write_report(demo: "Demo", reports: Path) -> Path:
    """Writes the page, and says where all is and what to try next."""
    from featcache.report.html import page as html_page

    home = reports / demo.board.dataset
    page = home / "report.html"
    html_page.write_if_stale(home, demo.board, manifest=demo.data, path=page)
    show(f"\nRuns: {home / 'runs'}")
    show(f"Bundle: {demo.bundle}")
    show("Try next:")
    for command in NEXT:
        show(f"   {command}")
    show(f"Report: {page}")
    return page


def open_page(page: Path) -> None:
    """Opens the page in a browser, if there is one."""
    import webbrowser

    if not webbrowser.open(page.absolute().as_uri()):
        say("There is no browser here to open the report in.")
