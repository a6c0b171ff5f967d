"""Splits as files: drawn once, read ever after; new images are filled in."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from featcache.core import io
from featcache.dataset.splits.assign import assign_folds
from featcache.dataset.splits.base import TEST, Split, images_table, part_shares
from featcache.dataset.splits.checks import check
from featcache.errors import SplitError

SCHEMA = 1
_SETTINGS = ("folds", "test_size", "seed")


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
    settings = _settings(empty)

    def draw(existing: Mapping[str, int]) -> dict[str, int]:
        return assign_folds(image_ids, labels, groups, existing=existing, **settings)

    split = _complete(path, empty, image_ids, draw)
    check(split.of(image_ids), labels, groups, folds=folds, test_size=test_size)
    return split


def load_or_redraw(
    path: Path,
    base: Split,
    image_ids: Sequence[str],
    labels: ArrayLike,
    groups: ArrayLike,
    *,
    name: str,
    repeat: int,
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

    Raises:
        SplitError: The file is not this repeat, or as `assign_folds` and `check`.
        LockedError: Another process has been writing it for a minute.
    """
    table = images_table(image_ids, labels, groups)
    in_test = base.of(image_ids) == TEST
    rest, test = table[~in_test], table.loc[in_test, "image_id"]

    def draw(existing: Mapping[str, int]) -> dict[str, int]:
        columns = rest["image_id"].tolist(), rest["label"], rest["group"]
        settings = _settings(base) | {"test_size": 0, "repeat": repeat}
        folds = assign_folds(*columns, existing=existing, **settings)
        return folds | dict.fromkeys(test, TEST)

    empty = replace(base, name=name, fold_of={}, repeat=repeat, base=base.name)
    split = _complete(path, empty, image_ids, draw)
    if not np.array_equal(split.of(image_ids) == TEST, in_test):
        raise _damaged(path, f"the test set of split {base.name}")
    check(
        split.of(image_ids),
        labels,
        groups,
        folds=base.folds,
        test_size=base.test_size,
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
        io.write_json(path, {**head, "images": split.fold_of})
    return split


def _read(path: Path, empty: Split) -> Split:
    """The split at ``path``, or ``empty`` when there is none."""
    if not path.exists():
        return empty
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        settings = {key: stored[key] for key in _SETTINGS}
        parts = set(stored["images"].values())
        is_valid = (
            stored["schema"] == SCHEMA and parts <= part_shares(**settings).keys()
        )
    except (ValueError, KeyError, TypeError, AttributeError, SplitError):
        is_valid = False
    if not is_valid:
        raise _damaged(path, f"a split of schema {SCHEMA}")
    origin = stored.get("repeat", 0), stored.get("base")
    if origin != (empty.repeat, empty.base):
        raise SplitError(
            f"{path.name} to be {_origin(empty.repeat, empty.base)}",
            _origin(*origin),
            "Give the new split another name.",
        )
    if settings != _settings(empty):
        raise SplitError(
            f"{path.name} to have {_flags(_settings(empty))}",
            _flags(settings),
            f"Use {_flags(settings)}, or give the new split another name.",
        )
    return replace(empty, fold_of=stored["images"])


def _damaged(path: Path, expected: str) -> SplitError:
    return SplitError(
        f"{expected} in {path}",
        "another or a damaged file",
        "Move it away; the split is then drawn again.",
    )


def _origin(repeat: int, base: str | None) -> str:
    return f"repeat {repeat} of split {base}" if repeat else "a split of its own"


def _settings(split: Split) -> dict[str, Any]:
    return {key: getattr(split, key) for key in _SETTINGS}


def _flags(settings: Mapping[str, object]) -> str:
    return ", ".join(f"`{k}={v}`" for k, v in settings.items())
