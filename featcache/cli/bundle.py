"""``featcache bundle``: make, show and verify."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from featcache.cli.completion import complete_runs
from featcache.cli.options import (
    cache_option,
    files_option,
    force_option,
    json_option,
    open_dataset_of_runs,
    options,
    reports_option,
    run_split_option,
    trained_dataset_option,
)
from featcache.cli.output import Said, mib, print_json, print_table, show

if TYPE_CHECKING:
    from featcache.deploy.bundle.verify import Stage

INTENDED_USE = "Research only. Not for diagnosis."
bundle_argument = click.argument(
    "path", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path)
)
make_options = options(
    click.option(
        "-o",
        "--output",
        required=True,
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="The bundle to write, such as model.fcb.",
    ),
    click.option(
        "--reference",
        is_flag=True,
        help="Name the backbones by their digests instead of carrying them.",
    ),
    click.option(
        "--sensitivity",
        type=float,
        default=0.95,
        show_default=True,
        metavar="SHARE",
        help="Sensitivity of the operating points, for each class.",
    ),
    click.option(
        "--refuse",
        type=float,
        default=0.01,
        show_default=True,
        metavar="SHARE",
        help="Share of images like the training images that may be refused.",
    ),
    click.option(
        "--intended-use",
        default=INTENDED_USE,
        show_default=True,
        metavar="TEXT",
        help="What the model may be used for, for the model card.",
    ),
    files_option,
    force_option,
)


@click.group("bundle", short_help="Pack a trained model into one file, and verify it.")
def bundle_group() -> None:
    """Pack a trained model into one file, and verify it on another machine."""


@bundle_group.command("make", short_help="Write a run as a bundle.")
@click.argument("reference_of_run", metavar="RUN", shell_complete=complete_runs)
@make_options
@run_split_option
@trained_dataset_option
@cache_option
@reports_option
@json_option
def make_command(
    reference_of_run: str,
    output: Path,
    split: str | None,
    dataset: str | None,
    cache: Path,
    reports: Path,
    as_json: bool,
    **settings: Any,
) -> None:
    """Write RUN as one file that answers for new images on any machine.

    The bundle has the backbones, the heads, their calibration, the operating points,
    golden cases that prove it, and a model card.
    """
    from featcache.commands.bundle import make_bundle
    from featcache.core.records import to_json
    from featcache.evaluation import references

    manifest = open_dataset_of_runs(cache, reports, dataset, [reference_of_run])
    run = references.find(reports / manifest.dataset, reference_of_run, split)
    result = make_bundle(manifest, run, output, reporter=Said(), **settings)
    if as_json:
        print_json(to_json(result.record) | {"path": str(result.path)})
        return
    size = f"{mib(result.bytes, 1)} MiB"
    show(f"{result.path}: {run.run_id}, {size}, verified with its golden cases.")


@bundle_group.command("show", short_help="Show the model card of a bundle.")
@bundle_argument
@json_option
def show_command(path: Path, as_json: bool) -> None:
    """Show the model card of the bundle FILE, and its SHA-256."""
    from featcache.commands.bundle import show_bundle
    from featcache.core.io import sha256_file
    from featcache.core.records import to_json
    from featcache.deploy.bundle.card import card

    record = show_bundle(path)
    if as_json:
        print_json(to_json(record) | {"sha256": sha256_file(path)})
        return
    show(card(record))
    show(f"SHA-256 of {path}: {sha256_file(path)}")


@bundle_group.command("verify", short_help="Prove a bundle on this machine.")
@bundle_argument
@files_option
@json_option
@click.pass_context
def verify_command(
    context: click.Context, path: Path, files: tuple[Path, ...], as_json: bool
) -> None:
    """Run the golden cases of the bundle FILE through every stage on this machine.

    Exit code 1 if any stage differs by more than the bundle allows.
    """
    from featcache.commands.bundle import verify_bundle
    from featcache.core.records import plain

    stages = verify_bundle(path, files=files)
    if as_json:
        print_json([plain(stage) | {"passed": stage.passed} for stage in stages])
    else:
        print_stages(stages)
    if not all(stage.passed for stage in stages):
        context.exit(1)


def print_stages(stages: "list[Stage]") -> None:
    """Prints a line a stage on stdout, then the verdict."""
    heads = [("stage", False), ("difference", True), ("allowed", True), ("", False)]
    rows = [
        [
            stage.name,
            f"{stage.difference:.2g}",
            f"{stage.tolerance:g}",
            (
                f"pass {stage.note}" if stage.passed else f"FAIL {stage.problem}"
            ).rstrip(),
        ]
        for stage in stages
    ]
    print_table(heads, rows)
    failed = [stage.name for stage in stages if not stage.passed]
    show(f"FAIL: {failed[0]} differs first." if failed else "PASS: every stage agrees.")
