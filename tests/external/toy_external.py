"""Made-up predictions whose true posterior is known."""

from collections.abc import Sequence

import numpy as np

from featcache.evaluation.runs import Predictions

CLASSES = ["a", "b", "c"]
LEVEL = (1 / 3, 1 / 3, 1 / 3)


def softmax(z: np.ndarray) -> np.ndarray:
    """Rows that sum to one."""
    z = np.exp(z - z.max(axis=1, keepdims=True))
    return z / z.sum(axis=1, keepdims=True)


def predictions(
    seed: int,
    groups: int,
    *,
    prior: Sequence[float] = LEVEL,
    training: Sequence[float] = LEVEL,
    distance: float = 2.0,
    most: int = 3,
    sharpness: float = 1.0,
) -> Predictions:
    """Groups of 1 to ``most`` images of one class; half of the noise is the group's.

    Each class is a normal cloud, so that the probabilities are the true posterior under
    the training prior; ``sharpness`` multiplies their logarithms.
    """
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, most + 1, size=groups)
    group = np.repeat(np.arange(groups), sizes)
    y = np.repeat(rng.choice(len(prior), size=groups, p=prior), sizes)
    shared = rng.normal(size=(groups, len(prior)))[group]
    noise = np.sqrt(0.5) * (shared + rng.normal(size=(len(y), len(prior))))
    x = distance * np.eye(len(prior))[y] + noise
    p = softmax(sharpness * (np.log(training) + distance * x))
    return Predictions(y, p, group)


def rows(data: Predictions, keep: np.ndarray) -> Predictions:
    """Some of the images."""
    return Predictions(data.y[keep], data.p[keep], data.groups[keep])
