"""``featcache train-head``."""

from pathlib import Path
from typing import Any

import click

from featcache.cli.common import (
    bars,
    cache_option,
    dataset_option,
    json_option,
    open_dataset,
    print_json,
    reports_option,
    say,
    seed_option,
)


class Views(click.ParamType[int | str]):
    """A number of views, or ``all``."""

    name = "views"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | str:
        """Parses the text."""
        if value == "all":
            return "all"
        try:
            return int(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor all", param, ctx)


@click.command("train-head", short_help="Train heads on the features, fold by fold.")
@dataset_option
@click.option(
    "-b",
    "--backbone",
    "backbones",
    multiple=True,
    default=("all",),
    metavar="NAME",
    help="Whose features: a backbone, backbone-weights, a store's name, or all."
    "  [default: all]",
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
@click.option(
    "--policy", type=int, help="Index of the views' policy.  [default: the newest]"
)
@click.option(
    "--taps",
    default="none",
    show_default=True,
    metavar="none|all|LAYER,...",
    help="Stored inner layers to append to the embedding.",
)
@click.option(
    "--tta/--no-tta",
    default=None,
    help="Predict as the mean over an image's views.  [default: where views were "
    "trained on]",
)
@click.option("--folds", type=int, default=5, show_default=True)
@click.option(
    "--test-size",
    type=float,
    default=0.2,
    show_default=True,
    help="Share of the images held out as the test part; 0 for none.",
)
@seed_option
@click.option(
    "--split", metavar="NAME", help="Name of the split.  [default: how it is drawn]"
)
@click.option(
    "--jobs", type=int, metavar="N", help="Parallel processes.  [default: cores]"
)
@click.option("--force", is_flag=True, help="Train again what is there.")
@cache_option
@reports_option
@json_option
def train_head(
    dataset: str | None, cache: Path, reports: Path, as_json: bool, **given: Any
) -> None:
    """Train heads on cached features, fold by fold, and record every run."""
    from featcache.train_head import train_head as work

    manifest = open_dataset(cache, dataset)
    with bars() as update:
        result = work(
            manifest,
            reports,
            progress=lambda _, done, total: update("fits", done, total),
            **given,
        )
    failed = [run for run in result.runs if run.failed]
    for run in failed:
        say(f"Failed: {run.run_id}: {run.record['reason']}")
    if as_json:
        print_json([run.record | {"run_id": run.run_id} for run in result.runs])
        return
    if not result.trained:
        click.echo(f"All {len(result.runs)} runs are there already: nothing to do.")
    for run in result.runs:
        if not run.failed and run.run_id in result.trained:
            score = run.record["scores"]["train"]
            click.echo(
                f"{run.run_id}: accuracy {score['accuracy']:.3f} "
                f"({score['accuracy_low']:.3f}-{score['accuracy_high']:.3f}), "
                f"fit {run.record['fit_seconds']:.1f} s"
            )
    click.echo(f"Split: {result.split.name}. Rank them with: featcache compare")
