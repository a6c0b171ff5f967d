"""Finished parts of a plan: a folder each, which appears whole or not at all."""

import errno
import os
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from featcache.commands.extract.part_plan import PLAN, PartPlan
from featcache.core import checked, records
from featcache.core.io import fsync_dir, owner_mark
from featcache.errors import StoreError
from featcache.features import store
from featcache.features.store import Store

RECORD = "part.json"
SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class PartRecord:
    """What ``part.json`` holds, but for its digest.

    Attributes:
        schema: Of this record.
        plan_id: Of the plan.
        part: Its number.
        created: ISO 8601.
        host: That computed it.
        seconds: Spent in computing, by store.
        failures: From path to reason: images that could not be read.
        files: SHA-256 of each file of the folder, by name.
    """

    schema: int = SCHEMA
    plan_id: str
    part: int
    created: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%S%z"))
    host: str = field(default_factory=socket.gethostname)
    seconds: dict[str, float]
    failures: dict[str, str]
    files: dict[str, str]


@dataclass(frozen=True)
class Part:
    """A part that was checked.

    Attributes:
        record: What it says.
        stores: Its rows, a network each; None where none could be computed.
    """

    record: PartRecord
    stores: list[Store | None]


def read_part(plan: PartPlan, number: int, folder: Path | None = None) -> Part:
    """Reads a finished part, and checks it against its plan.

    Args:
        plan: The plan.
        number: Of the part.
        folder: Where it is, if that is not its place yet.

    Raises:
        FileNotFoundError: It is not there.
        StoreError: It is of another plan, cut short, or has other rows.
        ValueError: Likewise.
    """
    folder = folder or plan.part_folder(number)
    record = read_record(folder)
    if (record.schema, record.plan_id) != (SCHEMA, plan.record.plan_id):
        raise ValueError(f"a part of plan {record.plan_id[:12]}")
    if record.part != number:
        raise ValueError(f"part {record.part}")
    rows = plan.rows(number)
    stores = []
    for index, reference in enumerate(plan.references):
        planned = rows.missing(index, reference.header, plan.record.options)
        due = planned[~planned["path"].isin(list(record.failures))]
        path = folder / reference.path.name
        stores.append(_store(path, record, reference, due) if len(due) else None)
    return Part(record, stores)


def read_record(folder: Path) -> PartRecord:
    """Reads what a finished part in a folder says of itself.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is not as it was written.
    """
    value = checked.read_record(folder / RECORD)
    return records.from_json(PartRecord, value, RECORD)


def _store(
    path: Path, record: PartRecord, reference: Store, due: pd.DataFrame
) -> Store:
    checked.refuse_changed_file(path, record.files)
    opened = store.open_store(path)
    store.check_contract(opened, reference.header)
    if opened.header.policies != reference.header.policies:
        raise ValueError("other policies than the plan")
    mine = opened.keys[store.KEY].reset_index(drop=True)
    if not mine.astype(str).equals(due[store.KEY].reset_index(drop=True).astype(str)):
        raise ValueError("other rows than the plan")
    return opened


def is_finished(plan: PartPlan, number: int) -> bool:
    """Whether a valid part is there."""
    try:
        read_part(plan, number)
    except (OSError, ValueError, StoreError):
        return False
    return True


def install(plan: PartPlan, number: int, temp: Path) -> bool:
    """Makes a folder a part, unless there is a valid one: the first one counts.

    Returns:
        Whether it was this one.

    Raises:
        OSError: It cannot be written, or the plan is gone.
    """
    target = plan.part_folder(number)
    (plan.folder / PLAN).stat()  # which is gone once the plan was published
    temp.chmod(0o755)
    fsync_dir(temp)
    if not _moved(temp, target):
        if is_finished(plan, number):
            return False
        os.replace(target, target.with_name(f".{target.name}.{owner_mark()}_bad.old"))
        if not _moved(temp, target):
            return False
    fsync_dir(target.parent)
    return True


def _moved(temp: Path, target: Path) -> bool:
    """Renames a folder, but never over another with files in it, a file or a link."""
    try:
        os.rename(temp, target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            return False
        raise
    return True
