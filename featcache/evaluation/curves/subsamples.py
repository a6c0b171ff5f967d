"""Nested subsamples of groups: each smaller one is a part of each larger one."""

import numpy as np
from numpy.typing import NDArray

SHARES = (0.1, 0.15, 0.22, 0.33, 0.5, 0.7, 1.0)


def group_classes(
    y: np.ndarray, groups: np.ndarray
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The class of most images of each group; of several, the first.

    Args:
        y: Class of each image, (N,).
        groups: Its group, (N,).

    Returns:
        The class of each group by name (G,), and each image's group (N,).
    """
    names, group = np.unique(groups.astype(str), return_inverse=True)
    counts = np.zeros((len(names), y.max(initial=0) + 1), int)
    np.add.at(counts, (group, y), 1)
    return counts.argmax(axis=1), group


def subsample(
    y: np.ndarray,
    groups: np.ndarray,
    share: float,
    *,
    draw: int,
    seed: int = 0,
    of_class: int | None = None,
) -> NDArray[np.bool_]:
    """Which images are left when a share of the groups of each class is kept.

    Args:
        y: Class of each image, (N,).
        groups: Its group, (N,).
        share: Of the groups of each class, above 0; one group of a class is kept.
        draw: Which draw. The subsamples of one draw are nested.
        seed: Of all draws.
        of_class: Keep all groups of the other classes.
    """
    classes, group = group_classes(y, groups)
    keys = np.random.default_rng([seed, draw]).random(len(classes))
    kept = np.zeros(len(classes), bool)
    for label in np.unique(classes):
        of_label = np.flatnonzero(classes == label)
        whole = of_class not in (None, label)
        count = len(of_label) if whole else max(1, round(share * len(of_label)))
        kept[of_label[np.argsort(keys[of_label])[:count]]] = True
    return kept[group]
