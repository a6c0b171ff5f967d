"""Margins, contributions, and what both are made of."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_TINY = 1e-45  # the smallest probability that float32 knows


@dataclass(frozen=True)
class Contributions:
    """What each feature adds to a margin.

    Attributes:
        method: One of ``contributions.METHODS``.
        phi: (N, D), in margin.
        base: (N,), the margin that no feature has a part in. With an additive method
            ``base + phi.sum(axis=1)`` is the margin.
    """

    method: str
    phi: Array
    base: Array


def contrast(classes: int) -> Array:
    """The matrix (C, C) that turns logits, or logarithms of probabilities, to margins.

    Softmax knows no number that is added to all logits, so margins have none: for two
    classes they are the log-odds, for more the logit less the mean of all logits.
    """
    if classes == 2:
        return np.array([[1.0, -1.0], [-1.0, 1.0]])
    return np.asarray(np.eye(classes) - 1 / classes)


def margins(p: NDArray[np.floating]) -> Array:
    """Margins (N, C) of probabilities (N, C); see `contrast`."""
    logs = np.log(np.clip(np.asarray(p, np.float64), _TINY, None))
    return np.asarray(logs @ contrast(p.shape[1]).T)
