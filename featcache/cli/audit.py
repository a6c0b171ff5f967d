"""``featcache audit``."""

from pathlib import Path
from typing import Any

import click

from featcache.cli.options import (
    backbones_option,
    cache_option,
    force_option,
    jobs_option,
    json_option,
    open_dataset_of_runs,
    options,
    refuse_ignored,
    reports_option,
    trained_dataset_option,
)
from featcache.cli.output import bars, print_json, print_table, say, show

audit_options = options(
    click.option(
        "--split",
        metavar="NAME",
        help="Split whose runs are checked.  [default: the newest run's]",
    ),
    click.option(
        "--complete",
        is_flag=True,
        help="First compute what checks lack: baselines, parts of the images, runs.",
    ),
    backbones_option("With --complete: also extract and train on this network."),
    jobs_option,
    click.option("--strict", is_flag=True, help="Exit with 1 if an issue is found."),
    click.option(
        "--fix",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Write a CSV without exact duplicates and with near-duplicates grouped.",
    ),
    click.option(
        "--checklist",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Write a checklist (CLAIM 2024, TRIPOD+AI) as markdown.",
    ),
    force_option,
)


@click.command("audit", short_help="Find leaks, duplicates and shortcuts in the data.")
@trained_dataset_option
@audit_options
@cache_option
@reports_option
@json_option
def audit_command(
    dataset: str | None,
    complete: bool,
    names: tuple[str, ...],
    jobs: int | None,
    strict: bool,
    cache: Path,
    reports: Path,
    as_json: bool,
    **settings: Any,
) -> None:
    """Check a dataset, its splits and its runs for causes of optimistic scores."""
    from featcache.commands.audit import audit
    from featcache.evaluation import identity

    if not complete:
        refuse_ignored(
            ("names", "jobs"),
            "--complete with --backbone and --jobs",
            "Add it, or leave them out.",
        )
    manifest = open_dataset_of_runs(cache, reports, dataset)
    with bars() as reporter:
        if complete:
            from featcache.study import completion

            completion.complete(
                manifest,
                reports,
                names,
                split=settings["split"],
                jobs=jobs,
                reporter=reporter,
            )
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
            show(f"The checks of runs refer to {short} {audited.run_id}.")
    if audited.fixed:
        say(audited.fixed.summary)
    if dataset is None and len(list(cache.glob("*/manifest.csv"))) > 1:
        say(f"Dataset: {manifest.dataset}, the only one with runs. Or name --dataset.")
    if strict and audited.has_issues:
        raise click.exceptions.Exit(1)
