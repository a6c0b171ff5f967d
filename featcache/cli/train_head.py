"""``featcache train-head``."""

from pathlib import Path
from shlex import quote
from typing import Any

import click

from featcache.cli.completion import complete_features, complete_heads
from featcache.cli.options import (
    Views,
    backbones_option,
    cache_option,
    calibrate_option,
    dataset_option,
    find_policy,
    jobs_option,
    json_option,
    on_option,
    open_dataset,
    policy_number_option,
    region_options,
    reports_option,
    seed_option,
    split_options,
    stored_taps_option,
)
from featcache.cli.output import bars, print_runs, print_runs_as_json, say, show


@click.command(
    "train-head", short_help="Train heads on stored features, by cross-validation."
)
@dataset_option
@backbones_option(
    "Features to use: a backbone, backbone-weights or a store's name, each with or "
    "without @PX; several joined by +; classic5; baselines; or all stores.  "
    "[default: all]",
    name="backbones",
    shell_complete=complete_features,
    default=("all",),
)
@click.option(
    "-H",
    "--head",
    "heads",
    multiple=True,
    default=("all",),
    metavar="NAME",
    shell_complete=complete_heads,
    help="A head, module:Class of a scikit-learn classifier, or all.  [default: all]",
)
@click.option(
    "--views",
    type=Views(),
    default="all",
    metavar="K|all",
    show_default=True,
    help="Augmented views to train on in addition to the plain one.",
)
@policy_number_option
@stored_taps_option
@region_options
@click.option(
    "--tune/--no-tune",
    default=None,
    help="Choose the head's settings by inner cross-validation.  [default: "
    "depends on the head]",
)
@click.option(
    "--transform",
    type=click.Choice(["none", "sqrt", "l2", "tune"]),
    default="none",
    show_default=True,
    help="Feature transform; tune picks one by inner cross-validation.",
)
@click.option(
    "--pca",
    default="none",
    show_default=True,
    metavar="none|N|tune",
    help="Principal components to keep; tune picks the number by inner "
    "cross-validation.",
)
@click.option(
    "--tta/--no-tta",
    default=None,
    help="Predict as the mean over an image's augmented views.  [default: on when "
    "training on them]",
)
@calibrate_option
@split_options
@click.option(
    "--repeats",
    type=int,
    default=1,
    show_default=True,
    help="How often the folds are drawn; the test set stays the same.",
)
@seed_option
@jobs_option
@on_option
@click.option("--force", is_flag=True, help="Retrain existing runs.")
@cache_option
@reports_option
@json_option
def train_head_command(
    dataset: str | None, cache: Path, reports: Path, as_json: bool, **settings: Any
) -> None:
    """Train heads on stored features by cross-validation, and record every run."""
    from featcache import features
    from featcache.backbones import expand
    from featcache.commands.train_head import train_head
    from featcache.core.options import arguments
    from featcache.dataset.regions import Region

    manifest = open_dataset(cache, dataset)
    number = settings.pop("policy")
    if number is not None:
        region = Region(settings["region"], settings["mask"])
        sets = features.find_sets(manifest, expand(settings["backbones"]))
        settings["policy"] = find_policy(sets, number, region)
    with bars() as reporter:
        result = train_head(
            manifest, reports, reporter=reporter, **arguments(train_head, settings)
        )
    for run in result.runs:
        if run.failed:
            say(f"Failed: {run.short_id} {run.run_id}: {run.record.reason}")
    if as_json:
        print_runs_as_json(result.runs)
    else:
        print_runs(result.runs, result.new_run_ids)
        after = f"featcache compare --dataset {quote(manifest.dataset)}"
        show(f"Split: {result.split.name}. Next: {after}")
    if any(run.failed for run in result.runs):
        raise click.exceptions.Exit(1)
