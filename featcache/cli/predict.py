"""``featcache predict``."""

import sys
from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from featcache.cli.options import (
    cache_option,
    dataset_option,
    force_option,
    reports_option,
)
from featcache.cli.output import Said, bars, say, show
from featcache.core.text import printable

if TYPE_CHECKING:
    from featcache.deploy.answers import Answering


@click.command("predict", short_help="Apply a trained run to new images.")
@click.argument("reference", metavar="RUN|BUNDLE")
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True)
@click.option(
    "--format",
    "style",
    type=click.Choice(["csv", "jsonl", "parquet"]),
    help="Output format.  [default: by the name of --output, else csv]",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write to FILE instead of stdout.",
)
@force_option
@click.option(
    "--by",
    metavar="COLUMN|REGEX|dicom:KEYWORD",
    help="Add a row for each patient, the mean over its images. Patients are named by "
    "a column of the CSV, by a regular expression with one group for the file name "
    r"such as '(\d{8})_', or by dicom:PatientID.",
)
@click.option(
    "--refuse/--no-refuse",
    default=True,
    show_default=True,
    help="Give no class for images that are unlike those of training.",
)
@click.option(
    "--batch-size",
    type=int,
    default=32,
    show_default=True,
    help="Images in one pass.",
)
@dataset_option
@cache_option
@reports_option
def predict_command(
    reference: str,
    inputs: tuple[str, ...],
    style: str | None,
    output: Path | None,
    force: bool,
    dataset: str | None,
    cache: Path,
    reports: Path,
    **settings: Any,
) -> None:
    """Apply a trained RUN or BUNDLE to new images: one row per image.

    INPUT is an image, a folder, a zip file, a CSV with a column path, or - for paths
    on standard input, one per line.
    """
    from featcache.commands.predict import check_format, predict, write, write_text
    from featcache.dataset.sources.inputs import open_inputs

    style = check_format(style, output, force=force)
    images = open_inputs(inputs, sys.stdin.buffer)
    for note in images.notes:
        say(f"Note: {note}.")
    model = _open_model(reference, dataset=dataset, cache=cache, reports=reports)
    # A bar would be drawn over the rows.
    quiet = output is None and sys.stdout.isatty()
    with nullcontext(Said()) if quiet else bars() as reporter:
        predictions = predict(model, images, reporter=reporter, **settings)
        with closing(predictions):
            columns, rows = predictions.columns, predictions.rows()
            if output is None:
                write_text(columns, rows, style, sys.stdout, printable)
            else:
                n = write(columns, rows, style, output)
    if output is not None:
        show(f"{n} rows: {output}")
    say(f"{predictions.summary}.")


def _open_model(reference: str, **where: Any) -> "Answering":
    """Opens the run or bundle that a reference names."""
    from featcache.deploy import open_model  # type: ignore[attr-defined]

    model: Answering = open_model(reference, **where)
    return model
