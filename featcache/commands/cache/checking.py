"""Checking: every checksum of stores and sealed parts, and mending what is broken."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from featcache.core.io import fsync_dir
from featcache.core.progress import SILENT, Reporter
from featcache.core.text import counted
from featcache.errors import StoreError, StoreUnavailableError
from featcache.features import store
from featcache.features.store import Store

_EXTRACT = "the next extract recomputes its rows"


@dataclass(frozen=True)
class Checked:
    """A store or a sealed part after its check.

    Attributes:
        path: The file.
        rows: Embeddings in it; 0 where it cannot be read.
        fault: What is wrong with it; empty if it is whole.
        hint: What to do.
        repaired: What was done.
        is_damaged: Whether the fault is of the content; otherwise the file could not
            be opened, and so not be checked.
    """

    path: Path
    rows: int
    fault: str = ""
    hint: str = ""
    repaired: str = ""
    is_damaged: bool = False

    @property
    def whole(self) -> bool:
        """Whether nothing is left to do."""
        return not self.fault or bool(self.repaired)


def verify(
    paths: Sequence[Path],
    *,
    repair: bool = False,
    reporter: Reporter = SILENT,
) -> list[Checked]:
    """Reads stores and their parts in full, and compares all checksums.

    Args:
        paths: The stores.
        repair: Remove a damaged sealed part, and one of another contract; move a
            damaged store or part file aside, never delete it, and keep the rows of
            the other part files. What cannot be opened stays as it is.
        reporter: Hears of each file checked, as "verify".

    Raises:
        LockedError: A store that has to be repaired is being written.
    """
    files = [(path, file) for path in paths for file in (path, *store.part_files(path))]
    checked = []
    for done, (path, file) in enumerate(files, start=1):
        one = _check(file, path)
        if one and one.is_damaged and repair:
            with store.writing(path):
                one = _check(file, path)
                one = _repair(one) if one and one.is_damaged else one
        checked += [one] if one else []
        reporter.progress("verify", done, len(files))
    return checked


def _check(path: Path, whole: Path) -> Checked | None:
    """Checks one file; None if it is not there, for parts go when published.

    Args:
        path: The file.
        whole: The store that it is, or is a part of.
    """
    while path.exists():
        before = path.stat()
        try:
            stored = store.open_store(path)
            rows = len(stored.keys)
            for name, filled in stored.filled.items():
                _count(stored, name, filled)
            store.check_parts(stored)
            if path != whole and whole.exists():
                _compare(stored, whole)
            return Checked(path, rows)
        except StoreUnavailableError as error:
            return Checked(path, 0, error.got, error.hint)
        except StoreError as error:
            # A writer may have replaced the file under our eyes: look again.
            if path.exists() and path.stat().st_mtime_ns == before.st_mtime_ns:
                hint = f"cache verify --repair {_how(path)}; {_EXTRACT}"
                return Checked(path, 0, error.got, hint, is_damaged=True)
    return None


def _compare(part: Store, whole: Path) -> None:
    """Refuses a part that cannot be merged into its store."""
    try:
        header = store.open_store(whole).header
    except StoreError:  # it is checked by itself
        return
    store.check_contract(part, header)


def _count(stored: Store, name: str, filled: int) -> None:
    have = sum(int((~np.isnan(b[:, 0])).sum()) for b in stored.slabs(name))
    if have != filled or stored.keys.duplicated(store.KEY).any():
        raise StoreError(
            f"unique keys, and {filled} rows of {name} in {stored.path}",
            f"{have} rows of {name}, or a repeated key",
            "Delete it and extract again.",
        )


def _is_part(path: Path) -> bool:
    return path.parent.suffix == ".parts"


def _how(path: Path) -> str:
    return "removes it" if _is_part(path) else "moves it aside"


def _repair(one: Checked) -> Checked:
    if _is_part(one.path):
        one.path.unlink()
        done = "removed"
    elif damaged := store.drop_damaged_parts(one.path):
        done = f"written anew without {', '.join(file.name for file in damaged)}"
    else:
        done = f"moved to {_aside(one.path).name}"
        if files := store.rebuild(one.path):
            done += f" and written anew from {counted(len(files), 'part file')}"
    fsync_dir(one.path.parent)
    return replace(one, repaired=done, hint=_EXTRACT)


def _aside(path: Path) -> Path:
    aside, number = path.with_name(f"{path.name}.damaged"), 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged{number}")
    return path.rename(aside)
