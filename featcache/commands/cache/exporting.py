"""Exporting: a store joined with its labels, for programs that read no HDF5."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from featcache import features
from featcache.core.io import atomic_path
from featcache.core.output_file import check_output
from featcache.dataset.views import Policy
from featcache.errors import UsageError
from featcache.features import Features

COLUMNS = ["image_id", "view", "path", "label", "group"]


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: The file.
        rows: Embeddings.
        dim: Width D, taps included.
        bytes: Size of the file.
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
    force: bool = False,
) -> Exported:
    """Writes a store's embeddings with labels, groups, ids, views and paths.

    ``.npz`` holds ``X`` (N, D), ``y``, ``groups``, ``image_id``, ``view`` and
    ``path``; ``.csv`` and ``.parquet`` have the columns ``COLUMNS`` and f0..f(D-1).

    Args:
        path: The store.
        to: The new file; its ending says the format.
        views: Augmented views beside the plain one.
        policy: Their recipe; by default the newest in the store.
        taps: Inner layers to append: their names, "all" or "none".
        force: Replace a file that is there; never a record of featcache.

    Raises:
        UsageError: Another ending, a file that is there, or pyarrow is not.
        StoreError: The store is damaged, or lacks rows that were asked for.
        DatasetError: Its dataset has no manifest.
    """
    write = _writer(to, force)
    data = features.load(path, views=views, policy=policy, taps=taps)
    with atomic_path(to) as temp:
        write(data, temp)
    return Exported(to, len(data.X), data.X.shape[1], to.stat().st_size)


def _writer(to: Path, force: bool) -> Callable[[Features, Path], None]:
    if to.suffix not in WRITERS:
        raise UsageError(
            f"`to` with a name that ends in {', '.join(WRITERS)}",
            str(to),
            "Use one of these.",
        )
    check_output(to, "to", force=force)
    if to.suffix == ".parquet" and not find_spec("pyarrow"):
        raise UsageError(
            "pyarrow, to write .parquet",
            "it is not installed",
            "Run: pip install 'featcache[parquet]', or export to .npz or .csv.",
        )
    return WRITERS[to.suffix]


def _npz(data: Features, path: Path) -> None:
    columns = {c: data.meta[c].to_numpy() for c in ("image_id", "path")}
    # Text of fixed width: a column of objects would be a pickle.
    text: dict[str, Any] = {
        name: values.astype(str)
        for name, values in {"y": data.y, "groups": data.groups, **columns}.items()
    }
    with path.open("wb") as file:
        np.savez(file, X=data.X, view=data.meta["view"].to_numpy(), **text)


def _table(data: Features) -> pd.DataFrame:
    names = [f"f{i}" for i in range(data.X.shape[1])]
    meta = data.meta[COLUMNS].reset_index(drop=True)
    return pd.concat([meta, pd.DataFrame(data.X, columns=names)], axis=1)


def _csv(data: Features, path: Path) -> None:
    _table(data).to_csv(path, index=False)


def _parquet(data: Features, path: Path) -> None:
    _table(data).to_parquet(path, index=False)


WRITERS = {".npz": _npz, ".parquet": _parquet, ".csv": _csv}
