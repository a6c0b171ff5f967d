"""``featcache validate``."""

from collections.abc import Iterable
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from featcache.cli.completion import complete_runs_or_files
from featcache.cli.options import (
    cache_option,
    files_option,
    force_option,
    json_option,
    options,
    reports_option,
    source_options,
    trained_dataset_option,
)
from featcache.cli.output import bars, print_json, say
from featcache.cli.scan import scan_source
from featcache.cli.validation_tables import print_validation
from featcache.errors import DatasetError, UsageError

if TYPE_CHECKING:
    from featcache.dataset.manifest import Manifest
    from featcache.dataset.urls import Location


def parse_mapping(
    context: click.Context, option: click.Parameter, pairs: Iterable[str]
) -> dict[str, str] | None:
    """The class of each label, from LABEL=CLASS; None without any.

    Raises:
        UsageError: No such pair, or two classes for a label.
    """
    classes: dict[str, str] = {}
    for pair in pairs:
        label, sign, name = pair.partition("=")
        if not (label and sign and name):
            raise UsageError(
                "--map LABEL=CLASS", repr(pair), "Name the label, then the class."
            )
        if classes.setdefault(label, name) != name:
            raise UsageError(
                f"one class for the label {label!r}",
                f"{classes[label]!r} and {name!r}",
                "Give --map once for each label.",
            )
    return classes or None


external_options = options(
    click.option(
        "--name",
        metavar="NAME",
        help="Name of the external dataset in the cache.  [default: the name of the "
        "source's folder]",
    ),
    click.option(
        "--map",
        "mapping",
        multiple=True,
        callback=parse_mapping,
        metavar="LABEL=CLASS",
        help="A label of the external dataset and the class of the model that it is; "
        "may be repeated.",
    ),
    click.option(
        "--by",
        multiple=True,
        metavar="COLUMN",
        help="Also score the subgroups of this manifest column; may be repeated.",
    ),
    click.option(
        "--exclude",
        multiple=True,
        metavar="COLUMN[=VALUE]",
        help="Leave out images whose manifest column is 1, true or yes, or "
        "equals VALUE; may be repeated.",
    ),
)


@click.command("validate", short_help="Score a trained run on images from elsewhere.")
@click.argument(
    "reference", metavar="RUN|BUNDLE", shell_complete=complete_runs_or_files
)
@click.argument("source", metavar="SOURCE")
@external_options
@source_options
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Also write the result to FILE, which ends in .json, .csv or .md.",
)
@force_option
@files_option
@trained_dataset_option
@cache_option
@reports_option
@json_option
def validate_command(
    reference: str,
    source: str,
    mapping: dict[str, str] | None,
    by: tuple[str, ...],
    output: Path | None,
    force: bool,
    files: tuple[Path, ...],
    dataset: str | None,
    cache: Path,
    reports: Path,
    as_json: bool,
    **settings: Any,
) -> None:
    """Score a trained RUN or BUNDLE on a dataset that it never saw.

    SOURCE is a folder or zip file with one subfolder per class, a CSV, or the name of
    a dataset that is scanned already.
    """
    from featcache.commands.validate import keep, validate
    from featcache.deploy.opening import Place, is_bundle, open_model
    from featcache.report import validation_blocks

    if output:
        validation_blocks.check_file(output, force=force)
    place = Place(cache, reports, dataset, files)
    own = None if is_bundle(reference) else place.folder_of(reference).name
    manifest = external_dataset(source, cache, own, settings)
    with (
        bars() as reporter,
        open_model(
            reference,
            place,
            needs_refusal=False,
            with_hashes=True,
            reporter=reporter,
        ) as model,
    ):
        result = validate(model, manifest, mapping=mapping, by=by, reporter=reporter)
        path = keep(result, model, reports)
    if result.own_in_words:
        say(f"Warning: {result.own_in_words}")
    if as_json:
        print_json(result.to_json())
    else:
        print_validation(result)
    if output:
        validation_blocks.write(result, output)
        say(f"Written: {output}")
    after = f"featcache compare --dataset {quote(model.dataset)} --html"
    has_runs = (reports / model.dataset / "runs").is_dir()
    say(f"Saved: {path}." + (f" Next: {after}" if has_runs else ""))


def external_dataset(
    source: str, cache: Path, own: str | None, settings: dict[str, Any]
) -> "Manifest":
    """The external dataset: scanned now or before, without the images left out.

    Args:
        source: A path, a URL, or the name of a dataset in the cache.
        cache: The cache folder.
        own: Name of the dataset that the run is of; None for a bundle.
        settings: The options of the external dataset.

    Raises:
        DatasetError: It cannot be scanned, or there is no such dataset.
        UsageError: It would replace the run's own dataset, or options that need a
            path come with the name of a dataset.
    """
    from featcache.dataset import manifest as manifests
    from featcache.dataset.narrowing import narrow
    from featcache.dataset.urls import is_gone, location

    exclude, path = settings.pop("exclude"), location(source)
    if is_gone(path) and (cache / source / "manifest.csv").is_file():
        if any(value is not None for value in settings.values()):
            raise UsageError(
                "a path as SOURCE with --name and the options of a scan",
                f"the name of the dataset {source!r}",
                "Leave them out, or give the path.",
            )
        return narrow(manifests.load(cache / source), exclude=exclude)
    name = settings.pop("name") or unused_name(path, cache)
    if name == own:
        raise UsageError(
            "a name for the external dataset",
            f"{own!r}, which is that of the run's own dataset",
            "Give it another with --name.",
        )
    scanned = scan_source(path, cache, name, fewest_classes=1, **settings)
    return narrow(scanned.manifest, exclude=exclude)


def unused_name(path: "Location", cache: Path) -> str:
    """The usual name of a source, if no other source has it in the cache.

    Raises:
        DatasetError: Another has.
    """
    from featcache.dataset import manifest as manifests
    from featcache.dataset.urls import absolute

    name = manifests.default_name(path)
    try:
        source = manifests.read_settings(cache / name).source
    except (OSError, ValueError, RecursionError):
        return name
    if source != str(absolute(path)):
        raise DatasetError(
            f"dataset {name} to be made from {source}",
            str(path),
            "Give this one a name of its own with --name, or validate on that source.",
        )
    return name
