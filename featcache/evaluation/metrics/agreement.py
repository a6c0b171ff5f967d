"""How far two readers agree beyond chance."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from featcache.evaluation.metrics.base import Array
from featcache.evaluation.metrics.interval import Interval, wilson
from featcache.evaluation.metrics.resampling import bootstrap_sums


@dataclass(frozen=True)
class Kappa:
    """Agreement of two readers on the images that both have answered.

    Attributes:
        value: Cohen's kappa, -1 to 1; NaN where both gave one and the same answer to
            every image, as chance would then agree as well.
        interval: Its 95 % interval over groups; NaN with a single group.
        observed: Share of images with the same answer.
        images: How many both have answered.
        groups: Of how many groups.
    """

    value: float
    interval: Interval
    observed: float
    images: int
    groups: int


def cohen_kappa(a: ArrayLike, b: ArrayLike, groups: ArrayLike) -> Kappa:
    """Cohen's kappa (Educ. Psychol. Meas. 1960), with an interval over groups.

    Whole groups are resampled, as images of one patient are read alike. The interval is
    that of `wilson` on (1 + kappa) / 2, which lies between 0 and 1 as a share does: it
    has a length even where the readers agree on every image.

    Args:
        a: Answers of one reader, (N,), N of at least 1.
        b: Answers of the other, (N,).
        groups: Group of each image, (N,).
    """
    names, codes = np.unique(
        [np.asarray(a, str), np.asarray(b, str)], return_inverse=True
    )
    one, two = codes.reshape(2, -1)
    classes = np.arange(len(names))
    hits = (one == two).astype(float)
    columns = (one[:, None] == classes, two[:, None] == classes)
    table = np.hstack([*columns, hits[:, None], np.ones((len(hits), 1))]).astype(float)
    value = float(_kappa(table.sum(axis=0)[None])[0])
    draws = _kappa(bootstrap_sums(table, groups))
    count = len(np.unique(np.asarray(groups).astype(str)))
    ends = wilson((1 + value) / 2, (1 + draws) / 2, groups=count, images=len(hits))
    low, high = (2 * end - 1 for end in ends)
    return Kappa(value, (low, high), float(hits.mean()), len(hits), count)


def _kappa(sums: Array) -> Array:
    """Kappa of rows of sums: answers of both by class, equal ones, images."""
    rows, n = sums[:, :-2].reshape(len(sums), 2, -1), sums[:, -1]
    by_chance = (rows[:, 0] * rows[:, 1]).sum(axis=1) / n**2
    observed = sums[:, -2] / n
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(by_chance < 1, (observed - by_chance) / (1 - by_chance), np.nan)
