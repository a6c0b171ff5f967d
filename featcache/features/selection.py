"""Rows of stores side by side: which they are, and reading them."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from featcache.dataset.manifest import Manifest
from featcache.dataset.regions import WHOLE_PICTURE, Region
from featcache.errors import StoreError
from featcache.features import store
from featcache.features.extractions import network_words, read_extractions
from featcache.features.keys import Recipe, RenderingQuery, policy_number
from featcache.features.store import Store

_ROWS = 4096  # that are checked at once


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

    def slabs(self) -> Iterator[tuple[NDArray[np.intp], np.ndarray]]:
        """Yields the block's rows some at a time: their numbers (n,) and (n, dim).

        Raises:
            StoreError: The bytes are not those that were sealed.
        """
        number = np.full(len(self.store.keys), -1)
        number[self.rows] = np.arange(len(self.rows))
        start = 0
        for slab in self.store.slabs(self.matrix):
            to = number[start : start + len(slab)]
            yield to[to >= 0], slab[to >= 0]
            start += len(slab)

    def read_into(self, out: np.ndarray) -> None:
        """Reads the block's rows into ``out`` (N, dim), a slab at a time.

        Raises:
            StoreError: The bytes are not those that were sealed, or not finite.
        """
        for to, slab in self.slabs():
            out[to] = slab
        parts = (out[at : at + _ROWS] for at in range(0, len(out), _ROWS))
        bad = np.concatenate([~np.isfinite(part).all(axis=1) for part in parts])
        if bad.any():
            first = self.store.keys["path"].to_numpy()[self.rows[bad][0]]
            raise StoreError(
                f"finite numbers in {self.matrix} of {self.store.path.name}",
                f"NaN or infinity in {bad.sum()} of {len(out)} rows, the first of "
                f"{first or 'an unnamed image'}",
                "Delete the store and extract again; if they come back, the weights "
                "are broken.",
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

    def read(self, out: np.ndarray | None = None) -> np.ndarray:
        """Reads all blocks: (N, D) float32.

        Args:
            out: Where to, such as a mapped file; a new array if None.

        Raises:
            StoreError: A store is damaged.
        """
        shape = len(self.meta), sum(self.dims)
        X = np.empty(shape, np.float32) if out is None else out
        start = 0
        for block in self.blocks:
            block.read_into(X[:, start : start + block.dim])
            start += block.dim
        return X


def select(
    stores: Sequence[Store],
    dataset: Manifest,
    *,
    query: RenderingQuery,
    taps: Sequence[str] = (),
) -> Selection:
    """Selects the rows of a manifest's usable images in stores.

    Args:
        stores: Whose matrices are to stand side by side.
        dataset: Whose images.
        query: Which of their renderings.
        taps: Inner layers; each store appends those of them that it has.

    Returns:
        (views + 1) rows an image, view 0 first, in the manifest's order.

    Raises:
        StoreError: A store lacks rows; names the command that extracts them.
    """
    blocks = []
    for one in stores:
        if store.FEATURES not in one.dims:
            raise StoreError(
                f"embeddings in {one.path.name}",
                "inner layers alone",
                f"Run: {_command(one, dataset, query)}",
            )
        rows = _rows(one, dataset, query)
        names = [store.FEATURES, *(tap for tap in taps if tap in one.taps)]
        blocks += [Block(one, name, rows, query.region) for name in names]
    for block in blocks:
        _refuse_gaps(block, dataset, query)
    keys = query.keys(dataset.ok["image_id"].to_numpy(), stores[0].header)
    recipe = query.recipe if query.views else None
    return Selection(tuple(blocks), _meta(dataset, keys), recipe)


def stored_views(stored: Store, recipe: Recipe | None) -> int:
    """The most augmented views of a recipe that a store has of any image."""
    of_recipe = stored.keys["policy"] == policy_number(stored.header, recipe)
    return int(stored.keys.loc[of_recipe, "view"].max()) if of_recipe.any() else 0


def _rows(stored: Store, dataset: Manifest, query: RenderingQuery) -> np.ndarray:
    """Rows of the images' views in a store, (N,)."""
    keys = query.keys(dataset.ok["image_id"].to_numpy(), stored.header)
    index = pd.MultiIndex.from_frame(stored.keys[store.KEY])
    rows = index.get_indexer(pd.MultiIndex.from_frame(keys[store.KEY]))
    if (rows < 0).any():
        missing, images = keys.loc[rows < 0, "image_id"].unique(), dataset.ok
        hint = f"Run: {_command(stored, dataset, query)}"
        hint += ", or use `views=0`." if query.views else ""
        if len(missing) < len(images):  # such as those whose features are not finite
            path = images.loc[images["image_id"] == missing[0], "path"].iloc[0]
            hint = f"{hint.rstrip('.')}. If it gives them none, leave them out: "
            hint += f"`exclude={f'path={path}'!r}`."
        raise StoreError(
            f"{query.views + 1} views of {len(images)} images in "
            f"{stored.path.name}{query.region.suffix}",
            f"none or fewer for {len(missing)} of them",
            hint,
        )
    return np.asarray(rows)


def _refuse_gaps(block: Block, dataset: Manifest, query: RenderingQuery) -> None:
    """A tap that was added later may lack rows; the embedding never does."""
    if block.matrix == store.FEATURES:
        return
    n_missing = int((~block.store.has(block.matrix)[block.rows]).sum())
    if n_missing:
        raise StoreError(
            f"tap {block.matrix} of every row in {block.store.path.name}",
            f"none for {n_missing} of {len(block.rows)}",
            f"Run: {_command(block.store, dataset, query, block.matrix)}",
        )


def _command(
    stored: Store, dataset: Manifest, query: RenderingQuery, *taps: str
) -> str:
    """The command that extracts what is missing."""
    header = stored.header
    contract, weights = header.contract, header.weights
    words = ["featcache", "extract", "--dataset", dataset.dataset]
    calls = read_extractions(dataset.folder)
    words += network_words(contract.backbone, weights, calls)
    words += [*store.network_options(contract, weights), "--views", str(query.views)]
    if query.views:
        words += store.recipe_options(query.recipe or {})
    else:
        words += store.seed_options(header.weights_key)
    words += store.tap_options(taps)
    return shlex.join([*words, *query.region.options])


def _meta(dataset: Manifest, keys: pd.DataFrame) -> pd.DataFrame:
    keys = keys[["image_id", "draw", "policy"]].rename(columns={"draw": "view"})
    columns = dataset.ok.drop(columns=["status", "reason"]).set_index("image_id")
    # A column of the source, such as the projection, may be called "view" too.
    columns = columns.rename(columns={c: f"given_{c}" for c in ("view", "policy")})
    return keys.join(columns, on="image_id")
