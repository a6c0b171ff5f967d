"""Plans that nobody needs any more, for ``featcache cache prune``."""

import re
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from featcache.commands.extract.part_files import is_finished, read_record
from featcache.commands.extract.part_plan import (
    ID_DIGITS,
    PartPlan,
    read_plan,
)
from featcache.commands.extract.plan_changes import refuse_other_networks
from featcache.commands.extract.planned_images import images_digest
from featcache.commands.extract.publishing import remove
from featcache.core.text import counted
from featcache.dataset import manifest
from featcache.dataset.manifest import Manifest
from featcache.errors import ContractError, FeatcacheError, StoreError
from featcache.features import store
from featcache.features.copies import complete_rows
from featcache.features.plans import IdlePlan
from featcache.features.store import FEATURES, Header

# Whoever computes a part writes twice a second, on this machine or another: what was
# written within a day is in use. No lock says so, for parts take none.
IDLE_SECONDS = 24 * 3600
_PLAN = re.compile(rf"[0-9a-f]{{{ID_DIGITS}}}")
_LEFT = re.compile(r"\.(new|[0-9a-f]{12})\.[a-z0-9_]+\.(tmp|old)")


def _removable(folder: Path, reason: str) -> IdlePlan:
    return IdlePlan(folder, reason, partial(_remove, folder))


def _remove(folder: Path) -> None:
    if not _is_idle(folder):
        raise StoreError("a plan in nobody's use", "one that is used", "Wait.")
    remove(folder)


def _is_idle(folder: Path) -> bool:
    """Whether nothing of a plan was written within a day.

    A clock that is ahead of this one makes a plan look newer, and so it stays.
    """
    newest = 0.0
    for path in [folder, *folder.rglob("*")]:
        try:
            newest = max(newest, path.lstat().st_mtime)
        except OSError:
            return False  # somebody moves files just now
    return time.time() - newest > IDLE_SECONDS


def idle_plans(dataset_folder: Path) -> Iterator[IdlePlan]:
    """Finds the plans of a dataset that are done or outdated, and in nobody's use.

    That is: plans whose rows are all in the stores; those of images or networks that
    have changed, unless computed parts of them can still be published; and what
    processes that were killed have left of plans. A plan that waits for its parts is
    none of them, however old.

    Args:
        dataset_folder: ``cache/<dataset>``.

    Raises:
        DatasetError: There are plans but no manifest.
    """
    folders = [
        folder
        for folder in sorted((dataset_folder / "plans").glob("*"))
        if folder.is_dir() and not folder.is_symlink() and _is_idle(folder)
    ]
    for folder in folders:
        if _LEFT.fullmatch(folder.name):
            yield _removable(folder, "left by a process that has ended")
        elif _PLAN.fullmatch(folder.name):
            state = _state(folder, manifest.load(dataset_folder))
            if state:
                yield state


def _state(folder: Path, images: Manifest) -> IdlePlan | None:
    try:
        plan = read_plan(folder)
        unpublished = _unpublished(plan, images)
    except (OSError, ValueError, StoreError) as error:
        reason = error.got if isinstance(error, StoreError) else str(error)
        return IdlePlan(folder, f"cannot be read: {reason}", None)
    if not unpublished:
        return _removable(folder, "a plan whose rows are all in the stores")
    computed = [part for part in unpublished if is_finished(plan, part)]
    change, partly = _change(plan, images)
    if not change:
        return None
    if computed and (partly or len(computed) == len(unpublished)):
        parts = counted(len(computed), "part")
        command = f"featcache extract --dataset {images.dataset} --publish"
        reason = f"{change}, but {parts} can be published: {command} --plan {plan.name}"
        return IdlePlan(folder, reason, None)
    return _removable(folder, f"a plan that cannot be finished: {change}")


def _change(plan: PartPlan, images: Manifest) -> tuple[str, bool]:
    """What has changed since, and whether some parts alone can be published."""
    if images_digest(images) != plan.record.images_sha256:
        return "its images have changed", True
    try:
        refuse_other_networks(plan, images, plan.networks)
    except ContractError as error:
        return f"a network has changed ({error.got})", False
    except FeatcacheError:
        pass  # such as a file on a disk that is not there now
    return "", False


class _Published(NamedTuple):
    """The header of a store, and the keys of its rows that have all outputs."""

    header: Header
    keys: pd.MultiIndex


def _unpublished(plan: PartPlan, images: Manifest) -> list[int]:
    """Parts with rows that are not in the stores."""
    stores = []
    for network in plan.record.networks:
        path = images.folder / "features" / network.store
        if not path.exists():
            return list(range(len(plan.record.parts)))
        opened = store.open_store(path)
        complete = complete_rows(opened, [FEATURES, *network.taps])
        keys = pd.MultiIndex.from_frame(opened.keys.loc[complete, store.KEY])
        stores.append(_Published(opened.header, keys))
    parts = range(len(plan.record.parts))
    return [part for part in parts if not _is_published(plan, part, stores)]


def _is_published(plan: PartPlan, part: int, stores: Sequence[_Published]) -> bool:
    is_there = is_finished(plan, part)
    failures = list(read_record(plan.part_folder(part)).failures) if is_there else []
    rows, options = plan.rows(part), plan.record.options
    for number, published in enumerate(stores):
        due = rows.missing(number, published.header, options)
        due = due[~due["path"].isin(failures)]
        if not pd.MultiIndex.from_frame(due[store.KEY]).isin(published.keys).all():
            return False
    return True
