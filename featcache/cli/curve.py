"""``featcache curve``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from featcache.cli.completion import complete_features, complete_heads, complete_runs
from featcache.cli.options import (
    backbones_option,
    cache_option,
    jobs_option,
    json_option,
    on_option,
    open_dataset,
    reports_option,
    seed_option,
    trained_dataset_option,
)
from featcache.cli.output import bars, print_json, print_table, show
from featcache.errors import UsageError

if TYPE_CHECKING:
    from featcache.dataset.manifest import Manifest
    from featcache.evaluation.curves import LearningCurve
    from featcache.evaluation.runs import Run


@click.command("curve", short_help="What more patients are expected to bring.")
@click.argument(
    "reference", required=False, metavar="RUN", shell_complete=complete_runs
)
@trained_dataset_option
@backbones_option(
    "Instead of RUN: features to use, with --head; trained if it is not yet.",
    name="backbone",
    shell_complete=complete_features,
    multiple=False,
)
@click.option(
    "-H",
    "--head",
    metavar="NAME",
    shell_complete=complete_heads,
    help="Instead of RUN: the head.",
)
@click.option(
    "--metric",
    type=click.Choice(["accuracy", "balanced_accuracy", "macro_f1", "auc"]),
    default="accuracy",
    show_default=True,
    help="The score.",
)
@click.option(
    "--draws",
    type=int,
    default=5,
    show_default=True,
    help="Subsamples of each size.",
)
@click.option(
    "--classes/--no-classes",
    default=True,
    show_default=True,
    help="Also halve the groups of one class at a time, to see which is lacking.",
)
@click.option(
    "--png",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Also write the curve as a picture.",
)
@click.option("--force", is_flag=True, help="Replace FILE of --png.")
@seed_option
@jobs_option
@on_option
@cache_option
@reports_option
@json_option
def curve_command(
    reference: str | None,
    dataset: str | None,
    backbone: str | None,
    head: str | None,
    png: Path | None,
    cache: Path,
    reports: Path,
    as_json: bool,
    force: bool,
    **settings: Any,
) -> None:
    """Train a run's head on ever more groups, and say what twice as many would add."""
    from featcache.commands.curve import curve
    from featcache.core.output_file import check_output
    from featcache.report import curve_picture
    from featcache.report.heatmaps import drawing

    of_new = [name for name in (backbone, head) if name]
    if len(of_new) != (0 if reference else 2):
        raise UsageError(
            "a RUN, or both --backbone and --head",
            " and ".join([*filter(None, [reference]), *of_new]) or "neither",
            "See the runs: featcache compare",
        )
    if png:
        check_output(png, "png", force=force)
    manifest, run = _run(reference, dataset, cache, reports, backbone, head)
    with bars() as reporter:
        result = curve(manifest, run, reporter=reporter, **settings)
    if png:
        drawing.save(curve_picture.png(result), png)
    if as_json:
        print_json(result.to_json())
    else:
        print_curve(result)


def _run(
    reference: str | None,
    dataset: str | None,
    cache: Path,
    reports: Path,
    backbone: str | None,
    head: str | None,
) -> "tuple[Manifest, Run]":
    """The dataset and the run that is meant, trained now where it is not there."""
    from featcache.cli.options import dataset_name
    from featcache.commands.train_head import train_head
    from featcache.evaluation import references

    if reference is not None:
        name = dataset_name(dataset, cache, reports, [reference])
        return open_dataset(cache, name), references.find(reports / name, reference)
    manifest = open_dataset(cache, dataset)
    with bars() as reporter:
        result = train_head(
            manifest,
            reports,
            backbones=[str(backbone)],
            heads=[str(head)],
            reporter=reporter,
        )
    if len(result.runs) != 1:
        raise UsageError(
            "--backbone and --head of one run",
            f"{len(result.runs)} runs",
            "Name one store and one head.",
        )
    return manifest, result.runs[0]


def print_curve(curve: "LearningCurve") -> None:
    """Prints a learning curve: its points, its picture, and what it says."""
    from featcache.report import curve_picture, curves

    unit = curve.unit
    show(
        f"{curve.run} {curve.label}: {curve.groups} {unit}, {curve.folds} folds, "
        f"out-of-fold {curve.metric}"
    )
    columns = [("share", True), (unit, True), ("images", True), (curve.metric, True)]
    rows = [
        [
            f"{point.share:.0%}",
            f"{point.groups:.0f}",
            f"{point.images:.0f}",
            f"{point.score:.3f}",
            f"{point.low:.3f}-{point.high:.3f}",
        ]
        for point in curve.points
    ]
    print_table([*columns, ("95 %", True)], rows)
    show(curve_picture.terminal(curve))
    for line in curves.sentences(curve):
        show(line)
