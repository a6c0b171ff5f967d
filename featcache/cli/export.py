"""``featcache export``."""

from pathlib import Path
from typing import Any

import click

from featcache.cli.completion import complete_runs
from featcache.cli.options import (
    cache_option,
    files_option,
    force_option,
    json_option,
    open_dataset_of_runs,
    reports_option,
    trained_dataset_option,
)
from featcache.cli.output import Said, mib, print_json, show


@click.command("export", short_help="Write a trained model as one ONNX or other file.")
@click.argument("reference", metavar="RUN|BUNDLE", shell_complete=complete_runs)
@click.option(
    "--to",
    required=True,
    type=click.Choice(["onnx", "openvino", "keras", "tflite"]),
    help="Format of the file.",
)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write: .onnx, .xml for openvino (its weights go into a .bin "
    "file beside it), .keras or .tflite.",
)
@files_option
@force_option
@trained_dataset_option
@cache_option
@reports_option
@json_option
def export_command(
    reference: str,
    output: Path,
    dataset: str | None,
    cache: Path,
    reports: Path,
    as_json: bool,
    **settings: Any,
) -> None:
    """Write RUN, or the file of a bundle, as one graph that runs without featcache.

    It takes uint8 RGB pixels at the input size, and gives calibrated probabilities.
    The file appears only if it gives the probabilities of the model on 64 images: of
    the run's dataset, or generated ones. A bundle that carries its backbones can be
    written for OpenVINO only.
    """
    from featcache.commands.export import export, export_bundle
    from featcache.core.records import plain
    from featcache.deploy.opening import is_bundle
    from featcache.evaluation import references

    settings["reporter"] = Said()
    if is_bundle(reference):
        name, kind = reference, "bundle"
        exported = export_bundle(Path(reference), output, **settings)
    else:
        manifest = open_dataset_of_runs(cache, reports, dataset, [reference])
        run = references.find(reports / manifest.dataset, reference)
        name, kind = run.run_id, "run"
        exported = export(manifest, run, output, **settings)
    if as_json:
        print_json(plain(exported) | {"path": str(exported.path)})
        return
    inputs = ", ".join(f"{one} {side}" for one, side in exported.inputs.items())
    show(
        f"{exported.path}: {name}, {mib(exported.size, 1)} MiB, {inputs} px; "
        f"differs from the {kind} by at most {exported.parity.difference:.1g} on "
        f"{exported.checked_on}."
    )
    if exported.parity.on_edge:
        show(
            f"Of these, {exported.parity.on_edge} are on a step of the head, where "
            "rounding decides; they are not counted."
        )
