"""Places images in a test part and folds: seeded, stratified, by group, for good.

A group never stands in two parts. A split is written once and used by every head;
images that come later fill in and move nobody. A repeat of a split has its test part
and other folds.
"""

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from featcache.core import io
from featcache.dataset.splits.filling import fill
from featcache.dataset.splits.options import SplitOptions as SplitOptions
from featcache.errors import SplitError

TEST = -1  # the place of a test image; folds are 0 .. k-1
SCHEMA = 1
_SETTINGS = ("folds", "test_size", "seed")
_REDRAW = "Draw a new split: another `split` name or `seed`."


@dataclass(frozen=True)
class Split:
    """Where each image stands.

    Attributes:
        name: Of the split, part of its file's name.
        folds: Cross-validation parts.
        test_size: Share of the test part, 0 to 0.9.
        seed: Of the order in which groups are placed.
        places: Place of each image by ``image_id``: a fold, or `TEST`.
        repeat: 0, or the number of the redrawing of another split's folds.
        base: Name of that split; None for repeat 0.
    """

    name: str
    folds: int
    test_size: float
    seed: int
    places: dict[str, int]
    repeat: int = 0
    base: str | None = None

    def of(self, image_ids: Iterable[str]) -> NDArray[np.int64]:
        """Places (N,) in the order asked.

        Raises:
            SplitError: An image has no place.
        """
        image_ids = list(image_ids)
        lost = [image for image in image_ids if image not in self.places]
        if lost:
            raise SplitError(
                f"a place in split {self.name!r} for every image",
                f"{len(lost)} without one, the first {lost[0]!r}",
                "Load the split with all images of the manifest, and it fills in.",
            )
        return np.array([self.places[image] for image in image_ids], np.int64)


def place(
    image_ids: Sequence[str],
    labels: ArrayLike,
    groups: ArrayLike,
    *,
    folds: int = 5,
    test_size: float = 0.2,
    seed: int = 0,
    known: Mapping[str, int] | None = None,
    repeat: int = 0,
) -> dict[str, int]:
    """Places every image; the order of the rows does not matter.

    Groups go from large to small, in seeded order within a size, each to the part
    where it adds least to the squared deviation from the part's share of each class:
    the greedy rule of scikit-learn's StratifiedGroupKFold, with a test part.

    Args:
        image_ids: Of the images, (N,), each once.
        labels: Class of each image, (N,).
        groups: What must stay together, (N,); a group may hold several classes.
        folds: Cross-validation parts, at least 2.
        test_size: Share of the test part, 0 to 0.9; 0 for none.
        seed: Of the order, 0 or above.
        known: Places that stand already; further images of a group join it.
        repeat: Another number draws other places with the same seed.

    Returns:
        The place of each of ``image_ids``: 0 .. ``folds`` - 1, or `TEST`.

    Raises:
        SplitError: The arguments cannot work, a class has too few groups, or the
            known places put a group in two parts.
    """
    shares = _shares(folds, test_size, seed)
    table = _table(image_ids, labels, groups)
    _refuse_rare(table, folds, test_size)
    known = known or {}
    group_of = dict(zip(table["image_id"], table["group"], strict=True))
    pinned = {g: known[i] for i, g in group_of.items() if known.get(i) in shares}
    part_of = fill(table, shares, pinned, (seed, repeat))
    places = {i: known.get(i, part_of[g]) for i, g in group_of.items()}
    check(list(places.values()), labels, groups, folds=folds, test_size=test_size)
    return places


def check(
    split_places: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    *,
    folds: int,
    test_size: float,
) -> None:
    """Guards against leaks: one part a group, and every class in every part.

    Args:
        split_places: Place of each image, (N,).
        labels: Class of each image, (N,).
        groups: Group of each image, (N,).
        folds: Cross-validation parts.
        test_size: Share of the test part; 0 for none.

    Raises:
        SplitError: A group stands in two parts, or a part lacks a class.
    """
    shares = _shares(folds, test_size)
    places = np.asarray(split_places, np.int64)
    table = _table(range(len(places)), labels, groups).assign(place=places)
    _refuse_leaks(table)
    filled = set(zip(table["place"].tolist(), table["label"], strict=True))
    wanted = set(itertools.product(shares, set(table["label"])))
    for part, label in sorted(filled ^ wanted):
        raise SplitError(
            f"every class in {_listed(folds, test_size)}, and no other part",
            f"class {label!r} {'not ' * (part in shares)}in {_part_name(part)}",
            f"Use fewer `folds` or `test_size=0`. {_REDRAW}",
        )


