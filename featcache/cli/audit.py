"""``featcache audit``."""

from pathlib import Path
from typing import Any

import click

from featcache.cli.options import (
    cache_option,
    dataset_option,
    json_option,
    open_dataset,
    options,
    reports_option,
)
from featcache.cli.output import bars, print_json, print_table, say, show

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


@click.command("audit", short_help="Check whether the data lets a run cheat.")
@dataset_option
@audit_options
@cache_option
@reports_option
@json_option
def audit_command(
    dataset: str | None,
    strict: bool,
    cache: Path,
    reports: Path,
    as_json: bool,
    **settings: Any,
) -> None:
    """Check a dataset, its splits and its runs for what makes figures too good."""
    from featcache.commands.audit import audit
    from featcache.evaluation import identity

    manifest = open_dataset(cache, dataset)
    with bars() as reporter:
        audited = audit(manifest, reports, reporter=reporter, **settings)
    if as_json:
        print_json(audited.rows)
    else:
        head = [("code", False), ("severity", False), ("status", False),
                ("title", False), ("message", False)]  # fmt: skip
        lines = [[str(row[name]) for name, _ in head] for row in audited.rows]
        print_table(head, lines, drop_first=["title"])
        if audited.run_id:
            short = identity.short_id(audited.path.parent / "runs" / audited.run_id)
            show(f"Checks of runs are about {short} {audited.run_id}.")
    if audited.fixed:
        say(audited.fixed.summary)
    if strict and audited.has_issues:
        raise click.exceptions.Exit(1)
