"""Compacting: the part files of a store become one file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from featcache.core.progress import SILENT, Reporter
from featcache.features import store


@dataclass(frozen=True)
class Compacted:
    """A store that is one file now.

    Attributes:
        path: The file.
        rows: Embeddings.
        files: Files that held the rows before; 1 where nothing was to be done.
        bytes: Size of the file.
    """

    path: Path
    rows: int
    files: int
    bytes: int


def compact(paths: Sequence[Path], *, reporter: Reporter = SILENT) -> list[Compacted]:
    """Merges the part files of stores; rows, ids and runs stay as they are.

    Each store is written beside itself and then replaced.

    Args:
        paths: The stores.
        reporter: Hears of each store, as "compact".

    Raises:
        StoreError: No room for the new file, or a store is damaged.
        LockedError: A store is being written.
    """
    compacted = []
    for done, path in enumerate(paths, start=1):
        with store.writing(path):
            files = store.open_store(path).n_files
            rows = len(store.compact(path).keys)
        compacted.append(Compacted(path, rows, files, path.stat().st_size))
        reporter.progress("compact", done, len(paths))
    return compacted
