"""Nested subsamples of groups: each smaller one is a part of each larger one."""

from collections import Counter

import numpy as np
from numpy.typing import NDArray

SHARES = (0.1, 0.15, 0.22, 0.33, 0.5, 0.7, 1.0)


def group_classes(y: np.ndarray, groups: np.ndarray) -> dict[str, int]:
    """The class of most images of each group; of several, the first."""
    counts: dict[str, Counter[int]] = {}
    for name, label in zip(groups.astype(str).tolist(), y.tolist(), strict=True):
        counts.setdefault(name, Counter())[label] += 1
    return {
        name: min(of_group, key=lambda label: (-of_group[label], label))
        for name, of_group in sorted(counts.items())
    }


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
    classes = group_classes(y, groups)
    keys = np.random.default_rng([seed, draw]).random(len(classes))
    kept: set[str] = set()
    for label in sorted(set(classes.values())):
        names = [(keys[i], n) for i, n in enumerate(classes) if classes[n] == label]
        whole = of_class not in (None, label)
        count = len(names) if whole else max(1, round(share * len(names)))
        kept |= {name for _, name in sorted(names)[:count]}
    return np.isin(groups.astype(str), sorted(kept))
