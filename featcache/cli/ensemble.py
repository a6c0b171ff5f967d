"""``featcache ensemble``."""

from pathlib import Path
from typing import Any

import click

from featcache.cli.completion import complete_runs
from featcache.cli.options import (
    cache_option,
    calibrate_option,
    dataset_name,
    json_option,
    reports_option,
    trained_dataset_option,
)
from featcache.cli.output import print_runs, print_runs_as_json, say, show


@click.command("ensemble", short_help="Average the predictions of several runs.")
@click.argument(
    "members", nargs=-1, required=True, metavar="RUN...", shell_complete=complete_runs
)
@trained_dataset_option
@click.option(
    "--weights",
    type=click.Choice(["fitted", "equal"]),
    default="fitted",
    show_default=True,
    help="Fit the weights on the out-of-fold predictions of the other "
    "folds, or weight all members equally.",
)
@calibrate_option
@click.option(
    "--split",
    metavar="NAME",
    help='Split whose runs "all" refers to and RUN may name.  '
    "[default: the newest run's]",
)
@click.option("--force", is_flag=True, help="Recompute existing ensembles.")
@cache_option
@reports_option
@json_option
def ensemble_command(
    dataset: str | None, cache: Path, reports: Path, as_json: bool, **settings: Any
) -> None:
    """Average the probabilities of runs (ranks, short ids, parts of ids, or all).

    Only stored predictions are used: nothing is trained again.
    """
    from featcache.commands.ensemble import ensemble
    from featcache.evaluation import identity

    named = [one for one in settings["members"] if one != "all"]
    name = dataset_name(dataset, cache, reports, named)
    ensembles = ensemble(reports / name, **settings)
    for line in ensembles.excluded:
        say(f"Skipped: {line}")
    if as_json:
        print_runs_as_json(ensembles.runs)
        return
    print_runs(ensembles.runs, ensembles.new_run_ids)
    for run in ensembles.runs:
        weights = run.record.member_weights["test"]
        for member, weight in zip(run.record.members, weights, strict=True):
            short = identity.short_id(run.folder.with_name(member))
            show(f"  {weight:.3f}  {short} {member}")
