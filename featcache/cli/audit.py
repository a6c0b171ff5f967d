"""``featcache audit``."""

from pathlib import Path
from typing import Any

import click

from featcache.cli.common import (
    bars,
    cache_option,
    dataset_option,
    json_option,
    open_dataset,
    options,
    print_json,
    print_table,
    reports_option,
    say,
)

audit_options = options(
    click.option(
        "--split",
        metavar="NAME",
        help="Split of the runs to look at.  [default: the newest run's]",
    ),
    click.option("--strict", is_flag=True, help="Exit with 1 if an issue is found."),
    click.option(
        "--fix",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Write a CSV without duplicates, near-duplicates in one group.",
    ),
    click.option(
        "--checklist",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Write topics of CLAIM 2024 and TRIPOD+AI as markdown.",
    ),
)


@click.command(short_help="Check whether the data lets a run cheat.")
@dataset_option
@audit_options
@cache_option
@reports_option
@json_option
def audit(
    dataset: str | None,
    strict: bool,
    cache: Path,
    reports: Path,
    as_json: bool,
    **asked: Any,
) -> None:
    """Check a dataset, its splits and its runs for what makes figures too good."""
    from featcache.commands.audit import audit as work
    from featcache.evaluation import runs

    with bars() as update:
        result = work(open_dataset(cache, dataset), reports, **asked, progress=update)
    if as_json:
        print_json(result.rows)
    else:
        head = [("code", False), ("severity", False), ("status", False),
                ("title", False), ("message", False)]  # fmt: skip
        lines = [[str(row[name]) for name, _ in head] for row in result.rows]
        print_table(head, lines, drop_first=["title"])
        if result.run_id:
            short = runs.short_id(result.path.parent / "runs" / result.run_id)
            click.echo(f"Checks of runs are about {short} {result.run_id}.")
    if result.fixed:
        say(result.fixed.summary)
    if strict and result.has_issues:
        raise click.exceptions.Exit(1)
