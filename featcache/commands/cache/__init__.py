"""``featcache cache``: list, check, thin out and export feature stores."""

from featcache.commands.cache.checking import Checked, verify
from featcache.commands.cache.compacting import Compacted, compact
from featcache.commands.cache.datasets import (
    DatasetEntry,
    RemovedDataset,
    RenamedDataset,
    ls_datasets,
    remove_dataset,
    rename_dataset,
)
from featcache.commands.cache.exporting import WRITERS, Exported, export
from featcache.commands.cache.leftovers import Removal
from featcache.commands.cache.listing import (
    DAMAGED,
    OK,
    UNAVAILABLE,
    WAITING,
    Coverage,
    Entry,
    Info,
    find,
    info,
    ls,
    store_paths,
)
from featcache.commands.cache.pruning import Pruned, prune

__all__ = [
    "DAMAGED",
    "OK",
    "UNAVAILABLE",
    "WAITING",
    "WRITERS",
    "Checked",
    "Compacted",
    "Coverage",
    "DatasetEntry",
    "Entry",
    "Exported",
    "Info",
    "Pruned",
    "Removal",
    "RemovedDataset",
    "RenamedDataset",
    "compact",
    "export",
    "find",
    "info",
    "ls",
    "ls_datasets",
    "prune",
    "remove_dataset",
    "rename_dataset",
    "store_paths",
    "verify",
]
