"""Pruning: what nobody needs any more; shown first, removed only when told to."""

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from featcache.commands.cache.leftovers import (
    OF_DATASET,
    OF_FEATURES,
    OF_NETWORKS,
    STORE,
    TEMPORARY,
    left_behind,
    named,
    networks,
)
from featcache.commands.cache.listing import gone, owner, size, store_paths
from featcache.commands.cache.removals import Pruned, Removal, Step
from featcache.core.text import counted
from featcache.dataset import manifest, sources
from featcache.dataset.manifest import Manifest
from featcache.errors import DatasetError, LockedError, StoreError
from featcache.evaluation import runs
from featcache.features import store
from featcache.features.keys import Recipe, plain_recipe, rows_by_region
from featcache.features.plans import PlanFinder
from featcache.features.store import Store

Recipes = list[Recipe | None]
Doomed = Callable[[Store], np.ndarray]


def prune(
    cache: Path,
    reports: Path,
    *,
    dataset: str | None = None,
    policies: bool = False,
    yes: bool = False,
    plans: PlanFinder = lambda folder: (),
) -> Pruned:
    """Finds what nobody needs, and removes it if told to.

    That is: rows of images that are no longer in the manifest; sealed parts of such
    images alone; temporary files and locks of dead processes; converted networks and
    digests of weights that no store is of. A store is rewritten beside itself and then
    replaced, so that an interruption leaves it whole.

    Args:
        cache: The cache folder.
        reports: The folder of runs.
        dataset: Only this dataset; by default all, and the converted networks.
        policies: Also rows of policies that no run uses.
        yes: Remove; otherwise only tell.
        plans: Finds the plans of a dataset's folder that nobody needs; by default none.

    Raises:
        RunError: A run cannot be read, and so not what it uses (``policies``).
    """
    steps: list[Step] = []
    excluded = []
    for path in store_paths(cache, dataset):
        try:
            steps += _of_store(path, reports if policies else None)
        except (StoreError, DatasetError) as error:
            excluded.append(f"{path}: {error.got}")
    folders = [manifest.find(cache, dataset)] if dataset else sorted(cache.glob("*/"))
    for folder in filter(is_dataset, folders):
        steps += left_behind(folder, OF_DATASET)
        steps += _plans(folder, plans, excluded)
        if not (folder / "features").is_symlink():
            steps += left_behind(folder / "features", OF_FEATURES)
    if not dataset and not (cache / "openvino").is_symlink():
        steps += left_behind(cache / "openvino", OF_NETWORKS)
        steps += networks(cache)
    if not yes:
        return Pruned([removal for removal, _ in steps], excluded, False)
    removals = []
    for removal, act in steps:
        try:
            act()
            removals.append(replace(removal, after=_size(removal)))
        except (StoreError, LockedError) as error:
            excluded.append(f"{removal.path}: {error.got}")
    return Pruned(removals, excluded, True)


def _size(removal: Removal) -> int:
    """Bytes of what there is now; of a store, with its part files."""
    of_store = removal.kind in ("rows", "store")
    beside = size(store.data_folder(removal.path)) if of_store else 0
    return size(removal.path) + beside


def _of_store(path: Path, reports: Path | None) -> Iterator[Step]:
    """What can go of a store, its parts and its temporary files.

    Raises:
        StoreError: It is being written, damaged, or behind a symbolic link.
        DatasetError: It has no manifest.
    """
    folders = [path, store.parts_folder(path), store.data_folder(path)]
    folders += [path.parent, path.parent.parent]
    if links := [one for one in folders if one.is_symlink()]:
        raise StoreError("no symbolic links", f"behind the link {links[0]}", "Wait.")
    if holder := owner(path.with_suffix(".lock")):
        raise StoreError(
            "a store that no other process is writing",
            f"written by {holder}",
            "Wait until it has finished.",
        )
    images = manifest.load(path.parent.parent)
    stored = store.open_store(path) if path.exists() else None
    yield from _parts(path, images, stored)
    if stored:
        used = _used(reports / images.dataset, stored) if reports else None
        yield from _rows(stored, images, used)


def _plans(folder: Path, find: PlanFinder, excluded: list[str]) -> Iterator[Step]:
    try:
        for plan in () if (folder / "plans").is_symlink() else find(folder):
            if plan.remove:
                removal = Removal("plan", plan.folder, plan.reason, size(plan.folder))
                yield removal, plan.remove
            else:
                excluded.append(f"{plan.folder}: {plan.reason}")
    except DatasetError as error:
        excluded.append(f"{folder / 'plans'}: {error.got}")


