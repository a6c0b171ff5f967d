"""Exporting: a store joined with its labels, for programs that read no HDF5."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from featcache import features
from featcache.commands.cache.export_formats import (
    COLUMNS,
    Table,
    Write,
    parquet_folder,
    write_csv,
    write_npz,
    write_parquet,
    write_zarr,
)
from featcache.commands.cache.listing import size
from featcache.core.output_file import check_output, check_output_folder
from featcache.dataset.own_split import PART
from featcache.dataset.views import Policy
from featcache.errors import UsageError
from featcache.features import Selection, store
from featcache.features.mapping import map_rows

WRITERS = {
    ".npz": write_npz,
    ".parquet": write_parquet,
    ".csv": write_csv,
    ".zarr": write_zarr,
}
# What the folder of an earlier export consists of, by the ending of its name.
_FOLDERS = {
    ".parquet": re.compile(r"part-[0-9]{5,}\.parquet"),
    ".zarr": re.compile("|".join([r"zarr\.json", "features", "taps", PART, *COLUMNS])),
}
_PACKAGES = {".parquet": "pyarrow", ".zarr": "zarr"}  # extras are called as endings


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: The file, or the folder.
        rows: Embeddings.
        dim: Width D, taps included.
        bytes: Size of the file, or of those in the folder.
    """

    path: Path
    rows: int
    dim: int
    bytes: int


def export(
    path: Path,
    to: Path,
    *,
    views: int = 0,
    policy: Policy | None = None,
    taps: str | Sequence[str] = "none",
    part_rows: int | None = None,
    force: bool = False,
) -> Exported:
    """Writes a store's embeddings with labels, groups, ids, views and paths.

    All formats have the columns ``COLUMNS``, and ``split`` where the source brings one.
    In ``.npz`` these are arrays, two of them called ``y`` and ``groups``, beside ``X``
    (N, D); in ``.csv`` f0..f(D-1) follow. ``.parquet`` has a column, and ``.zarr`` an
    array, for ``features`` and for each tap, ``taps/<layer>``; both have the contract.

    No more than a block of rows is in memory at once; the rows are brought into the
    manifest's order in a temporary file of 4 x N x D bytes beside the new one.

    Args:
        path: The store.
        to: The new file, or for ``.zarr`` folder; its ending says the format.
        views: Augmented views beside the plain one.
        policy: Their recipe; by default the newest in the store.
        taps: Inner layers to append: their names, "all" or "none".
        part_rows: Make ``.parquet`` a folder of files with so many rows each.
        force: Replace a file that is there, never a record of featcache; or the folder
            of an earlier export.

    Raises:
        UsageError: Another ending, a file that is there, or a package is not.
        StoreError: The store is damaged, or lacks rows that were asked for.
        DatasetError: Its dataset has no manifest.
        OSError: It cannot be written; nothing is left of it.
    """
    write = _writer(to, part_rows, force)
    selection = features.select(path, views=views, policy=policy, taps=taps)
    meta = selection.meta[COLUMNS + [PART] * (PART in selection.meta)]
    to.parent.mkdir(parents=True, exist_ok=True)
    X = map_rows(selection, beside=to)
    dims = {store.dataset_name(one.matrix): one.dim for one in selection.blocks}
    write(Table(X, meta, dims, _about(path, selection)), to)
    return Exported(to, len(X), X.shape[1], size(to))


def _about(path: Path, selection: Selection) -> dict[str, Any]:
    """Where the rows come from, as attributes of a file."""
    stored = selection.blocks[0].store
    header = stored.header
    return {
        "dataset": path.absolute().parent.parent.name,
        "store": path.name,
        "contract": header.contract.to_json(),
        "contract_id": header.contract_id,
        "weights": header.weights,
        "weights_key": header.weights_key,
        "engine": header.engine,
        "versions": header.versions,
        "notes": header.notes,
        "policy": selection.recipe,
    }


def _writer(to: Path, part_rows: int | None, force: bool) -> Write:
    if to.suffix not in WRITERS:
        raise UsageError(
            f"`to` with a name that ends in {', '.join(WRITERS)}",
            str(to),
            "Use one of these.",
        )
    if part_rows is not None and (to.suffix != ".parquet" or part_rows < 1):
        raise UsageError(
            "`part_rows` of 1 or more, for .parquet alone",
            f"{part_rows} for {to.name}",
            "Leave it out.",
        )
    if part_rows or to.suffix == ".zarr":
        check_output_folder(to, "to", _FOLDERS[to.suffix], force=force)
    else:
        check_output(to, "to", force=force)
    package = _PACKAGES.get(to.suffix)
    if package and not find_spec(package):
        extra = to.suffix.removeprefix(".")
        raise UsageError(
            f"{package}, to write {to.suffix}",
            "it is not installed",
            f"Run: pip install 'featcache[{extra}]', or export to .npz or .csv.",
        )
    return parquet_folder(part_rows) if part_rows else WRITERS[to.suffix]
