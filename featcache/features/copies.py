"""The same features in several stores of a cache: rows known by their content."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from featcache.errors import StoreUnavailableError
from featcache.features import store
from featcache.features.keys import RenderingQuery
from featcache.features.store import KEY, Header, Store

EMBEDDER = ".embedder"  # beside the datasets of a cache; no dataset has such a name
_BLOCK_BYTES = 32 * 2**20


@dataclass(frozen=True)
class OpenedStore:
    """A store that is read only as long as its file is the one that was opened.

    Attributes:
        store: As it was then; verify it before its rows are read.
        mark: Of the file then.
    """

    store: Store
    mark: tuple[int, ...]

    @classmethod
    def open(cls, path: Path) -> "OpenedStore":
        """Opens a store.

        Raises:
            StoreError: It is damaged, or cannot be read now.
        """
        mark = _mark(path)
        return cls(store.open_store(path), mark)

    def rows(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Reads some rows (n, D) float32 of a matrix.

        Raises:
            StoreError: Another process has replaced the file since it was opened.
        """
        values = self.store.rows(name, rows)
        if _mark(self.store.path) != self.mark:
            raise StoreUnavailableError(
                f"{self.store.path} as it was a moment ago",
                "a file that another process has replaced",
                "Run the command again.",
            )
        return values


def _mark(path: Path) -> tuple[int, ...]:
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def paths_of_contract(cache: Path, contract_id: str, *, own: Path) -> list[Path]:
    """The stores of a cache that may be of a contract, without one's own."""
    paths = sorted(cache.glob(f"*/features/*-{contract_id[:8]}.h5"))
    return [path for path in paths if path != own]


def complete_rows(opened: Store, names: Sequence[str]) -> np.ndarray:
    """Which rows of a store have all these matrices, (N,) bool."""
    whole: np.ndarray = np.all([opened.has(name) for name in names], axis=0)
    return whole


def find_rows(
    opened: Store, query: RenderingQuery, missing: pd.DataFrame, names: Sequence[str]
) -> pd.DataFrame:
    """The missing rows that a store has.

    Args:
        opened: The store.
        query: What is rendered of the images.
        missing: Rows with image_id and ``draw``, as of ``RenderingQuery.keys``.
        names: Matrices that are needed, all of them.

    Returns:
        Rows of ``missing`` with the column ``row``, their number in the store, in
        ascending order.
    """
    stored = opened.keys[KEY].assign(row=np.arange(len(opened.keys)))
    stored = stored[complete_rows(opened, names)]
    image_ids = missing["image_id"].drop_duplicates()
    image_ids = image_ids[image_ids.isin(stored["image_id"])]
    keys = query.keys(image_ids.to_numpy(object), opened.header).merge(stored, on=KEY)
    common = missing.merge(keys[["image_id", "draw", "row"]], on=["image_id", "draw"])
    return common.sort_values("row")


def copy_rows(
    path: Path,
    header: Header,
    other: OpenedStore,
    rows: pd.DataFrame,
    names: Sequence[str],
) -> None:
    """Seals rows of another store as parts of one's own, in blocks of bounded size.

    Args:
        path: One's own store, whose lock is held.
        header: Its header; engine and versions become those of the rows.
        other: The other store, verified.
        rows: Keys as numbered by ``header``, path, and ``row`` in the other store.
        names: Matrices to copy.

    Raises:
        StoreError: The other store cannot be read, or was replaced meanwhile.
    """
    made_by = other.store.header
    header = replace(header, engine=made_by.engine, versions=made_by.versions)
    width = sum(other.store.dims[name] for name in names)
    step = max(1, _BLOCK_BYTES // (4 * width))
    for start in range(0, len(rows), step):
        block = rows.iloc[start : start + step]
        numbers = block["row"].to_numpy(int)
        outputs = {name: other.rows(name, numbers) for name in names}
        store.seal(path, header, outputs, block[[*KEY, "path"]])
