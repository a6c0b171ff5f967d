"""``featcache predict``."""

import sys
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import click

from featcache.cli.completion import complete_runs_or_files
from featcache.cli.options import (
    cache_option,
    files_option,
    force_option,
    reports_option,
    run_split_option,
    trained_dataset_option,
)
from featcache.cli.output import Said, bars, say, show
from featcache.core.text import printable


@click.command("predict", short_help="Apply a trained run to new images.")
@click.argument(
    "reference", metavar="RUN|BUNDLE", shell_complete=complete_runs_or_files
)
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
    "--refuse",
    "share",
    type=float,
    metavar="SHARE",
    help="Share of images like the training images that may be refused.  "
    "[default: 0.01, or that of the bundle]",
)
@click.option(
    "--no-refuse",
    is_flag=True,
    help="Also give a class for refused images; their status stays refused.",
)
@files_option
@click.option(
    "--batch-size",
    type=int,
    default=32,
    show_default=True,
    help="Images in one pass.",
)
@run_split_option
@trained_dataset_option
@cache_option
@reports_option
def predict_command(
    reference: str,
    inputs: tuple[str, ...],
    style: str | None,
    output: Path | None,
    force: bool,
    share: float | None,
    no_refuse: bool,
    split: str | None,
    files: tuple[Path, ...],
    dataset: str | None,
    cache: Path,
    reports: Path,
    **settings: Any,
) -> None:
    """Apply a trained RUN or BUNDLE to new images: one row per image.

    INPUT is an image, a folder, a zip, a tar, a table with a column path, a Parquet
    file or folder of Hugging Face, or - for paths on standard input, one per line.
    """
    from featcache.commands.predict import check_format, predict, write, write_text
    from featcache.dataset.sources.inputs import open_inputs
    from featcache.deploy.opening import Place, open_model

    style = check_format(style, output, force=force)
    images = open_inputs(inputs, sys.stdin.buffer)
    for note in images.notes:
        say(f"Note: {note}.")
    place = Place(cache, reports, dataset, files, split)
    # A bar would be drawn over the rows.
    quiet = output is None and sys.stdout.isatty()
    with (
        nullcontext(Said()) if quiet else bars() as reporter,
        open_model(
            reference,
            place,
            refuse=share,
            needs_refusal=not no_refuse,
            reporter=reporter,
        ) as model,
    ):
        predictions = predict(
            model, images, refuse=not no_refuse, reporter=reporter, **settings
        )
        with closing(predictions):
            columns, rows = predictions.columns, predictions.rows()
            if output is None:
                write_text(columns, rows, style, sys.stdout, printable)
            else:
                n = write(columns, rows, style, output)
    if output is not None:
        show(f"{n} rows: {output}")
    say(f"{predictions.summary}.")
    if predictions.warning:
        say(f"Warning: {predictions.warning}.")
