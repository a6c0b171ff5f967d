"""Assigning images to a test set and folds: seeded, stratified, by group."""

from collections.abc import Mapping, Sequence

from numpy.typing import ArrayLike

from featcache.dataset.splits.base import images_table, part_shares
from featcache.dataset.splits.checks import check, refuse_rare
from featcache.dataset.splits.filling import fill


def assign_folds(
    image_ids: Sequence[str],
    labels: ArrayLike,
    groups: ArrayLike,
    *,
    folds: int = 5,
    test_size: float = 0.2,
    seed: int = 0,
    existing: Mapping[str, int] | None = None,
    repeat: int = 0,
    excluded_groups: Mapping[str, str] | None = None,
) -> dict[str, int]:
    """Assigns every image to a fold or the test set, whatever the rows' order.

    Groups go from large to small, in seeded order within a size, each to the part
    where it adds least to the squared deviation from the part's share of each class:
    the greedy rule of scikit-learn's StratifiedGroupKFold, with a test set.

    Args:
        image_ids: Of the images, (N,), each once.
        labels: Class of each image, (N,).
        groups: What must stay together, (N,); a group may hold several classes.
        folds: Cross-validation parts, at least 2.
        test_size: Share of the test set, 0 to 0.9; 0 for none.
        seed: Of the order, 0 or above.
        existing: Assigned before, and kept; further images of a group join it.
        repeat: Another number draws other folds with the same seed.
        excluded_groups: Groups of images that are not to be assigned, by image_id:
            what is in ``existing`` of them keeps its group where it is.

    Returns:
        The fold of each of ``image_ids``: 0 .. ``folds`` - 1, or `TEST`.

    Raises:
        SplitError: The arguments cannot work, a class has too few groups, or the
            existing assignments put a group in two parts.
    """
    shares = part_shares(folds, test_size, seed)
    table = images_table(image_ids, labels, groups)
    refuse_rare(table, folds, test_size)
    existing = existing or {}
    group_of = dict(zip(table["image_id"], table["group"], strict=True))
    known = {**(excluded_groups or {}), **group_of}
    pinned = {g: existing[i] for i, g in known.items() if existing.get(i) in shares}
    part_of = fill(table, shares, pinned, (seed, repeat))
    fold_of = {i: existing.get(i, part_of[g]) for i, g in group_of.items()}
    check(list(fold_of.values()), labels, groups, folds=folds, test_size=test_size)
    return fold_of
