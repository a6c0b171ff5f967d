"""Guards of a split: no group in two parts, every class in every part."""

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from featcache.dataset.splits.base import (
    TEST,
    as_texts,
    images_table,
    part_name,
    part_shares,
)
from featcache.errors import SplitError

REDRAW = "Draw a new split: another `split` name or `seed`."


def check(
    fold_of: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    *,
    folds: int,
    test_size: float,
    whole_test: bool = True,
) -> None:
    """Guards against leaks: one part a group, and every class in every part.

    Args:
        fold_of: Fold of each image, or `TEST`, (N,).
        labels: Class of each image, (N,).
        groups: Group of each image, (N,).
        folds: Cross-validation parts.
        test_size: Share of the test set; 0 for none.
        whole_test: Whether the test set must have every class.

    Raises:
        SplitError: A group is in two parts, or a part lacks a class.
    """
    shares = part_shares(folds, test_size)
    parts = np.asarray(fold_of, np.int64)
    table = images_table(range(len(parts)), labels, groups).assign(part=parts)
    _refuse_leaks(table)
    filled = set(zip(table["part"].tolist(), table["label"], strict=True))
    expected = set(itertools.product(shares, set(table["label"])))
    if not whole_test:
        expected = {pair for pair in expected if pair[0] != TEST or pair in filled}
    for part, label in sorted(filled ^ expected):
        raise SplitError(
            f"every class in {_listed_parts(folds, test_size)}, and no other part",
            f"class {label!r} {'not ' * (part in shares)}in {part_name(part)}",
            f"Use fewer `folds` or `test_size=0`. {REDRAW}",
        )


def assert_disjoint(train_groups: ArrayLike, other_groups: ArrayLike) -> None:
    """Refuses a group that is both trained on and predicted.

    Raises:
        SplitError: A group is in both.
    """
    shared = sorted(set(as_texts(train_groups)) & set(as_texts(other_groups)))
    if shared:
        raise SplitError(
            "no group both trained on and predicted",
            f"{len(shared)} that are, such as {shared[0]!r}",
            "Select rows by a split of featcache, which keeps groups together.",
        )


def refuse_rare(table: pd.DataFrame, folds: int, test_size: float) -> None:
    """Refuses classes with fewer groups than parts.

    Raises:
        SplitError: Names the rarest class and a setting that works.
    """
    counts = table.groupby("label")["group"].nunique()
    if len(counts) < 2:
        raise SplitError(
            "at least two classes",
            f"{len(counts)}: {', '.join(counts.index)}",
            "Give every class a folder of its own, or check the label column.",
        )
    few, test = counts.min(), int(test_size > 0)
    if few >= folds + test:
        return
    hint = "No `folds` can work: leave the class out, or add images of it."
    if (table["label"] == counts.idxmin()).sum() > few:
        hint = (
            "No `folds` can work: its images are in too few groups; group by something "
            "finer, such as the study (or `group_by='image'`)."
        )
    if few >= 2:
        hint = f"Use `folds={few}` and `test_size=0` at most."
    if few - test >= 2:
        hint = f"Use `folds={few - test}` at most."
    raise SplitError(
        f"{folds + test} groups of every class, one for "
        f"{_listed_parts(folds, test_size)}",
        f"{few} of class {counts.idxmin()!r}",
        hint,
    )


def check_own_test(
    labels: Sequence[str], tested: Sequence[bool], *, whole: bool = True
) -> None:
    """Guards a source's own test set: the classes of training, and no other.

    Args:
        labels: Class of each image, (N,).
        tested: Whether each image is in the test set, (N,).
        whole: Whether the test set must have every class.

    Raises:
        SplitError: One of both sides lacks a class.
    """
    sides = list(zip(labels, tested, strict=True))
    for label, is_tested in itertools.product(sorted({*labels}), (True, False)):
        if (label, is_tested) in sides or (is_tested and not whole):
            continue
        ways = "`test_where='split=test'` allows that; " if is_tested else ""
        raise SplitError(
            "every class in the test set of the source and in its other parts"
            if whole
            else "every class outside the test set, to be trained on",
            f"class {label!r} not in {'the test set' if is_tested else 'the rest'}",
            f"{ways}`exclude='label={label}'` leaves the class out; "
            "`split_by='none'` draws a test set.",
        )


def check_own_val(labels: Sequence[str], in_val: Sequence[bool], folds: int) -> None:
    """Guards the validation part that is to be a fold: it has every class.

    Raises:
        SplitError: It lacks one, or there are too few folds.
    """
    if folds < 3:
        expected = "`folds` of 3 or more, for `val_part='fold'`"
        raise SplitError(expected, str(folds), "Use `folds=5`.")
    present = {label for label, is_val in zip(labels, in_val, strict=True) if is_val}
    if absent := sorted({*labels} - present):
        raise SplitError(
            "every class in the source's val, for `val_part='fold'`",
            f"class {absent[0]!r} not in it",
            "Use `val_part='join'`, which divides its images among the folds.",
        )


def _refuse_leaks(table: pd.DataFrame) -> None:
    pairs = table.drop_duplicates(["group", "part"])
    leaks = pairs[pairs["group"].duplicated(keep=False)].groupby("group")["part"]
    for group, parts in leaks:
        raise SplitError(
            "every group in one part",
            f"{leaks.ngroups} in several, such as {group!r} in "
            + " and ".join(map(part_name, sorted(parts))),
            f"The grouping has changed since the split was made. {REDRAW}",
        )


def _listed_parts(folds: int, test_size: float) -> str:
    return f"each of {folds} folds" + (" and the test set" if test_size else "")
