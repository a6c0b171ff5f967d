"""Pruning: what nobody needs any more; shown first, removed only when told to."""

import contextlib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from featcache.backbones.engines.base import network_name
from featcache.commands.cache.listing import gone, owner, size, store_paths
from featcache.commands.cache.removals import PlanFinder, Pruned, Removal, Step
from featcache.core.io import lock
from featcache.core.text import counted
from featcache.dataset import manifest, sources
from featcache.dataset.manifest import Manifest
from featcache.errors import DatasetError, LockedError, StoreError
from featcache.evaluation import runs
from featcache.features import store
from featcache.features.contract import Contract
from featcache.features.keys import Recipe, plain_recipe, rows_by_region
from featcache.features.store import Store

# What no lock guards may belong to a machine whose processes are not seen here.
OLD_SECONDS = 24 * 3600
# The names that featcache makes; all others are somebody else's.
_TEMPORARY = r"\.{}\.[a-z0-9_]+\.tmp"
_STORE = r".+-(imagenet|random|file|none)-[0-9a-f]{8}"
_OF_DATASET = (
    r"(manifest\.csv|dataset\.json|thumbs\.npz|splits-.+\.json|extract-.+\.json)",
    r"(\.manifest|\.embedder|splits-.+\.json)\.lock",
)
_OF_FEATURES = (rf"{_STORE}\.h5", rf"{_STORE}\.lock")
_NETWORK = r".+-[0-9a-f]{8}-[0-9a-f]{16}"
_OF_NETWORKS = (
    rf"({_NETWORK}\.(xml|bin|json)|(weights|canary)-[0-9a-f]{{16}}\.json)",
    rf"{_NETWORK}\.lock",
)
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
        steps += _left_behind(folder, _OF_DATASET)
        steps += _plans(folder, plans, excluded)
        if not (folder / "features").is_symlink():
            steps += _left_behind(folder / "features", _OF_FEATURES)
    if not dataset and not (cache / "openvino").is_symlink():
        steps += _left_behind(cache / "openvino", _OF_NETWORKS)
        steps += _networks(cache)
    if not yes:
        return Pruned([removal for removal, _ in steps], excluded, False)
    removals = []
    for removal, act in steps:
        try:
            act()
            removals.append(replace(removal, after=size(removal.path)))
        except (StoreError, LockedError) as error:
            excluded.append(f"{removal.path}: {error.got}")
    return Pruned(removals, excluded, True)


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
    yield from _parts(path, images)
    if path.exists():
        used = _used(reports / images.dataset, path) if reports else None
        yield from _rows(path, images, used)


def _plans(folder: Path, find: PlanFinder, excluded: list[str]) -> Iterator[Step]:
    try:
        for plan in () if (folder / "plans").is_symlink() else find(folder):
            if plan.is_stale:
                removal = Removal("plan", plan.folder, plan.reason, size(plan.folder))
                yield removal, plan.remove
            else:
                excluded.append(f"{plan.folder}: {plan.reason}")
    except DatasetError as error:
        excluded.append(f"{folder / 'plans'}: {error.got}")


def _used(reports: Path, path: Path) -> Recipes:
    """The policies of the rows of a store that runs were trained on."""
    good, broken = runs.list_runs(reports)
    if broken:
        raise broken[0]
    mine = store.open_store(path).header.contract_id
    using = [run for run in good if mine in run.contracts]
    plain = [plain_recipe(b.image_region) for run in using for b in run.record.features]
    return [*(run.record.policy for run in using), *plain]


def _rows(path: Path, images: Manifest, used: Recipes | None) -> Iterator[Step]:
    stored = store.open_store(path)
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
    before, stays = (
        size(path) + size(store.data_folder(path)),
        1 - (lost | idle | old).mean(),
    )
    removal = Removal("rows", path, "; ".join(reasons), before, int(before * stays))
    if not stays:
        removal = replace(removal, kind="store", what=f"all: {removal.what}")
    yield (
        removal,
        partial(
            _thin,
            path,
            lambda s: gone(s, images) | _idle(s, used) | _outdated(s, images),
        ),
    )


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
    """Rewrites a store without some of its rows; without any, deletes it."""
    with store.writing(path):
        stored = store.open_store(path)
        stored.verify()  # what has rotted must not get a fresh checksum
        drop = doomed(stored)
        if drop.all():
            store.remove(path)
        elif drop.any():
            marked = _marked(stored, drop)
            store.merge(path, marked.header, [marked], keep=_is_named)
            store.remove_unused(path, store.open_store(path))


def _is_named(keys: pd.DataFrame) -> np.ndarray:
    return (keys["image_id"] != "").to_numpy()


def _marked(stored: Store, drop: np.ndarray) -> Store:
    """The store with rows to drop under an empty id, and without empty policies."""
    policy = stored.keys["policy"]
    kept = sorted({*policy[~drop]} - {store.NO_POLICY})
    number = {old: new for new, old in enumerate(kept)}
    keys = stored.keys.assign(
        image_id=stored.keys["image_id"].where(~drop, ""),
        policy=[number.get(p, store.NO_POLICY) for p in policy],
    )
    policies = [stored.header.policies[i] for i in kept]
    return replace(stored, header=replace(stored.header, policies=policies), keys=keys)


