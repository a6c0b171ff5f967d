"""``featcache train-head``."""

from pathlib import Path
from typing import Any

import click

from featcache.cli.options import (
    Views,
    cache_option,
    calibrate_option,
    dataset_option,
    find_policy,
    jobs_option,
    json_option,
    open_dataset,
    policy_number_option,
    region_options,
    reports_option,
    seed_option,
    split_options,
    stored_taps_option,
)
from featcache.cli.output import bars, print_runs, print_runs_as_json, say, show


@click.command("train-head", short_help="Train heads on the features, fold by fold.")
@dataset_option
@click.option(
    "-b",
    "--backbone",
    "backbones",
    multiple=True,
    default=("all",),
    metavar="NAME",
    help="Whose features: a backbone, backbone-weights or a store's name, with or "
    "without @PX; several joined by +; classic5; baselines; or all that are stored.  "
    "[default: all]",
)
@click.option(
    "-H",
    "--head",
    "heads",
    multiple=True,
    default=("all",),
    metavar="NAME",
    help="A head, module:Class of a scikit-learn classifier, or all.  [default: all]",
)
@click.option(
    "--views",
    type=Views(),
    default="all",
    metavar="K|all",
    show_default=True,
    help="Augmented views to train on, beside the plain one.",
)
@policy_number_option
@stored_taps_option
@region_options
@click.option(
    "--tune/--no-tune",
    default=None,
    help="Choose the head's settings by inner folds.  [default: as the head says]",
)
@click.option(
    "--transform",
    type=click.Choice(["none", "sqrt", "l2", "tune"]),
    default="none",
    show_default=True,
    help="Of the features; tune chooses inside the folds.",
)
@click.option(
    "--pca",
    default="none",
    show_default=True,
    metavar="none|N|tune",
    help="Principal components to keep; tune chooses inside the folds.",
)
@click.option(
    "--tta/--no-tta",
    default=None,
    help="Predict as the mean over an image's views.  [default: where views were "
    "trained on]",
)
@calibrate_option
@split_options
@click.option(
    "--repeats",
    type=int,
    default=1,
    show_default=True,
    help="How often the folds are drawn; the test part stays.",
)
@seed_option
@jobs_option
@click.option("--force", is_flag=True, help="Train again what is there.")
@cache_option
@reports_option
@json_option
def train_head_command(
    dataset: str | None, cache: Path, reports: Path, as_json: bool, **settings: Any
) -> None:
    """Train heads on cached features, fold by fold, and record every run."""
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
        trained = train_head(
            manifest, reports, reporter=reporter, **arguments(train_head, settings)
        )
    for run in trained.runs:
        if run.failed:
            say(f"Failed: {run.short_id} {run.run_id}: {run.record.reason}")
    if as_json:
        print_runs_as_json(trained.runs)
    else:
        print_runs(trained.runs, trained.trained)
        show(f"Split: {trained.split.name}. Rank them with: featcache compare")
    if any(run.failed for run in trained.runs):
        raise click.exceptions.Exit(1)
