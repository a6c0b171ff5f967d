"""Features in a file that is mapped: as large as the disk, and not as the memory."""

import os
import secrets
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from featcache.core.io import owner_mark, remove_of_the_dead
from featcache.features.selection import Selection

Mapped = np.memmap[Any, Any]


def map_rows(selection: Selection, *, beside: Path | None = None) -> Mapped:
    """Reads a selection into a temporary file, and maps it read-only.

    The file is needed as often as rows are not in the manifest's order, or lie in
    several files: so it is made always. It goes with the last array that is mapped
    from it, at the latest when the process ends; of one that was killed, with the next
    call or with ``cache prune``. Meanwhile it has a name, by which other processes may
    map it as well, such as those of joblib.

    Args:
        selection: (N, D) rows.
        beside: A path in whose folder, and under whose name, the temporary file is; by
            default that of the store.

    Returns:
        (N, D) float32.

    Raises:
        StoreError: A store is damaged.
        OSError: There is too little space for 4 x N x D bytes.
    """
    target = beside or selection.blocks[0].store.path.with_suffix(".npy")
    remove_of_the_dead(target)
    mark = f"{owner_mark()}_{secrets.token_hex(4)}"
    path = target.with_name(f".{target.name}.{mark}.tmp")
    try:
        shape = len(selection.meta), sum(selection.dims)
        selection.read(open_mapped(path, shape))
        X: Mapped = np.load(path, mmap_mode="r")
        weakref.finalize(X, _remove, path, os.getpid())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return X


def map_images(selection: Selection, path: Path) -> Mapped:
    """Reads a selection into a new file, and maps it read-only; none of it in memory.

    Args:
        selection: N images, view 0 of each first.
        path: The file, which stays.

    Returns:
        (N, views + 1, D) float32.

    Raises:
        StoreError: A store is damaged.
        OSError: There is too little space.
    """
    views, width = selection.views + 1, sum(selection.dims)
    X = open_mapped(path, (len(selection.meta) // views, views, width))
    selection.read(X.reshape(-1, width))
    X.flush()
    mapped: Mapped = np.load(path, mmap_mode="r")
    return mapped


def _remove(path: Path, pid: int) -> None:
    if os.getpid() == pid:  # a fork has the array too, and not the file
        path.unlink(missing_ok=True)


def open_mapped(path: Path, shape: tuple[int, ...]) -> Mapped:
    """A new file of an array in float32, mapped to be written.

    Raises:
        OSError: There is too little space for it.
    """
    X = np.lib.format.open_memmap(path, "w+", np.float32, shape)
    if hasattr(os, "posix_fallocate"):  # a full disk would else kill who writes to it
        with path.open("r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(path)) from error
    return X
