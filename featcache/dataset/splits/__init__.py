"""Splits: a test set and folds, seeded, stratified, by group, for good.

A group never stands in two parts. A split is written once and used by every head;
images that come later fill in and move nobody. A repeat of a split has its test set
and other folds.
"""

from featcache.dataset.splits.assign import assign_folds
from featcache.dataset.splits.base import TEST, Split
from featcache.dataset.splits.checks import assert_disjoint, check
from featcache.dataset.splits.files import (
    load_or_keep,
    load_or_make,
    load_or_redraw,
    read_folds,
)
from featcache.dataset.splits.options import SplitOptions

__all__ = [
    "TEST",
    "Split",
    "SplitOptions",
    "assert_disjoint",
    "assign_folds",
    "check",
    "load_or_keep",
    "load_or_make",
    "load_or_redraw",
    "read_folds",
]
