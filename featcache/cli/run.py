"""``featcache run``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from featcache.cli.compare import print_board
from featcache.cli.options import (
    cache_option,
    jobs_option,
    json_option,
    on_option,
    reports_option,
)
from featcache.cli.output import bars, print_json, say, show
from featcache.core.text import counted
from featcache.errors import RunError

if TYPE_CHECKING:
    from featcache.commands.compare import Leaderboard
    from featcache.study import Study, StudyResult


@click.command("run", short_help="Run the study described in a file.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--dry-run",
    is_flag=True,
    help="Check the file and list the steps without running them.",
)
@jobs_option
@on_option
@cache_option
@reports_option
@json_option
def run_command(
    file: Path,
    dry_run: bool,
    jobs: int | None,
    on: str,
    cache: Path,
    reports: Path,
    as_json: bool,
) -> None:
    """Run the missing steps of the study in FILE, and rank its runs."""
    from featcache import study as studies
    from featcache.report.heatmaps import sheets

    study = studies.read(file)
    if dry_run:
        print_steps(studies.steps(study), as_json=as_json)
        return
    with bars() as reporter:
        result = studies.run(
            study,
            cache,
            reports=reports,
            jobs=jobs,
            on=on,
            reporter=reporter,
            draw=sheets.write,
        )
    if not as_json:
        print_boards(result)
    written = write_reports(study, result, cache, reports)
    if as_json:
        print_json(record(result, written))
    for path in () if as_json else written:
        show(f"Report: {path}")
    if result.failures:
        raise RunError(
            f"{len(result.failures)} of the steps in {file} failed: "
            f"{'; '.join(result.failures)}",
            "Finished work is kept: fix this and run the same command again.",
        )


def print_steps(steps: list[dict[str, Any]], *, as_json: bool) -> None:
    """Prints what a study would do on stdout."""
    if as_json:
        print_json(steps)
        return
    for step in steps:
        said = [
            f"{key} {_words(value)}"
            for key, value in step.items()
            if key not in ("step", "name") and value not in ([], None)
        ]
        show(f"{step['step']} {step['name']}: {'; '.join(said)}")


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def write_reports(
    study: "Study", result: "StudyResult", cache: Path, reports: Path
) -> list[Path]:
    """Writes each leaderboard in the forms that the study asks for."""
    from featcache.core.io import write_text
    from featcache.core.output_file import check_output
    from featcache.report import tables

    home, written = reports / result.dataset, []
    for number, board in enumerate(result.boards):
        more = f"-{board.split}" if number else ""
        for form in study.formats:
            written.append(home / f"{study.name}{more}.{_SUFFIXES[form]}")
            check_output(written[-1], "formats", force=True)
            write_text(written[-1], tables.FORMATS[form](board) + "\n")
        if study.html:
            page = home / study.name if study.html is True else study.html
            page = page.with_name(f"{page.name.removesuffix('.html')}{more}.html")
            write_page(board, home, cache, page)
            written.append(page)
    return written


def write_page(board: "Leaderboard", home: Path, cache: Path, page: Path) -> None:
    """Writes the report, unless one of the same records is there."""
    from featcache.dataset.manifest import load
    from featcache.report.html import page as html_page

    dataset = load(cache / board.dataset)
    about: list[str] = []
    if html_page.write_if_stale(
        home, board, manifest=dataset, path=page, tell=about.append
    ):
        say(f"- report {page}")
        say(f"  {about[0]}")


_SUFFIXES = {"markdown": "md", "csv": "csv", "json": "json", "latex": "tex"}


def print_boards(result: "StudyResult") -> None:
    """Prints the leaderboards on stdout."""
    for board in result.boards:
        print_board(board, "table")
    done = (
        f"{counted(result.computed, 'embedding')} computed, "
        f"{counted(len(result.new_run_ids), 'run')} trained"
    )
    show(f"{done}." if result.computed or result.new_run_ids else "Nothing to do.")


def record(result: "StudyResult", written: list[Path]) -> dict[str, Any]:
    """What a study did, for JSON."""
    from featcache.report import tables

    boards = [
        {"split": b.split, "metric": b.metric, "rows": json.loads(tables.to_json(b))}
        for b in result.boards
    ]
    return {
        "dataset": result.dataset,
        "boards": boards,
        "runs": {
            name: [r.run_id for r in several] for name, several in result.runs.items()
        },
        "computed": result.computed,
        "trained": result.new_run_ids,
        "failures": result.failures,
        "reports": written,
    }
