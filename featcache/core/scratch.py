"""Temporary folders that do not outlive their process, even if it is killed."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from featcache.core.io import is_left_behind, lock, owner_mark
from featcache.errors import LockedError

PREFIX, LOCK = "featcache-", "owner.lock"


@contextmanager
def scratch_folder(home: Path | None = None) -> Iterator[Path]:
    """Yields a folder that is removed after the block.

    If the process is killed, the next call removes it. In ``$TMPDIR`` the owner is
    known by the lock inside, which is the kernel's and dies with the process. Locks of
    a shared folder may not reach other machines: there each machine removes its own.

    Args:
        home: The folder that it is made in, which is not listed; by default
            ``$TMPDIR``.
    """
    if home is None:
        sweep()
        prefix = PREFIX
    else:
        prefix = f".{PREFIX}"
        home.mkdir(parents=True, exist_ok=True)
        for stray in home.glob(f"{prefix}*"):
            if is_left_behind(stray.name, prefix):
                shutil.rmtree(stray, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{prefix}{owner_mark()}_", dir=home))
    with lock(folder / LOCK, f"{folder}", timeout=10):
        try:
            yield folder
        finally:
            _remove(folder)


def _remove(folder: Path) -> None:
    """A worker that was given up may still be writing there for a moment."""
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)


def sweep() -> None:
    """Removes the user's scratch folders whose owner has died."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if is_left_behind(folder.name, PREFIX):
            with suppress(OSError):
                folder.rmdir()  # of one that died before it had a lock: it is empty
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{LOCK}"):
        with suppress(OSError, LockedError):
            owner = path.parent.lstat()  # of a link, never of where it leads
            if path.parent.is_symlink() or owner.st_uid != os.getuid():
                continue
            with lock(path, f"{path.parent}"):
                shutil.rmtree(path.parent, ignore_errors=True)
