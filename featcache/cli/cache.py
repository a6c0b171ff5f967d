"""``featcache cache``: ls, info, verify, prune, compact and export."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from featcache.cli.options import (
    cache_option,
    dataset_filter_option,
    find_policy,
    force_option,
    json_option,
    policy_number_option,
    reports_option,
    stored_taps_option,
)
from featcache.cli.output import bars, mib, print_json, print_table, say, show
from featcache.errors import StoreError

if TYPE_CHECKING:
    from featcache.commands.cache import Checked, Entry, Info, Pruned

Rows = list[tuple[str, str]]


@click.group("cache", short_help="List, check, clean up and export feature stores.")
def cache_group() -> None:
    """List, check, clean up and export feature stores.

    STORE is the path of a store, its file name, or a unique part of that name.
    """


@cache_group.command(short_help="List the feature stores.")
@dataset_filter_option
@cache_option
@reports_option
@json_option
def ls(dataset: str | None, cache: Path, reports: Path, as_json: bool) -> None:
    """List the feature stores of every dataset, and say why any is damaged."""
    from featcache.commands import cache as stores

    entries = stores.ls(cache, reports, dataset=dataset)
    if as_json:
        print_json([_listed(entry) for entry in entries])
        return
    if not entries:
        say(
            f"There are no feature stores in {cache}. Run: featcache extract "
            "SOURCE -b BACKBONE"
        )
        return
    print_table(_HEADINGS, [_cells(entry) for entry in entries])
    total = sum(entry.bytes for entry in entries)
    show(f"Stores: {len(entries)}, {mib(total)} MiB.")


_HEADINGS = [
    *(("dataset", False), ("store", False), ("backbone", False), ("px", True)),
    *(("precision", False), ("rows", True), ("images", True), ("views", True)),
    *(("D", True), ("taps", True), ("MiB", True), ("created", False)),
    *(("parts", True), ("runs", True), ("state", False)),
]


def _cells(entry: "Entry") -> list[str]:
    state = entry.status + (f": {entry.reason}" if entry.reason else "")
    if entry.locked_by:
        state += f"; being written by {entry.locked_by}"
    numbers = (entry.rows, entry.images, entry.views, entry.dim, len(entry.taps))
    return [
        entry.dataset,
        entry.store,
        f"{entry.backbone} ({entry.weights})" if entry.backbone else "",
        str(entry.input_size or ""),
        " as ".join(dict.fromkeys(filter(None, (entry.precision, entry.dtype)))),
        *map(str, numbers),
        mib(entry.bytes),
        entry.created[:16],
        str(entry.parts),
        str(len(entry.runs)),
        state,
    ]


def _listed(entry: "Entry") -> dict[str, Any]:
    return vars(entry) | {"mib": round(entry.bytes / 2**20, 3)}


@cache_group.command(short_help="Show the details of a store.")
@click.argument("store")
@cache_option
@reports_option
@json_option
def info(store: str, cache: Path, reports: Path, as_json: bool) -> None:
    """Show the settings of STORE, which images it covers, and which runs use it."""
    from featcache.commands import cache as stores

    details = stores.info(stores.find(cache, store), reports)
    if as_json:
        print_json(_info_record(details))
        return
    print_table(
        [(details.entry.store, False), ("", False)], [*map(list, _facts(details))]
    )
    print_table(
        [("policy", False), ("view", True), ("rows", True)],
        [[_policy(r["policy"]), str(r["view"]), str(r["rows"])] for r in details.views],
    )
    if details.taps:
        headings = [("tap", False), ("D", True), ("rows filled", True)]
        rows = [[t["layer"], str(t["dim"]), str(t["rows"])] for t in details.taps]
        print_table(headings, rows)
    show(_coverage(details))
    show(f"Runs that use it: {', '.join(details.entry.runs) or 'none'}.")


def _policy(number: int) -> str:
    return "plain" if number < 0 else str(number)


def _info_record(details: "Info") -> dict[str, Any]:
    coverage = vars(details.coverage) if details.coverage else None
    return {
        **_listed(details.entry),
        "contract_id": details.contract_id,
        **vars(details.header),
        "contract": details.header.contract.to_json(),
        "rows_by_view": details.views,
        "filled": details.taps,
        "coverage": coverage,
    }


def _facts(details: "Info") -> Rows:
    header, entry = details.header, details.entry
    contract = header.contract.to_json()
    return [
        ("path", str(entry.path)),
        ("size", f"{mib(entry.bytes)} MiB, {entry.rows} rows of {entry.dim}"),
        ("created", entry.created),
        ("engine", header.engine),
        ("versions", _text(header.versions)),
        ("weights", f"{header.weights}: {header.weights_key}"),
        ("contract_id", details.contract_id),
        *((f"contract: {k}", _text(v)) for k, v in sorted(contract.items())),
        *((f"policy {i}", _text(p)) for i, p in enumerate(header.policies)),
        *((f"note: {k}", _text(v)) for k, v in sorted(header.notes.items())),
        ("files with rows", str(entry.files)),
        ("sealed parts", str(entry.parts)),
        ("written by", entry.locked_by or "no process"),
    ]


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_text(v)}" for k, v in value.items())
    if isinstance(value, list):
        long = len(value) > 8  # such as the images that int8 was calibrated on
        return f"{len(value)} entries" if long else " to ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _coverage(details: "Info") -> str:
    cover = details.coverage
    if cover is None:
        return "This store has no manifest next to it."
    return (
        f"{cover.with_rows} images of the manifest have rows, "
        f"{cover.without_rows} have none; {cover.left_over} rows belong to "
        "images no longer in the manifest."
    )


@cache_group.command(short_help="Verify the checksums of stores.")
@click.argument("names", nargs=-1, metavar="[STORE]...")
@click.option(
    "--repair",
    is_flag=True,
    help="Delete damaged sealed parts; rename other damaged files to NAME.h5.damaged.",
)
@cache_option
@json_option
def verify(names: tuple[str, ...], repair: bool, cache: Path, as_json: bool) -> None:
    """Verify all checksums of each STORE and its sealed parts (default: all stores)."""
    from featcache.commands import cache as stores

    paths = [stores.find(cache, name) for name in names] or stores.store_paths(cache)
    with bars() as reporter:
        checked = stores.verify(paths, repair=repair, reporter=reporter)
    if as_json:
        print_json([vars(one) | {"whole": one.whole} for one in checked])
    else:
        headings = [("file", False), ("rows", True), ("", False), ("what to do", False)]
        print_table(headings, [_verdict(one) for one in checked])
    _refuse_damaged(checked)


def _refuse_damaged(checked: Sequence["Checked"]) -> None:
    damaged = [one for one in checked if one.is_damaged and not one.whole]
    closed = [one for one in checked if not one.is_damaged and not one.whole]
    if damaged or closed:
        raise StoreError(
            f"{len(damaged)} of {len(checked)} files are damaged"
            + (f", {len(closed)} cannot be opened" if closed else ""),
            "Run: featcache cache verify --repair (it deletes no store)."
            if damaged
            else "The table says what to do.",
        )


def _verdict(one: "Checked") -> list[str]:
    kind = "damaged" if one.is_damaged else "cannot be opened"
    fault = f"{kind}: {one.fault}" if one.fault else "intact"
    repaired = f"; {one.repaired}" if one.repaired else ""
    return [str(one.path), str(one.rows), fault + repaired, one.hint]


@cache_group.command(short_help="Delete unused rows and files.")
@dataset_filter_option
@click.option(
    "--policies",
    is_flag=True,
    help="Also delete augmented views that no run was trained on.",
)
@click.option("--yes", is_flag=True, help="Actually delete (default: dry run).")
@cache_option
@reports_option
@json_option
def prune(cache: Path, reports: Path, as_json: bool, **settings: Any) -> None:
    """Show which rows and files are unused, and delete them with --yes.

    These are rows of images no longer in the manifest, leftovers of killed
    processes, plans that are done or outdated, and converted networks without a
    store.
    """
    from featcache.commands import cache as stores
    from featcache.commands.extract import idle_plans

    pruned = stores.prune(cache, reports, plans=idle_plans, **settings)
    for line in pruned.excluded:
        say(f"Skipped: {line}")
    if as_json:
        print_json(
            vars(pruned) | {"removals": [vars(removal) for removal in pruned.removals]}
        )
        return
    if pruned.removals:
        rows = [
            [r.kind, str(r.path), r.what, str(r.before), str(r.after)]
            for r in pruned.removals
        ]
        headings = [("what", False), ("where", False), ("why", False)]
        print_table([*headings, ("bytes", True), ("after", True)], rows)
    show(_freed(pruned))


def _freed(pruned: "Pruned") -> str:
    if not pruned.removals:
        return "Nothing to delete."
    freed = mib(sum(r.before - r.after for r in pruned.removals))
    if pruned.done:
        return f"Freed {freed} MiB."
    return f"About {freed} MiB would be freed. Dry run: add --yes to delete."


@cache_group.command(short_help="Merge the part files of stores.")
@click.argument("names", nargs=-1, metavar="[STORE]...")
@cache_option
@json_option
def compact(names: tuple[str, ...], cache: Path, as_json: bool) -> None:
    """Merge the part files of each STORE into one file (default: all stores)."""
    from featcache.commands import cache as stores

    paths = [stores.find(cache, name) for name in names] or [
        path for path in stores.store_paths(cache) if path.exists()
    ]
    with bars() as reporter:
        compacted = stores.compact(paths, reporter=reporter)
    if as_json:
        print_json([vars(one) for one in compacted])
        return
    headings = [("store", False), ("rows", True), ("files before", True)]
    rows = [
        [str(one.path), str(one.rows), str(one.files), mib(one.bytes)]
        for one in compacted
    ]
    print_table([*headings, ("MiB", True)], rows)


@cache_group.command(
    short_help="Export a store with its labels as Parquet, Zarr, npz or csv."
)
@click.argument("store")
@click.option(
    "--to",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="Output file: .npz, .parquet or .csv; or .zarr, a folder.",
)
@click.option(
    "--part-rows",
    type=int,
    metavar="ROWS",
    help="Make .parquet a folder of files with so many rows each.",
)
@click.option(
    "--views",
    type=int,
    default=0,
    show_default=True,
    help="Augmented views in addition to the plain one.",
)
@policy_number_option
@stored_taps_option
@force_option
@cache_option
@json_option
def export(store: str, cache: Path, as_json: bool, **settings: Any) -> None:
    """Write STORE with labels, groups, image ids, views and paths to FILE."""
    from featcache.commands import cache as stores
    from featcache.dataset.regions import WHOLE_PICTURE
    from featcache.features import FeatureSet
    from featcache.features.store import open_store

    path, number = stores.find(cache, store), settings.pop("policy")
    if number is not None:
        sets = [FeatureSet((open_store(path),))]
        settings["policy"] = find_policy(sets, number, WHOLE_PICTURE)
    written = stores.export(path, **settings)
    if as_json:
        print_json(vars(written))
    else:
        show(
            f"{written.rows} x {written.dim}, {mib(written.bytes)} MiB: {written.path}"
        )
