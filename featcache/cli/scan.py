"""``featcache scan``."""

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from featcache.cli.options import (
    cache_option,
    json_option,
    scanned_dataset_option,
    source_options,
)
from featcache.cli.output import bars, print_json, say, show
from featcache.core.command_lines import from_here
from featcache.core.text import counted

if TYPE_CHECKING:
    from featcache.commands.scan import ScanResult
    from featcache.dataset.urls import Location


class Place(click.ParamType["Location"]):
    """A path, or a URL."""

    name = "path or url"

    def convert(self, value: Any, param: Any, ctx: Any) -> "Location":
        """Parses the text; what is one already passes."""
        from featcache.dataset.urls import location

        return location(value)


@click.command("scan", short_help="List and check the images of a source.")
@click.argument("source", type=Place())
@scanned_dataset_option
@source_options
@click.option(
    "--jobs",
    type=int,
    metavar="N",
    help="Parallel processes.  [default: one per core for 10,000 files or more, else "
    "threads of one process]",
)
@cache_option
@json_option
def scan_command(
    source: "Location", dataset: str | None, cache: Path, as_json: bool, **settings: Any
) -> None:
    """List and check the images of SOURCE.

    SOURCE is a folder or zip file with one subfolder per class, a table with path and
    label, tars ('shards/{000..009}.tar'), a dataset folder of Hugging Face, or the URL
    of one of these, such as s3://bucket/folder or https://host/metadata.csv.
    """
    scanned = scan_source(source, cache, dataset, **settings)
    if as_json:
        print_json(_record(scanned))
    else:
        show(_summary(scanned))
        name = quote(scanned.manifest.dataset)
        show(
            f"Next: featcache extract --dataset {name} -b baselines (without a "
            "network; classic5 are five networks)"
        )


def scan_source(
    source: "Location",
    cache: Path,
    dataset: str | None,
    *,
    brief: bool = False,
    **settings: Any,
) -> "ScanResult":
    """Scans a source with a bar, and says what the user should know.

    Args:
        source: As for ``scan``, and so the others.
        cache: The cache folder.
        dataset: Its name.
        brief: Only count what the last scan said, if nothing has changed since.
        **settings: Further options.
    """
    from featcache.commands.scan import scan

    with bars() as reporter:
        scanned = scan(source, cache, dataset=dataset, reporter=reporter, **settings)
    if brief and not scanned.changed:
        if count := len(scanned.warnings) + len(scanned.unreadable):
            name = f" --dataset {quote(dataset)}" if dataset else ""
            warnings = counted(count, "warning is", "warnings are")
            named = from_here(source) if isinstance(source, Path) else str(source)
            again = f"featcache scan {quote(named)}{name}"
            say(f"{warnings} as in the last scan. To see: {again}")
        return scanned
    for warning in scanned.warnings:
        say(f"Warning: {warning}")
    for path, reason in scanned.unreadable[:10]:
        say(" ".join(f"Unreadable: {path}: {reason}".split()))
    if len(scanned.unreadable) > 10:
        say(f"Unreadable: {len(scanned.unreadable) - 10} more; see the manifest.")
    return scanned


def _record(scanned: "ScanResult") -> dict[str, Any]:
    return {
        "dataset": scanned.manifest.dataset,
        "manifest": scanned.manifest.folder / "manifest.csv",
        "classes": scanned.counts,
        "groups": scanned.n_groups,
        "group_by": scanned.manifest.settings.group_by,
        "split": scanned.parts,
        "duplicates": scanned.duplicates,
        "unreadable": [{"path": p, "reason": r} for p, r in scanned.unreadable],
        "warnings": scanned.warnings,
    }


def _summary(scanned: "ScanResult") -> str:
    classes = ", ".join(
        f"{label} = {i} ({counted(count, 'image')})"
        for i, (label, count) in enumerate(scanned.counts.items())
    )
    parts = ", ".join(f"{part} {count}" for part, count in scanned.parts.items())
    split = f"Split (by {scanned.manifest.settings.split_by}): {parts} images.\n"
    n_images, by = sum(scanned.counts.values()), scanned.manifest.settings.group_by
    return (
        f"{scanned.manifest.dataset}: {counted(n_images, 'image')} in "
        f"{counted(scanned.n_groups, 'group')} (by {by}); "
        f"{counted(scanned.duplicates, 'duplicate')} excluded, "
        f"{len(scanned.unreadable)} unreadable.\n"
        f"Classes: {classes}.\n{split if parts else ''}"
        f"Manifest: {scanned.manifest.folder / 'manifest.csv'}"
    )