def assert_disjoint(train_groups: ArrayLike, other_groups: ArrayLike) -> None:
    """Refuses to go on when a group is trained on and predicted.

    Raises:
        SplitError: A group is in both.
    """
    shared = sorted(set(_texts(train_groups)) & set(_texts(other_groups)))
    if shared:
        raise SplitError(
            "no group on both sides of a fit",
            f"{len(shared)} shared, such as {shared[0]!r}",
            "Take the rows from a split of featcache, which keeps groups whole.",
        )


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

    The file is written only when an image was added. See `place` for the arguments.

    Raises:
        SplitError: The file is not a split or was made with other settings, or as
            `place` and `check`.
        LockedError: Another process has been writing the split for a minute.
    """
    asked = Split(name, folds, test_size, seed, {})
    settings = _settings(asked)

    def draw(known: Mapping[str, int]) -> dict[str, int]:
        return place(image_ids, labels, groups, known=known, **settings)

    split = _complete(path, asked, image_ids, draw)
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
    """Reads or draws a repeat of a split: the same test part, other folds.

    Args:
        path: Its file; images that it lacks are added, as by `load_or_make`.
        base: The split to repeat, with a place for every image.
        image_ids: Of the images, (N,).
        labels: Class of each image, (N,).
        groups: Group of each image, (N,).
        name: Of the repeat.
        repeat: Its number, from 1.

    Raises:
        SplitError: The file is not this repeat, or as `place` and `check`.
        LockedError: Another process has been writing it for a minute.
    """
    table = _table(image_ids, labels, groups)
    tested = base.of(image_ids) == TEST
    rest, test = table[~tested], table.loc[tested, "image_id"]

    def draw(known: Mapping[str, int]) -> dict[str, int]:
        columns = rest["image_id"].tolist(), rest["label"], rest["group"]
        settings = _settings(base) | {"test_size": 0, "repeat": repeat}
        return place(*columns, known=known, **settings) | dict.fromkeys(test, TEST)

    asked = replace(base, name=name, places={}, repeat=repeat, base=base.name)
    split = _complete(path, asked, image_ids, draw)
    if not np.array_equal(split.of(image_ids) == TEST, tested):
        raise _damaged(path, f"the test part of split {base.name}")
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
    asked: Split,
    image_ids: Sequence[str],
    draw: Callable[[Mapping[str, int]], dict[str, int]],
) -> Split:
    """The split at ``path`` with a place for every image, drawn where it has none."""
    split = _read(path, asked)
    if split.places.keys() >= set(image_ids):
        return split
    lock = path.with_name(f"{path.name}.lock")
    with io.lock(lock, f"split {asked.name!r}", timeout=60):
        known = _read(path, asked).places
        split = replace(asked, places=dict(sorted((known | draw(known)).items())))
        head = {"schema": SCHEMA, "name": asked.name, **_settings(asked)}
        if asked.repeat:
            head |= {"repeat": asked.repeat, "base": asked.base}
        io.write_json(path, {**head, "images": split.places})
    return split


def _read(path: Path, asked: Split) -> Split:
    """The split at ``path``, or ``asked`` (without an image) when there is none."""
    if not path.exists():
        return asked
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        settings = {key: stored[key] for key in _SETTINGS}
        parts = set(stored["images"].values())
        whole = stored["schema"] == SCHEMA and parts <= _shares(**settings).keys()
    except (ValueError, KeyError, TypeError, AttributeError, SplitError):
        whole = False
    if not whole:
        raise _damaged(path, f"a split of schema {SCHEMA}")
    origin = stored.get("repeat", 0), stored.get("base")
    if origin != (asked.repeat, asked.base):
        raise SplitError(
            f"{path.name} to be {_origin(asked.repeat, asked.base)}",
            _origin(*origin),
            "Give the new split another name.",
        )
    if settings != _settings(asked):
        raise SplitError(
            f"{path.name} to have {_flags(_settings(asked))}",
            _flags(settings),
            f"Ask for {_flags(settings)}, or give the new split another name.",
        )
    return replace(asked, places=stored["images"])


def _damaged(path: Path, expected: str) -> SplitError:
    return SplitError(
        f"{expected} in {path}",
        "another or a damaged file",
        "Move it away, and the split is drawn again.",
    )


def _origin(repeat: int, base: str | None) -> str:
    return f"repeat {repeat} of split {base}" if repeat else "a split of its own"


def _settings(split: Split) -> dict[str, Any]:
    return {key: getattr(split, key) for key in _SETTINGS}


def _flags(settings: Mapping[str, object]) -> str:
    return ", ".join(f"`{k}={v}`" for k, v in settings.items())


def _shares(folds: int, test_size: float, seed: int = 0) -> dict[int, float]:
    """Share of the images that each part should get."""
    if folds < 2:
        raise SplitError("at least 2 folds", str(folds), "Use `folds=2` or more.")
    if not 0 <= test_size <= 0.9:
        way_out = "Use `test_size=0.2`, or 0 for folds alone."
        raise SplitError("a test share from 0 to 0.9", str(test_size), way_out)
    if seed < 0:
        raise SplitError("a seed of 0 or above", str(seed), "Use `seed=0`.")
    test = {TEST: test_size} if test_size else {}
    return test | {fold: (1 - test_size) / folds for fold in range(folds)}


def _table(
    image_ids: Sequence[object], labels: ArrayLike, groups: ArrayLike
) -> pd.DataFrame:
    """Columns image_id, label, group (N rows), refusing what makes no table."""
    ids, labels, groups = list(image_ids), np.asarray(labels), np.asarray(groups)
    if not len(ids) == len(labels) == len(groups) == len(set(ids)):
        raise SplitError(
            "each image once, with one label and one group",
            f"{len(ids)} images ({len(set(ids))} different), {len(labels)} labels, "
            f"{len(groups)} groups",
            "Take all three from one manifest, without its duplicates.",
        )
    missing = pd.isna(labels) | pd.isna(groups)
    if missing.any():
        raise SplitError(
            "a label and a group for every image",
            f"{missing.sum()} images without",
            "Fill them in the manifest; an image without a group is its own.",
        )
    columns = {"image_id": ids, "label": _texts(labels), "group": _texts(groups)}
    return pd.DataFrame(columns, dtype=object)


def _texts(values: ArrayLike) -> list[str]:
    return [str(value) for value in np.asarray(values).tolist()]


def _refuse_leaks(table: pd.DataFrame) -> None:
    stands = table.drop_duplicates(["group", "place"])
    twice = stands[stands["group"].duplicated(keep=False)].groupby("group")["place"]
    for group, parts in twice:
        raise SplitError(
            "every group in one part",
            f"{twice.ngroups} in several, such as {group!r} in "
            + " and ".join(map(_part_name, sorted(parts))),
            f"The grouping has changed since the split was made. {_REDRAW}",
        )


def _refuse_rare(table: pd.DataFrame, folds: int, test_size: float) -> None:
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
    way_out = "No `folds` can work: leave the class out, or add images of it."
    if few >= 2:
        way_out = f"Use `folds={few}` and `test_size=0` at most."
    if few - test >= 2:
        way_out = f"Use `folds={few - test}` at most."
    raise SplitError(
        f"{folds + test} groups of every class, one for {_listed(folds, test_size)}",
        f"{few} of class {counts.idxmin()!r}",
        way_out,
    )


def _listed(folds: int, test_size: float) -> str:
    return f"each of {folds} folds" + (" and the test part" if test_size else "")


def _part_name(part: int) -> str:
    return "the test part" if part == TEST else f"fold {part}"
