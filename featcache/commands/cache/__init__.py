"""``featcache cache``: list, check, thin out and export feature stores."""

from featcache.commands.cache.checking import Checked, verify
from featcache.commands.cache.exporting import WRITERS, Exported, export
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
from featcache.commands.cache.pruning import Pruned, Removal, prune

__all__ = [
    "DAMAGED",
    "OK",
    "UNAVAILABLE",
    "WAITING",
    "WRITERS",
    "Checked",
    "Coverage",
    "Entry",
    "Exported",
    "Info",
    "Pruned",
    "Removal",
    "export",
    "find",
    "info",
    "ls",
    "prune",
    "store_paths",
    "verify",
]