def _parts(path: Path, images: Manifest) -> Iterator[Step]:
    """Parts of images that left the manifest, and files that a dead writer left."""
    folder, kept = store.parts_folder(path), store.part_files(path)
    strays = _named(folder, _TEMPORARY.format(r"[0-9]{6,}\.h5"))
    if kept and all(gone(store.open_store(p), images).all() for p in kept):
        what = f"{len(kept)} sealed parts whose images are all gone from the manifest"
        removal = Removal("parts", folder, what, sum(map(size, [*kept, *strays])))
        yield removal, partial(_drop, path)
        return
    beside = _named(path.parent, _TEMPORARY.format(re.escape(path.name)))
    if path.exists():
        beside += store.unused_files(path, store.open_store(path))
    for stray in [*strays, *beside]:
        what = "left by a process that has ended"
        removal = Removal("temporary", stray, what, size(stray))
        yield removal, partial(_unlink, path, stray)


def _drop(path: Path) -> None:
    with store.writing(path):
        folder = store.parts_folder(path)
        strays = _named(folder, _TEMPORARY.format(r"[0-9]{6,}\.h5"))
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
    has_stores = any(_named(folder / "features", rf"{_STORE}\.(h5|parts|data)"))
    return not folder.is_symlink() and (is_marked or has_stores)


def _named(folder: Path, pattern: str) -> list[Path]:
    """What lies in a folder itself under names that match entirely."""
    name = re.compile(pattern)
    return sorted(
        path
        for path in folder.glob("*")
        if name.fullmatch(path.name) and not path.is_symlink()
    )


def _left_behind(folder: Path, patterns: tuple[str, str]) -> Iterator[Step]:
    """Temporary files that are a day old, and locks that nobody holds.

    Args:
        folder: Where they lie.
        patterns: Of the names that are ours: of files, and of locks.
    """
    files, locks = patterns
    for path in _named(folder, _TEMPORARY.format(files)):
        if _is_old(path):
            removal = Removal("temporary", path, "older than a day", size(path))
            yield removal, partial(_sweep, path)
    for path in _named(folder, locks):
        if path.is_file() and not owner(path):
            removal = Removal("lock", path, "its owner has died", size(path))
            yield removal, partial(_unlock, path)


def _sweep(path: Path) -> None:
    if path.is_dir():  # a conversion writes several files at once
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _is_old(path: Path) -> bool:
    return time.time() - path.stat().st_mtime > OLD_SECONDS


def _unlock(path: Path) -> None:
    with lock(path, path.name):
        pass  # leaving the block removes the file


def _networks(cache: Path) -> Iterator[Step]:
    """Converted networks and digests of weights, a day old, that no store is of.

    Where a store cannot be read, and so not what it is of, all of them stay.
    """
    try:
        contracts = [one for path in store_paths(cache) for one in _contract(path)]
    except StoreError:
        return
    used = {network_name(contract) for contract in contracts}
    for stem, files in _converted(cache / "openvino").items():
        if _is_old(files[0]) and stem.rpartition("-")[0] not in used:
            total = sum(map(size, files))
            removal = Removal("network", files[0], "no store uses it", total)
            yield removal, partial(_forget, files)
    digests = {contract.weights_digest for contract in contracts}
    digests |= {contract.architecture for contract in contracts}
    for path in _memos(cache / "openvino"):
        if _is_old(path) and _what_it_is_of(path) not in digests:
            removal = Removal("digest", path, "no store uses these weights", size(path))
            yield removal, partial(_sweep, path)


def _contract(path: Path) -> list[Contract]:
    """The contract of a store, or of its parts where nothing is published yet."""
    files = [path] if path.exists() else sorted(store.parts_folder(path).glob("*.h5"))
    return [store.open_store(file).header.contract for file in files[:1]]


def _converted(folder: Path) -> dict[str, list[Path]]:
    """The files of each converted network; first the .xml."""
    files = [
        p for e in ("xml", "bin", "json") for p in _named(folder, f"{_NETWORK}.{e}")
    ]
    memos = {path.stem for path in _memos(folder)}
    stems = sorted({path.stem for path in files} - memos)
    return {stem: [p for p in files if p.stem == stem] for stem in stems}


def _memos(folder: Path) -> list[Path]:
    """What extractions wrote down of weights and canaries, to do it but once."""
    return _named(folder, r"(weights|canary)-[0-9a-f]{16}\.json")


def _what_it_is_of(path: Path) -> str:
    """The digest of the weights, or the architecture that a canary is of."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if path.name.startswith("canary"):
            return str(record["contract"]["architecture"])
        return str(record["weights_digest"])
    except (ValueError, KeyError, TypeError):
        return "no digest at all"


def _forget(files: list[Path]) -> None:
    # The .xml goes first: without it the others are nothing.
    with lock(files[0].with_suffix(".lock"), files[0].name):
        for file in files:
            file.unlink(missing_ok=True)
