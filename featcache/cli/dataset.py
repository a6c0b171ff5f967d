"""``featcache dataset``: ls, rm and rename."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from featcache.cli.completion import complete_datasets
from featcache.cli.options import cache_option, json_option, reports_option
from featcache.cli.output import mib, print_json, print_table, say, show
from featcache.core.text import some

if TYPE_CHECKING:
    from featcache.commands.cache import DatasetEntry, RemovedDataset


@click.group("dataset", short_help="List, delete and rename datasets.")
def dataset_group() -> None:
    """List, delete and rename the datasets of a cache."""


@dataset_group.command(short_help="List the datasets.")
@cache_option
@reports_option
@json_option
def ls(cache: Path, reports: Path, as_json: bool) -> None:
    """List the datasets of the cache, and say why any cannot be used."""
    from featcache.commands.cache import ls_datasets

    entries = ls_datasets(cache, reports)
    if as_json:
        print_json([vars(entry) for entry in entries])
    elif entries:
        print_table(_HEADINGS, [_cells(entry) for entry in entries])
    else:
        say(f"There are no datasets in {cache}. Run: featcache scan SOURCE")


_HEADINGS = [
    *(("dataset", False), ("images", True), ("classes", False), ("stores", True)),
    *(("MiB", True), ("runs", True), ("source", False), ("state", False)),
]


def _cells(entry: "DatasetEntry") -> list[str]:
    return [
        entry.dataset,
        str(entry.images),
        some(entry.classes),
        str(entry.stores),
        mib(entry.bytes),
        str(entry.runs),
        entry.source,
        entry.state or "ok",
    ]


@dataset_group.command(short_help="Delete a dataset from the cache.")
@click.argument("dataset", shell_complete=complete_datasets)
@click.option(
    "--runs", is_flag=True, help="Also delete its folder in the reports, with all runs."
)
@click.option("--yes", is_flag=True, help="Actually delete (default: dry run).")
@cache_option
@reports_option
@json_option
def rm(
    dataset: str, runs: bool, yes: bool, cache: Path, reports: Path, as_json: bool
) -> None:
    """Show what DATASET has in the cache, and delete it with --yes.

    The images themselves are never touched.
    """
    from featcache.commands.cache import remove_dataset

    removed = remove_dataset(cache, reports, dataset, runs=runs, yes=yes)
    if as_json:
        removals = [{"path": r.path, "bytes": r.before} for r in removed.removals]
        print_json(vars(removed) | {"removals": removals})
        return
    if removed.removals:
        print_table(
            [("path", False), ("MiB", True)],
            [[str(one.path), mib(one.before)] for one in removed.removals],
        )
    for path in removed.kept:
        what = "the answers of people" if path.name == "reviews.csv" else _NOT_OURS
        say(f"Kept: {path}, {what}.")
    show(_summary(removed, runs=runs))


_NOT_OURS = "which is not a file of featcache"


def _summary(removed: "RemovedDataset", *, runs: bool) -> str:
    total = mib(sum(one.before for one in removed.removals))
    stay = ""
    if removed.runs and not runs:
        verb = "stays" if removed.runs == 1 else "stay"
        count = "1 run" if removed.runs == 1 else f"{removed.runs} runs"
        stay = f" {count} in {removed.reports} {verb}; --runs deletes them too."
    if removed.done:
        return f"Deleted {removed.dataset}: {total} MiB.{stay}"
    return f"{total} MiB would be deleted. Dry run: add --yes to delete.{stay}"


@dataset_group.command(short_help="Rename a dataset.")
@click.argument("dataset", shell_complete=complete_datasets)
@click.argument("name")
@cache_option
@reports_option
@json_option
def rename(dataset: str, name: str, cache: Path, reports: Path, as_json: bool) -> None:
    """Rename DATASET to NAME in the cache and in the reports.

    Its feature stores and runs can be used under the new name as before.
    """
    from featcache.commands.cache import rename_dataset

    renamed = rename_dataset(cache, reports, dataset, name)
    if as_json:
        print_json(vars(renamed))
        return
    runs = "1 run" if renamed.runs == 1 else f"{renamed.runs} runs"
    show(f"Renamed {renamed.before} to {renamed.dataset}, with {runs}.")
    say(f"Study files that name {renamed.before} have to be changed by hand.")
