"""Splits as files: drawn once, read ever after; new images are filled in."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from featcache.core import io, records
from featcache.dataset.manifest import ODD
from featcache.dataset.splits.assign import assign_folds
from featcache.dataset.splits.base import TEST, Split, images_table, part_shares
from featcache.dataset.splits.checks import check, check_own_test, check_own_val
from featcache.errors import SplitError

SCHEMA = 1
_SETTINGS = ("folds", "test_size", "seed")


@dataclass(frozen=True)
class _Folds:
    """What a check of any split needs of its file."""

    images: dict[str, int]


@dataclass(frozen=True)
class _Record(_Folds):
    """What the file of a split holds."""

    schema: int
    folds: int
    test_size: float
    seed: int
    repeat: int = 0
    base: str | None = None
    split_by: str | None = None
    own_val: bool = False


def load_or_make(
    path: Path,
    image_ids: Sequence[str],
    labels: ArrayLike,
    groups: ArrayLike,
    *,
    name: str,
    folds: int = 5,
    test_size: float = 0.2,
    seed: int = 0,
    excluded_groups: Mapping[str, str] | None = None,
) -> Split:
    """Reads the split at ``path``, adds the images it lacks, and checks it.

    The file is written only when an image was added; for the arguments see
    `assign_folds`.

    Raises:
        SplitError: The file is not a split or was made with other settings, or as
            `assign_folds` and `check`.
        LockedError: Another process has been writing the split for a minute.
    """
    empty = Split(name, folds, test_size, seed, {})
    settings = _settings(empty) | {"excluded_groups": excluded_groups}

    def draw(existing: Mapping[str, int]) -> dict[str, int]:
        return assign_folds(image_ids, labels, groups, existing=existing, **settings)

    split = _complete(path, empty, image_ids, draw)
    check(split.of(image_ids), labels, groups, folds=folds, test_size=test_size)
    return split


def load_or_keep(
    path: Path,
    image_ids: Sequence[str],
    labels: ArrayLike,
    groups: ArrayLike,
    *,
    empty: Split,
    own_test: Collection[str],
    own_val: Collection[str] = (),
    excluded_groups: Mapping[str, str] | None = None,
) -> Split:
    """Reads or draws folds around the test set that a source brings.

    Args:
        path: Its file; images that it lacks are added, as by `load_or_make`.
        image_ids: Of the images, (N,).
        labels: Class of each image, (N,).
        groups: Group of each image, (N,).
        empty: The split's name, settings and `Split.split_by`.
        own_test: Of ``image_ids``, those of the source's own test set.
        own_val: Those of its val, if that is to be fold 0.
        excluded_groups: As for `assign_folds`.

    Raises:
        SplitError: The file is not this split, the source's test set has changed, a
            group is in it and in training, or as `assign_folds` and `check`.
        LockedError: Another process has been writing it for a minute.
    """
    table = images_table(image_ids, labels, groups)
    in_test = table["image_id"].isin(set(own_test)).to_numpy()
    in_val = table["image_id"].isin(set(own_val)).to_numpy()
    labels_of = table["label"].tolist()
    check_own_test(labels_of, in_test.tolist(), whole=not empty.is_site)
    if empty.own_val:
        check_own_val(labels_of, in_val.tolist(), empty.folds)
    draw = _around(table, in_test, in_val, empty, excluded_groups)
    split = _complete(path, empty, image_ids, draw)
    parts = split.of(image_ids)
    same_val = not empty.own_val or np.array_equal(parts == 0, in_val)
    if not (same_val and np.array_equal(parts == TEST, in_test)):
        raise SplitError(
            f"the test set of the source in {path}",
            "another: the source has changed",
            "Give the new split another name as `split`.",
        )
    check(
        split.of(image_ids),
        labels,
        groups,
        folds=empty.folds,
        test_size=empty.test_size,
        whole_test=not empty.is_site,
    )
    return split


def _around(
    table: pd.DataFrame,
    in_test: NDArray[np.bool_],
    in_val: NDArray[np.bool_],
    empty: Split,
    excluded_groups: Mapping[str, str] | None,
) -> Callable[[Mapping[str, int]], dict[str, int]]:
    """Draws the folds of a split whose test set is known, and its fold 0 perhaps."""
    first = int(empty.own_val)
    rest = table[~in_test & ~(in_val & bool(first))]
    fixed = dict.fromkeys(table.loc[in_test, "image_id"], TEST)
    if first:
        fixed |= dict.fromkeys(table.loc[in_val, "image_id"], 0)

    def draw(existing: Mapping[str, int]) -> dict[str, int]:
        columns = rest["image_id"].tolist(), rest["label"], rest["group"]
        settings = _settings(empty) | {"test_size": 0, "repeat": empty.repeat}
        settings |= {"excluded_groups": excluded_groups}
        settings["folds"] -= first
        before = {i: fold - first for i, fold in existing.items() if fold >= first}
        folds = assign_folds(*columns, existing=before, **settings)
        return {i: fold + first for i, fold in folds.items()} | fixed

    return draw


def load_or_redraw(
    path: Path,
    base: Split,
    image_ids: Sequence[str],
    labels: ArrayLike,
    groups: ArrayLike,
    *,
    name: str,
    repeat: int,
    excluded_groups: Mapping[str, str] | None = None,
) -> Split:
    """Reads or draws a repeat of a split: the same test set, other folds.

    Args:
        path: Its file; images that it lacks are added, as by `load_or_make`.
        base: The split to repeat, with every image.
        image_ids: Of the images, (N,).
        labels: Class of each image, (N,).
        groups: Group of each image, (N,).
        name: Of the repeat.
        repeat: Its number, from 1.
        excluded_groups: As for `assign_folds`.

    Raises:
        SplitError: The file is not this repeat, or as `assign_folds` and `check`.
        LockedError: Another process has been writing it for a minute.
    """
    table = images_table(image_ids, labels, groups)
    in_test = base.of(image_ids) == TEST
    empty = replace(base, name=name, fold_of={}, repeat=repeat, base=base.name)
    in_val = base.own_val & (base.of(image_ids) == 0)
    draw = _around(table, in_test, in_val, empty, excluded_groups)
    split = _complete(path, empty, image_ids, draw)
    if not np.array_equal(split.of(image_ids) == TEST, in_test):
        raise _damaged(path, f"the test set of split {base.name}")
    check(
        split.of(image_ids),
        labels,
        groups,
        folds=base.folds,
        test_size=base.test_size,
        whole_test=not base.is_site,
    )
    return split


def _complete(
    path: Path,
    empty: Split,
    image_ids: Sequence[str],
    draw: Callable[[Mapping[str, int]], dict[str, int]],
) -> Split:
    """The split at ``path`` with every image, drawn where it is missing."""
    split = _read(path, empty)
    if split.fold_of.keys() >= set(image_ids):
        return split
    lock = path.with_name(f"{path.name}.lock")
    with io.lock(lock, f"split {empty.name!r}", timeout=60):
        existing = _read(path, empty).fold_of
        fold_of = existing | draw(existing)
        split = replace(empty, fold_of=dict(sorted(fold_of.items())))
        head = {"schema": SCHEMA, "name": empty.name, **_settings(empty)}
        if empty.repeat:
            head |= {"repeat": empty.repeat, "base": empty.base}
        if empty.split_by:
            head["split_by"] = empty.split_by
        if empty.own_val:
            head["own_val"] = True
        io.write_json(path, {**head, "images": split.fold_of})
    return split


def _read(path: Path, empty: Split) -> Split:
    """The split at ``path``, or ``empty`` when there is none."""
    if not path.exists():
        return empty
    try:
        stored = _record(path)
        settings = {key: getattr(stored, key) for key in _SETTINGS}
        if not set(stored.images.values()) <= part_shares(**settings).keys():
            raise ValueError("folds that are not those of its settings")
    except (ValueError, RecursionError, SplitError) as error:
        raise _damaged(path, f"a split of schema {SCHEMA}") from error
    if _origin(stored) != _origin(empty):
        raise SplitError(
            f"{path.name} to be {_origin(empty)}",
            _origin(stored),
            "Give the new split another name as `split`.",
        )
    if settings != _settings(empty):
        raise SplitError(
            f"{path.name} to have {_flags(_settings(empty))}",
            _flags(settings),
            f"Use {_flags(settings)}, or give the new split another name.",
        )
    return replace(empty, fold_of=stored.images)


def read_folds(path: Path) -> dict[str, int]:
    """The fold of each image, or `TEST`, that the file of a split says.

    Returns:
        By image_id; nothing for a file that is no split.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        return records.from_json(_Folds, value).images
    except (OSError, ValueError, RecursionError):
        return {}


def _record(path: Path) -> _Record:
    """Raises ValueError or RecursionError for a file that is no split."""
    value = json.loads(path.read_text(encoding="utf-8"))
    record = records.from_json(_Record, value)
    if record.schema != SCHEMA:
        raise ValueError(f"schema {record.schema}")
    if any(map(ODD.search, record.images)):
        raise ValueError("an image_id that no CSV keeps")
    return record


def _damaged(path: Path, expected: str) -> SplitError:
    return SplitError(
        f"{expected} in {path}",
        "another or a damaged file",
        "Move it away; the split is then drawn again.",
    )


def _origin(split: _Record | Split) -> str:
    origin = "a split of its own"
    if split.repeat:
        origin = f"repeat {split.repeat} of split {split.base}"
    if split.split_by:
        origin += f" around the source's test set (by {split.split_by})"
    return f"{origin} with its val as fold 0" if split.own_val else origin


def _settings(split: Split) -> dict[str, Any]:
    return {key: getattr(split, key) for key in _SETTINGS}


def _flags(settings: Mapping[str, object]) -> str:
    return ", ".join(f"`{k}={v}`" for k, v in settings.items())