def _used(reports: Path, stored: Store) -> Recipes:
    """The policies of the rows of a store that runs were trained on."""
    good, broken = runs.list_runs(reports)
    if broken:
        raise broken[0]
    using = [run for run in good if stored.header.contract_id in run.contracts]
    plain = [plain_recipe(b.image_region) for run in using for b in run.record.features]
    return [*(run.record.policy for run in using), *plain]


def _rows(stored: Store, images: Manifest, used: Recipes | None) -> Iterator[Step]:
    lost, old = gone(stored, images), _outdated(stored, images)
    idle = _idle(stored, used)
    reasons = []
    if lost.any():
        n = counted(stored.keys.loc[lost, "image_id"].nunique(), "image")
        reasons.append(f"{counted(lost.sum(), 'row')} of {n} no longer in the manifest")
    if old.any():
        rows = counted(old.sum(), "row")
        reasons.append(f"{rows} made with masks that have since changed")
    if (idle & ~lost).any():
        rows = counted((idle & ~lost).sum(), "row")
        reasons.append(f"{rows} of policies that no run uses")
    if not reasons:
        return
    path, stays = stored.path, 1 - (lost | idle | old).mean()
    before = size(path) + size(store.data_folder(path))
    removal = Removal("rows", path, "; ".join(reasons), before, int(before * stays))
    if not stays:
        removal = replace(removal, kind="store", what=f"all: {removal.what}")
    yield removal, partial(_thin, path, lambda now: _doomed(now, images, used))


def _doomed(stored: Store, images: Manifest, used: Recipes | None) -> np.ndarray:
    """Which rows nobody needs, (N,) bool."""
    lost, idle, old = (
        gone(stored, images),
        _idle(stored, used),
        _outdated(stored, images),
    )
    return np.asarray(lost | idle | old)


def _outdated(stored: Store, images: Manifest) -> np.ndarray:
    """Which rows show a region by another mask than the image has now, (N,) bool."""
    keys, old = stored.keys, np.zeros(len(stored.keys), bool)
    for region, rows in rows_by_region(keys, stored.header).items():
        if rows.any() and region.needs_mask:
            with contextlib.suppress(DatasetError):  # no masks now: nothing to say
                now = keys["image_id"].map(sources.find_masks(images, region).ids)
                old |= rows & (now.notna() & (now != keys["mask_id"])).to_numpy()
    return old


def _idle(stored: Store, used: Recipes | None) -> np.ndarray:
    """Which rows are views of a policy that no run uses, (N,) bool."""
    recipes = stored.header.policies
    idle = [i for i, r in enumerate(recipes) if used is not None and r not in used]
    return stored.keys["policy"].isin(idle).to_numpy()


def _thin(path: Path, doomed: Doomed) -> None:
    """Removes some rows of a store; if these are all, deletes it."""
    with store.writing(path):
        stored = store.open_store(path)
        drop = doomed(stored)
        if drop.all():
            store.remove(path)
        elif drop.any():
            store.drop_rows(path, drop)


def _parts(path: Path, images: Manifest, stored: Store | None) -> Iterator[Step]:
    """Parts of images that left the manifest, and files that a dead writer left."""
    folder, kept = store.parts_folder(path), store.part_files(path)
    strays = named(folder, TEMPORARY.format(r"[0-9]{6,}\.h5"))
    if kept and all(gone(store.open_store(p), images).all() for p in kept):
        what = f"{len(kept)} sealed parts whose images are all gone from the manifest"
        removal = Removal("parts", folder, what, sum(map(size, [*kept, *strays])))
        yield removal, partial(_drop, path)
        return
    beside = named(path.parent, TEMPORARY.format(re.escape(path.name)))
    if stored:
        beside += store.unused_files(path, stored)
    for stray in [*strays, *beside]:
        what = "left by a process that has ended"
        removal = Removal("temporary", stray, what, size(stray))
        yield removal, partial(_unlink, path, stray)


def _drop(path: Path) -> None:
    with store.writing(path):
        folder = store.parts_folder(path)
        strays = named(folder, TEMPORARY.format(r"[0-9]{6,}\.h5"))
        for file in [*store.part_files(path), *strays]:
            file.unlink()
        with contextlib.suppress(OSError):  # what is not ours stays
            folder.rmdir()


def _unlink(path: Path, stray: Path) -> None:
    with store.writing(path):
        stray.unlink(missing_ok=True)


def is_dataset(folder: Path) -> bool:
    """Whether a folder of the cache is a dataset, and lies there itself."""
    marks = ("manifest.csv", "dataset.json")
    is_marked = any((folder / mark).is_file() for mark in marks)
    has_stores = any(named(folder / "features", rf"{STORE}\.(h5|parts|data)"))
    return not folder.is_symlink() and (is_marked or has_stores)
