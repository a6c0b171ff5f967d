"""What a split is: its parts, and which of them each image is in."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from featcache.core.text import counted
from featcache.errors import SplitError

MOST_FOLDS = 10_000
TEST = -1  # stands for a fold in test images; folds are 0 .. k-1


@dataclass(frozen=True)
class Split:
    """Which fold, or the test set, each image is in.

    Attributes:
        name: Of the split, part of its file's name.
        folds: Cross-validation parts.
        test_size: Share of the test set, 0 to 0.9.
        seed: Of the order in which groups are assigned.
        fold_of: By ``image_id``, an image's fold, or `TEST`.
        repeat: 0, or the number of the redrawing of another split's folds.
        base: Name of that split; None for repeat 0.
        split_by: The column, or "folder", by which the source's own test set is the
            test set; None where that is drawn.
    """

    name: str
    folds: int
    test_size: float
    seed: int
    fold_of: dict[str, int]
    repeat: int = 0
    base: str | None = None
    split_by: str | None = None

    def of(self, image_ids: Iterable[str]) -> NDArray[np.int64]:
        """Folds, or `TEST`, of images, (N,), in their order.

        Raises:
            SplitError: The split lacks an image.
        """
        image_ids = list(image_ids)
        missing = [image for image in image_ids if image not in self.fold_of]
        if missing:
            raise SplitError(
                f"every image in split {self.name!r}",
                f"{len(missing)} missing, the first {missing[0]!r}",
                "Load the split with all images of the manifest: they are added.",
            )
        return np.array([self.fold_of[image] for image in image_ids], np.int64)


def part_shares(folds: int, test_size: float, seed: int = 0) -> dict[int, float]:
    """Share of the images that each part should get.

    Raises:
        SplitError: No split has such settings.
    """
    if folds < 2:
        raise SplitError("at least 2 folds", str(folds), "Use `folds=2` or more.")
    if folds > MOST_FOLDS:
        expected = f"at most {MOST_FOLDS} folds"
        raise SplitError(expected, str(folds), "Use fewer `folds`.")
    if not 0 <= test_size <= 0.9:
        hint = "Use `test_size=0.2`, or 0 for folds alone."
        raise SplitError("a test size from 0 to 0.9", str(test_size), hint)
    if seed < 0:
        raise SplitError("a seed of 0 or above", str(seed), "Use `seed=0`.")
    test = {TEST: test_size} if test_size else {}
    return test | {fold: (1 - test_size) / folds for fold in range(folds)}


def images_table(
    image_ids: Sequence[object], labels: ArrayLike, groups: ArrayLike
) -> pd.DataFrame:
    """Columns image_id, label, group, (N rows).

    Raises:
        SplitError: An image occurs twice, or lacks a label or a group.
    """
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
            f"{counted(missing.sum(), 'image')} without",
            "Add them to the manifest; an image without a group is its own group.",
        )
    columns = {"image_id": ids, "label": as_texts(labels), "group": as_texts(groups)}
    return pd.DataFrame(columns, dtype=object)


def as_texts(values: ArrayLike) -> list[str]:
    """Labels or groups of any type as text."""
    return [str(value) for value in np.asarray(values).tolist()]


def part_name(part: int) -> str:
    """A part in words."""
    return "the test set" if part == TEST else f"fold {part}"
