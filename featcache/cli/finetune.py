"""``featcache finetune``."""

from collections.abc import Callable
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from featcache.cli.completion import complete_runs
from featcache.cli.options import (
    F,
    backbones_option,
    cache_option,
    calibrate_option,
    dataset_option,
    json_option,
    on_option,
    open_dataset,
    open_dataset_of_runs,
    options,
    policy_options,
    reports_option,
    resolve_networks,
    seed_option,
    split_options,
    take,
)
from featcache.cli.output import bars, print_runs_as_json, show

if TYPE_CHECKING:
    from featcache.evaluation.runs import Run


def _option(flag: str, default: Any, text: str, **more: Any) -> Callable[[F], F]:
    return click.option(flag, default=default, show_default=True, help=text, **more)


_network_options = options(
    backbones_option(
        "A backbone, the path of a .keras file, or classic5 for five of them "
        "(densenet121, resnet50, vgg19, inceptionv3, xception); may be repeated.",
        required=True,
    ),
    _option(
        "--weights",
        "imagenet",
        "Initial weights of the network.",
        metavar="imagenet|random|FILE",
    ),
    _option(
        "--preprocess",
        "imagenet",
        "Input scaling; imagenet is the backbone's own.",
        metavar="imagenet|torch|caffe|tf|none|featurewise",
    ),
    click.option(
        "--input-size", type=int, metavar="PX", help="Side of the square input."
    ),
)
_start_options = options(
    click.option(
        "--init-head",
        metavar="RUN",
        shell_complete=complete_runs,
        help="Start from the head of this run (its rank, short id, or part of its "
        "id): softmax, mlp, mlp-dropout or logreg.  [default: a random "
        "head]",
    ),
    _option(
        "--head",
        "softmax",
        "Type of the head if --init-head is not given.",
        type=click.Choice(["softmax", "mlp", "mlp-dropout"], case_sensitive=False),
    ),
    _option(
        "--unfreeze",
        "all",
        "What to train besides the head: all, last-N-blocks, a LAYER and "
        "everything after it, or none.",
        metavar="WHAT",
    ),
    _option(
        "--gradual",
        0,
        "Unfreeze one more block every N epochs, the last first; 0 for all at once.",
        metavar="N",
    ),
)
_training_options = options(
    _option("--epochs", 30, "Maximum passes over the training images."),
    _option("--batch-size", 32, "Images per batch."),
    _option(
        "--optimizer",
        "adamw",
        "sgd uses momentum 0.9.",
        type=click.Choice(["adamw", "sgd"]),
    ),
    click.option(
        "--learning-rate",
        type=float,
        help="Peak learning rate of the head.  [default: 3e-4, for sgd 1e-3]",
    ),
    _option("--weight-decay", 0.01, "Weight decay."),
    _option(
        "--layer-decay",
        0.7,
        "Factor on the learning rate from each block to the one below.",
    ),
    _option("--warmup", 1.0, "Warm-up epochs."),
    _option("--clip", 1.0, "Clip the global gradient norm; 0 disables."),
    _option(
        "--label-smoothing", 0.05, "Probability mass spread evenly over all classes."
    ),
    _option(
        "--class-weight",
        "none",
        "balanced weights rare classes more.",
        type=click.Choice(["none", "balanced"]),
    ),
    _option(
        "--validation",
        0.1,
        "Share of the training images, in whole groups, held out for early "
        "stopping; 0 for none.",
    ),
    _option(
        "--patience", 6, "Stop after this many epochs without a better validation loss."
    ),
    _option("--ema", 0.0, "Momentum of a moving average of the weights; 0 for none."),
)
_evaluation_options = options(
    _option(
        "--tta",
        2,
        "Predict as the mean over the plain image and this many augmented views.",
    ),
    _option(
        "--fold",
        "all",
        "test trains a single network and evaluates it on the test set only.",
        type=click.Choice(["all", "test"]),
    ),
    calibrate_option,
)


@click.command(
    "finetune", short_help="Train whole networks, on the same splits as the heads."
)
@dataset_option
@_network_options
@_start_options
@_training_options
@policy_options
@_evaluation_options
@split_options
@seed_option
@click.option(
    "--max-minutes",
    type=float,
    metavar="N",
    help="Stop after this time and keep the best weights so far.",
)
@_option(
    "--mixed-precision",
    "auto",
    "Compute in float16; auto does so on GPUs.",
    type=click.Choice(["auto", "on", "off"]),
)
@on_option
@click.option("--force", is_flag=True, help="Retrain existing runs.")
@cache_option
@reports_option
@json_option
def finetune_command(
    dataset: str | None,
    names: tuple[str, ...],
    cache: Path,
    reports: Path,
    as_json: bool,
    **settings: Any,
) -> None:
    """Train whole networks end to end and record the runs.

    Interrupted training resumes after its last completed epoch.
    """
    from featcache.commands.finetune import finetune
    from featcache.core.options import arguments
    from featcache.dataset.views import Policy

    if head_of := settings["init_head"]:
        manifest = open_dataset_of_runs(cache, reports, dataset, [head_of])
    else:
        manifest = open_dataset(cache, dataset)
    networks = resolve_networks(names, settings)
    draws = take(settings, "flip", "brightness", "zoom")
    policy = Policy(**draws, seed=settings["seed"])
    with bars() as reporter:
        result = finetune(
            manifest,
            networks,
            reports=reports,
            reporter=reporter,
            **arguments(finetune, settings | {"policy": policy}),
        )
    if as_json:
        print_runs_as_json(result.runs)
        return
    for run in result.runs:
        show(_line(run, new=run.run_id in result.new_run_ids))
    after = f"featcache compare --dataset {quote(manifest.dataset)}"
    show(f"Split: {result.split.name}. Next: {after}")


def _line(run: "Run", *, new: bool) -> str:
    scores, record = run.record.scores, run.record
    accuracies = ", ".join(
        f"{part} accuracy {of['accuracy']:.3f} "
        f"({of['accuracy_low']:.3f}-{of['accuracy_high']:.3f})"
        for part, of in scores.items()
    )
    if not new:
        return f"{run.short_id} {run.run_id}: exists already; {accuracies}"
    minutes = sum(one.minutes for one in record.trainings)
    epochs = "+".join(str(one.epochs) for one in record.trainings)
    return (
        f"{run.short_id} {run.run_id}: {accuracies}; "
        f"{record.trainable_parameters:,} weights trained, "
        f"{epochs} epochs, {minutes:.1f} min"
    )
