"""Rows of stores side by side: which they are, and reading them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from featcache.dataset.manifest import Manifest
from featcache.dataset.regions import WHOLE_PICTURE, Region
from featcache.errors import StoreError
from featcache.features import store
from featcache.features.store import Store


@dataclass(frozen=True)
class Asked:
    """Which renderings of each image to select.

    Attributes:
        views: Augmented views beside the plain one.
        recipe: The policy of these views.
        region: What all renderings show.
        masks: By image_id, the SHA-256 of its mask; only for a region that needs them.
    """

    views: int
    recipe: dict[str, Any] | None = None
    region: Region = WHOLE_PICTURE
    masks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Block:
    """Columns that come from one matrix of one store.

    Attributes:
        store: The store.
        matrix: ``store.FEATURES``, or a tap.
        rows: (N,) rows of the matrix, in the order of the selection.
        region: What they show.
    """

    store: Store
    matrix: str
    rows: np.ndarray
    region: Region = WHOLE_PICTURE

    @property
    def dim(self) -> int:
        """Number of columns."""
        return self.store.dims[self.matrix]

    def read_into(self, out: np.ndarray) -> None:
        """Reads the block's rows into ``out`` (N, dim), a slab at a time.

        Raises:
            StoreError: The bytes are not those that were sealed, or not finite.
        """
        place = np.full(len(self.store.keys), -1)
        place[self.rows] = np.arange(len(self.rows))
        start = 0
        for slab in self.store.slabs(self.matrix):
            to = place[start : start + len(slab)]
            out[to[to >= 0]] = slab[to >= 0]
            start += len(slab)
        bad = ~np.isfinite(out).all(axis=1)
        if bad.any():
            first = self.store.keys["path"].to_numpy()[self.rows[bad][0]]
            raise StoreError(
                f"finite numbers in {self.matrix} of {self.store.path.name}",
                f"NaN or infinity in {bad.sum()} of {len(out)} rows, the first of "
                f"{first or 'an unnamed image'}",
                "Delete the store and extract it again; if they come back, the "
                "weights are broken.",
            )


@dataclass(frozen=True)
class Selection:
    """Rows of one or several stores, side by side; nothing is read yet.

    Attributes:
        blocks: What the columns are.
        meta: N rows, as in `Features`; ``policy`` is the index in the first store.
        recipe: The policy of the augmented views; None without any.
    """

    blocks: tuple[Block, ...]
    meta: pd.DataFrame
    recipe: dict[str, Any] | None

    @property
    def views(self) -> int:
        """Augmented views of each image beside the plain one."""
        return int(self.meta["view"].max())

    @property
    def dims(self) -> tuple[int, ...]:
        """Width of each block."""
        return tuple(block.dim for block in self.blocks)

    @property
    def taps(self) -> list[str]:
        """Names of the inner layers, each once."""
        names = dict.fromkeys(block.matrix for block in self.blocks)
        return [name for name in names if name != store.FEATURES]

    def read(self) -> np.ndarray:
        """Reads all blocks: (N, D) float32.

        Raises:
            StoreError: A store is damaged.
        """
        X = np.empty((len(self.meta), sum(self.dims)), np.float32)
        start = 0
        for block in self.blocks:
            block.read_into(X[:, start : start + block.dim])
            start += block.dim
        return X


def select(
    stores: Sequence[Store],
    dataset: Manifest,
    *,
    asked: Asked,
    taps: Sequence[str] = (),
) -> Selection:
    """Finds the rows of a manifest's usable images in stores.

    Args:
        stores: Whose matrices are to stand side by side.
        dataset: Whose images.
        asked: Which of their renderings.
        taps: Inner layers; each store appends those of them that it has.

    Returns:
        (views + 1) rows an image, view 0 first, in the manifest's order.

    Raises:
        StoreError: A store lacks rows; the command that extracts them is told.
    """
    blocks = []
    for found in stores:
        rows = _rows(found, dataset, asked)
        names = [store.FEATURES, *(tap for tap in taps if tap in found.taps)]
        blocks += [Block(found, name, rows, asked.region) for name in names]
    for block in blocks:
        _refuse_gaps(block, dataset, asked)
    meta = _meta(dataset, _keys(stores[0], dataset, asked), asked.views)
    return Selection(tuple(blocks), meta, asked.recipe if asked.views else None)


def stored_views(found: Store, recipe: dict[str, Any] | None) -> int:
    """The most augmented views of a recipe that a store has of any image."""
    has = found.keys["policy"] == _index(found, recipe)
    return int(found.keys.loc[has, "view"].max()) if has.any() else 0


def _index(found: Store, recipe: dict[str, Any] | None) -> int:
    """Index of a recipe in a store; one that no row has if it is not there."""
    known = found.header.policies
    return known.index(recipe) if recipe in known else len(known)


def _rows(found: Store, dataset: Manifest, asked: Asked) -> np.ndarray:
    """Rows of the images' views in a store, (N,)."""
    wanted = _keys(found, dataset, asked)
    index = pd.MultiIndex.from_frame(found.keys[store.KEY])
    rows = index.get_indexer(pd.MultiIndex.from_frame(wanted))
    if (rows < 0).any():
        lacking = wanted.loc[rows < 0, "image_id"].nunique()
        raise StoreError(
            f"{asked.views + 1} views of {len(dataset.ok)} images in "
            f"{found.path.name}{asked.region.suffix}",
            f"none or fewer for {lacking} of them",
            f"Run: {_command(found, dataset, asked)}"
            + (", or take `views=0`." if asked.views else ""),
        )
    return np.asarray(rows)


