"""Features: a store joined with the manifest, ready for scikit-learn."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from featcache import manifest, splits, store
from featcache.errors import StoreError, UsageError
from featcache.manifest import Manifest
from featcache.registry import Registry
from featcache.splits import Split
from featcache.store import Store


class Features(NamedTuple):
    """One row an embedding; all four in the same order.

    Attributes:
        X: (N, D) float32 embeddings, then those of the taps asked for.
        y: (N,) labels.
        groups: (N,) groups.
        meta: N rows: image_id, view, policy, and the manifest's further columns.
    """

    X: np.ndarray
    y: np.ndarray
    groups: np.ndarray
    meta: pd.DataFrame


def load(
    path: str | Path,
    *,
    views: int = 0,
    policy: int | None = None,
    taps: str | Sequence[str] = (),
) -> Features:
    """Loads a store with labels and groups, in the manifest's order.

    Args:
        path: A store, ``cache/<dataset>/features/<name>.h5``.
        views: Augmented views to load beside the plain one (view 0) of each image.
        policy: Index of their policy in the store; by default the newest.
        taps: Inner layers to append to the embedding: their names, or "all".

    Returns:
        ``X, y, groups, meta``; (views + 1) rows an image, view 0 first.

    Raises:
        StoreError: The store is damaged, or lacks rows that were asked for.
        DatasetError: Its dataset has no manifest.
    """
    found = store.open_store(Path(path))
    return join(
        found,
        manifest.load(found.path.parent.parent),
        views=views,
        policy=policy,
        taps=taps,
    )


def join(
    found: Store,
    dataset: Manifest,
    *,
    views: int = 0,
    policy: int | None = None,
    taps: str | Sequence[str] = (),
) -> Features:
    """Selects the rows of a manifest's usable images; see ``load``."""
    if views < 0:
        raise UsageError("--views 0 or more", str(views), "Leave it out for none.")
    if policy is None:
        policy = len(found.header.policies) - 1
    ok = dataset.ok
    wanted = _wanted(ok["image_id"].to_numpy(), views, policy)
    index = pd.MultiIndex.from_frame(found.keys[store.KEY])
    rows = index.get_indexer(pd.MultiIndex.from_frame(wanted))
    if (rows < 0).any():
        lacking = wanted.loc[rows < 0, "image_id"].nunique()
        raise StoreError(
            f"{views + 1} views of {len(ok)} images in {found.path.name}",
            f"none or fewer for {lacking} of them",
            f"Run: featcache extract --dataset {dataset.dataset} "
            f"-b {found.header.contract['backbone']} --views {views}",
        )
    columns = ok.drop(columns=["status", "reason"]).set_index("image_id")
    # A column of the source, such as the projection, may be called "view" too.
    columns = columns.rename(columns={c: f"given_{c}" for c in ("view", "policy")})
    meta = wanted.join(columns, on="image_id")
    blocks = [
        found.read(name)[rows] for name in (store.FEATURES, *tap_names(found, taps))
    ]
    X = np.concatenate(blocks, axis=1)
    lacking = int(np.isnan(X).any(axis=1).sum())
    if lacking:
        raise StoreError(
            f"taps of every row in {found.path.name}",
            f"none for {lacking} of {len(X)}",
            f"Run: featcache extract --dataset {dataset.dataset} "
            f"-b {found.header.contract['backbone']} --views {views} --taps ...",
        )
    return Features(
        X,
        meta["label"].to_numpy(),
        meta["group"].to_numpy(),
        meta,
    )


def tap_names(found: Store, taps: str | Sequence[str]) -> list[str]:
    """Turns a user's words for taps into those of a store.

    Raises:
        UnknownNameError: The store has no such tap; the nearest names are offered.
    """
    if taps in ("all", "none", ""):
        return found.taps if taps == "all" else []
    names = taps.split(",") if isinstance(taps, str) else list(taps)
    table = Registry("stored tap", dict.fromkeys(found.taps), hint="Or extract it.")
    for name in names:
        if name not in table:
            raise table.unknown(name)
    return names


def draw_split(
    dataset: Manifest,
    name: str | None = None,
    *,
    folds: int = 5,
    test_size: float = 0.2,
    seed: int = 0,
) -> Split:
    """Reads or draws the split of a dataset's usable images.

    Args:
        dataset: Whose images.
        name: Of the split; by default made of how it is drawn.
        folds: Cross-validation folds.
        test_size: Share of the images in the test part; 0 for none.
        seed: Of the draw.

    Raises:
        SplitError: The folds cannot be made, or the split was drawn otherwise.
    """
    by = dataset.settings.group_by
    if not all(c.isalnum() or c in "-_" for c in by):
        by = f"regex-{hashlib.sha256(by.encode()).hexdigest()[:6]}"
    name = name or f"{by}-k{folds}-test{test_size:g}-seed{seed}"
    ok = dataset.ok
    return splits.load_or_make(
        dataset.folder / f"splits-{name}.json",
        ok["image_id"].tolist(),
        ok["label"].tolist(),
        ok["group"].tolist(),
        name=name,
        folds=folds,
        test_size=test_size,
        seed=seed,
    )


def _wanted(image_ids: np.ndarray, views: int, policy: int) -> pd.DataFrame:
    view = np.tile(np.arange(views + 1), len(image_ids))
    return pd.DataFrame(
        {
            "image_id": np.repeat(image_ids, views + 1),
            "view": view,
            "policy": np.where(view == 0, store.NO_POLICY, policy),
        }
    )
