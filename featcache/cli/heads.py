"""``featcache train-head`` and ``featcache ensemble``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from featcache.cli.common import (
    bars,
    cache_option,
    dataset_name,
    dataset_option,
    json_option,
    open_dataset,
    print_json,
    region_options,
    reports_option,
    say,
    seed_option,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from featcache.evaluation.runs import Run


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


calibrate_option = click.option(
    "--calibrate/--no-calibrate",
    default=True,
    show_default=True,
    help="Calibrate the probabilities on the out-of-fold predictions.",
)


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
@click.option(
    "--exclude",
    multiple=True,
    metavar="COLUMN[=VALUE]",
    help="Leave out images by a column of the manifest that is 1, true or yes, or "
    "VALUE; may be repeated.",
)
@click.option(
    "--group-by",
    metavar="COLUMN|image",
    help="What stays together in a split.  [default: the manifest's groups]",
)
@click.option("--folds", type=int, default=5, show_default=True)
@click.option(
    "--test-size",
    type=float,
    default=0.2,
    show_default=True,
    help="Share of the images held out as the test part; 0 for none.",
)
@click.option(
    "--repeats",
    type=int,
    default=1,
    show_default=True,
    help="How often the folds are drawn; the test part stays.",
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
    from featcache.commands.train_head import train_head as work

    manifest = open_dataset(cache, dataset)
    with bars() as update:
        result = work(
            manifest,
            reports,
            progress=lambda _, done, total: update("fits", done, total),
            **given,
        )
    for run in result.runs:
        if run.failed:
            say(f"Failed: {run.short_id} {run.run_id}: {run.record.reason}")
    if as_json:
        print_runs_as_json(result.runs)
    else:
        print_runs(result.runs, result.trained)
        click.echo(f"Split: {result.split.name}. Rank them with: featcache compare")
    if any(run.failed for run in result.runs):
        raise click.exceptions.Exit(1)


@click.command(short_help="Average runs, with weights from their predictions.")
@click.argument("members", nargs=-1, required=True, metavar="RUN...")
@dataset_option
@click.option(
    "--weights",
    type=click.Choice(["fitted", "equal"]),
    default="fitted",
    show_default=True,
    help="Fitted on out-of-fold predictions of the other folds, or all alike.",
)
@calibrate_option
@click.option(
    "--split", metavar="NAME", help="Which split's runs.  [default: the newest run's]"
)
@click.option("--force", is_flag=True, help="Make again what is there.")
@cache_option
@reports_option
@json_option
def ensemble(
    dataset: str | None, cache: Path, reports: Path, as_json: bool, **given: Any
) -> None:
    """Average the probabilities of runs (short ids, parts of ids, or all).

    Only stored predictions are used: nothing is trained again.
    """
    from featcache.commands.ensemble import ensemble as work
    from featcache.evaluation import runs

    result = work(reports / dataset_name(dataset, cache, reports), **given)
    for line in result.left_out:
        say(f"Left out: {line}")
    if as_json:
        print_runs_as_json(result.runs)
        return
    print_runs(result.runs, result.made)
    for run in result.runs:
        votes = run.record.member_weights["test"]
        for member, weight in zip(run.record.members, votes, strict=True):
            short = runs.short_id(run.folder.with_name(member))
            click.echo(f"  {weight:.3f}  {short} {member}")


def print_runs_as_json(runs: "Sequence[Run]") -> None:
    """Prints the records of runs, each with its short and its whole id."""
    ids = [{"run": run.short_id, "run_id": run.run_id} for run in runs]
    print_json(
        [run.record.to_json() | names for run, names in zip(runs, ids, strict=True)]
    )


def print_runs(runs: "Sequence[Run]", made: list[str]) -> None:
    """Prints a line for each run that a call made."""
    if not made:
        click.echo(f"All {len(runs)} runs are there already: nothing to do.")
    for run in runs:
        if not run.failed and run.run_id in made:
            score = run.record.scores["train"]
            click.echo(
                f"{run.short_id} {run.run_id}: accuracy {score['accuracy']:.3f} "
                f"({score['accuracy_low']:.3f}-{score['accuracy_high']:.3f}), "
                f"fit {run.record.fit_seconds:.1f} s"
            )