def _refuse_gaps(block: Block, dataset: Manifest, asked: Asked) -> None:
    """A tap that was added later may lack rows; the embedding never does."""
    if block.matrix == store.FEATURES:
        return
    lacking = int((~block.store.has(block.matrix)[block.rows]).sum())
    if lacking:
        raise StoreError(
            f"tap {block.matrix} of every row in {block.store.path.name}",
            f"none for {lacking} of {len(block.rows)}",
            f"Run: {_command(block.store, dataset, asked)} --taps {block.matrix}",
        )


def _command(found: Store, dataset: Manifest, asked: Asked) -> str:
    """The command that extracts what is missing."""
    contract, weights = found.header.contract, found.header.weights
    name = contract.backbone + (".keras" if weights == "file" else "")
    words = ["featcache extract", "--dataset", dataset.dataset, "-b", name]
    words += [*store.network_options(contract, weights), "--views", str(asked.views)]
    words += store.recipe_options(asked.recipe or {}) if asked.views else []
    return " ".join([*words, *asked.region.options])


def _keys(found: Store, dataset: Manifest, asked: Asked) -> pd.DataFrame:
    """The keys of the rows to select, as this store numbers the recipe.

    The plain rendering of a region is view 1 of a policy that is the region alone.
    """
    image_ids = dataset.ok["image_id"].to_numpy()
    masks = [asked.masks.get(image_id, store.NO_MASK) for image_id in image_ids]
    region = asked.region.to_dict()
    plain = _index(found, region) if region else store.NO_POLICY
    draw = np.tile(np.arange(asked.views + 1), len(image_ids))
    columns = (
        np.repeat(image_ids, asked.views + 1),
        np.where(draw == 0, int(bool(region)), draw),
        np.where(draw == 0, plain, _index(found, asked.recipe)),
        np.repeat(masks, asked.views + 1),
    )
    return pd.DataFrame(dict(zip(store.KEY, columns, strict=True)))


def _meta(dataset: Manifest, keys: pd.DataFrame, views: int) -> pd.DataFrame:
    keys = keys[["image_id", "view", "policy"]].copy()
    keys["view"] = np.arange(len(keys)) % (views + 1)
    columns = dataset.ok.drop(columns=["status", "reason"]).set_index("image_id")
    # A column of the source, such as the projection, may be called "view" too.
    columns = columns.rename(columns={c: f"given_{c}" for c in ("view", "policy")})
    return keys.join(columns, on="image_id")
