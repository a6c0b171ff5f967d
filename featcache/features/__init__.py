"""Features: stores joined with the manifest, ready for scikit-learn."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from featcache.dataset import manifest, splits
from featcache.dataset.manifest import Manifest
from featcache.dataset.own_split import PART, PARTS
from featcache.dataset.splits import Split, SplitOptions
from featcache.dataset.views import Policy
from featcache.errors import SplitError, UsageError
from featcache.features import store
from featcache.features.mapping import map_rows
from featcache.features.selection import Block, Selection
from featcache.features.sets import ALL, FeatureSet, find_sets, find_taps
from featcache.features.store import Store

__all__ = [
    "ALL",
    "Block",
    "FeatureSet",
    "Features",
    "Selection",
    "draw_split",
    "find_sets",
    "find_taps",
    "load",
    "select",
    "tap_names",
]


_LONGEST = 32  # bytes of a word in a split's name


class Features(NamedTuple):
    """One row an embedding; all four in the same order.

    Attributes:
        X: (N, D) float32 embeddings, then those of the taps asked for; with
            ``mmap`` mapped from a file, and read-only.
        y: (N,) labels.
        groups: (N,) groups.
        meta: N rows: image_id, view, policy, and the manifest's further columns.
    """

    X: np.ndarray
    y: np.ndarray
    groups: np.ndarray
    meta: pd.DataFrame

    @classmethod
    def of(cls, selection: Selection, *, mmap: bool = False) -> "Features":
        """Reads a selection.

        Args:
            selection: Whose rows.
            mmap: Map them from a file; see `map_rows`.
        """
        X, meta = map_rows(selection) if mmap else selection.read(), selection.meta
        return cls(X, meta["label"].to_numpy(), meta["group"].to_numpy(), meta)


def load(
    path: str | Path,
    *,
    views: int = 0,
    policy: Policy | None = None,
    taps: str | Sequence[str] = (),
    mmap: bool = False,
) -> Features:
    """Loads a store with labels and groups, in the manifest's order.

    Args:
        path: A store, ``cache/<dataset>/features/<name>.h5``.
        views: Augmented views to load beside the plain one (view 0) of each image.
        policy: Their recipe; by default the newest in the store.
        taps: Inner layers to append to the embedding: their names, or "all".
        mmap: Map ``X`` read-only from a temporary file beside the store, of 4 x N x D
            bytes, which goes with the array: it then takes no memory that the system
            could not use otherwise. The labels and ``meta`` are in memory as ever.

    Returns:
        ``X, y, groups, meta``; (views + 1) rows an image, view 0 first.

    Raises:
        StoreError: The store is damaged, or lacks rows that were asked for.
        OSError: There is too little space beside the store (``mmap``).
        DatasetError: Its dataset has no manifest.
    """
    return Features.of(select(path, views=views, policy=policy, taps=taps), mmap=mmap)


def select(
    path: str | Path,
    *,
    views: int = 0,
    policy: Policy | None = None,
    taps: str | Sequence[str] = (),
) -> Selection:
    """What `load` reads."""
    stored = store.open_store(Path(path))
    return FeatureSet((stored,)).select(
        manifest.load(stored.path.parent.parent),
        views=views,
        policy=policy,
        taps=tap_names(stored, taps),
    )


def tap_names(stored: Store, taps: str | Sequence[str]) -> list[str]:
    """Turns a user's words for taps into those of a store; see `find_taps`."""
    return find_taps([stored], taps)


def split_path(dataset: Manifest, options: SplitOptions) -> Path:
    """The file in which `draw_split` keeps the folds, before they are repeated."""
    return dataset.folder / f"splits-{_split_name(dataset, options)}.json"


def _split_name(dataset: Manifest, options: SplitOptions) -> str:
    test = f"test{options.test_size:g}"
    if dataset.own_test is not None:
        by = str(dataset.settings.split_by).replace("=", "-")
        test = f"test-by-{_slug(by, 'column')}"
        test += "-val-fold" if dataset.own_val else ""
    default = f"{_drawn_of(dataset)}-k{options.folds}-{test}-seed{options.seed}"
    return options.split or default


def draw_split(
    dataset: Manifest, options: SplitOptions = SplitOptions(), *, repeat: int = 0
) -> Split:
    """Reads or draws the split of a dataset's usable images.

    Args:
        dataset: Whose images, without those to leave out, and grouped.
        options: How it is drawn.
        repeat: 0, or which redrawing of its folds.

    Raises:
        SplitError: The folds cannot be made, or the split was drawn otherwise.
        UsageError: A test size, though the source's own test set is kept.
    """
    try:
        return _draw_split(dataset, options, repeat)
    except SplitError as error:
        raise _with_paths(error, dataset) from error


def _draw_split(dataset: Manifest, options: SplitOptions, repeat: int) -> Split:
    own_test, ok = dataset.own_test, dataset.ok
    columns = ok["image_id"].tolist(), ok["label"].tolist(), ok["group"].tolist()
    name, path = _split_name(dataset, options), split_path(dataset, options)
    excluded_groups = dataset.excluded_groups
    if own_test is not None:
        _refuse_test_size(dataset, options)
        by = str(dataset.settings.split_by)
        how = options.folds, options.test_size, options.seed
        empty = Split(name, *how, {}, split_by=by, own_val=dataset.own_val)
        val = ok.loc[ok[PART] == PARTS[1], "image_id"] if dataset.own_val else ()
        base = splits.load_or_keep(
            path,
            *columns,
            empty=empty,
            own_test=own_test,
            own_val=val,
            excluded_groups=excluded_groups,
        )
    else:
        base = splits.load_or_make(
            path,
            *columns,
            name=name,
            folds=options.folds,
            test_size=options.test_size,
            seed=options.seed,
            excluded_groups=excluded_groups,
        )
    if not repeat:
        return base
    name = f"{name}-r{repeat}"
    path = path.with_name(f"splits-{name}.json")
    return splits.load_or_redraw(
        path, base, *columns, name=name, repeat=repeat, excluded_groups=excluded_groups
    )


def _with_paths(error: SplitError, dataset: Manifest) -> SplitError:
    """The same error; an image id, as which near-duplicates are grouped, has its path.

    A group is called as its first image, whatever that is named.
    """
    paths = dataset.table.set_index("image_id")["path"].to_dict()

    def name(match: re.Match[str]) -> str:
        path = paths.get(match[1])
        return f"the group of {path}" if path else match[0]

    texts = [re.sub(r"'?\b([0-9a-f]{64})\b'?", name, text) for text in error.args]
    return SplitError(*texts)


def _refuse_test_size(dataset: Manifest, options: SplitOptions) -> None:
    if options.test_size != SplitOptions().test_size:
        raise UsageError(
            f"no `test_size` for {dataset.dataset}, whose source brings its test set",
            f"`test_size={options.test_size:g}`",
            "Leave it out, or have one drawn with `split_by='none'`.",
        )


def _drawn_of(dataset: Manifest) -> str:
    """How the images are grouped and which are left out, in a file name's letters."""
    words = [_slug(dataset.settings.group_by, "regex")]
    if dataset.exclude:
        words.append(_slug("without-" + "-".join(dataset.exclude), "without"))
    return "-".join(words)


def _slug(text: str, kind: str) -> str:
    plain = all(c.isalnum() or c in "-_" for c in text) and text[0] != "-"
    if plain and len(text.encode()) <= _LONGEST:
        return text
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
