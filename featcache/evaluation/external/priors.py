"""Correction of probabilities for another prevalence, without labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from featcache.errors import UsageError
from featcache.evaluation.figures import ONE_GROUP, Figure
from featcache.evaluation.metrics.base import Array
from featcache.evaluation.metrics.interval import wilson
from featcache.evaluation.metrics.resampling import bootstrap_weights

_DRAWS = 200  # enough for a standard error; each runs EM
_STEPS = 5000
_DRAWN_STEPS = 500
_SMALL, _DRAWN_SMALL = 1e-8, 1e-5  # the change of a share at which EM stops
_DEPENDENT = 1e-6
_ALIKE = "the probabilities do not tell the classes apart"


@dataclass(frozen=True, eq=False)
class PriorCorrection:
    """Probabilities under the prevalences of another set.

    Attributes:
        p: Corrected probabilities, (N, C).
        training: Share of each class in training, (C,).
        estimated: That in these images, C figures.
        converged: Whether EM came to rest.
    """

    p: Array
    training: Array
    estimated: list[Figure]
    converged: bool


def correct_priors(
    p: ArrayLike, groups: ArrayLike, training: Sequence[float]
) -> PriorCorrection:
    """Estimates the prevalences of unlabelled images, and corrects for them.

    EM of Saerens, Latinne and Decaestecker (Neural Computation 2002): probabilities
    are multiplied by estimated over training prevalence and brought back to a sum of
    one; the estimate becomes their mean; and so on. It supposes calibrated
    probabilities and images that differ in prevalence alone. Each of 200 resamples of
    groups runs EM too; the interval is `metrics.wilson`.

    Args:
        p: Probabilities, (N, C).
        groups: Group of each image, (N,).
        training: Share of each class among the training images, C numbers above 0.

    Raises:
        UsageError: A training share that is not above 0, or not C of them.
    """
    p = np.asarray(p, np.float64)
    before = np.asarray(training, np.float64)
    if before.shape != p.shape[1:] or not (before > 0).all():
        raise UsageError(
            f"the share of each of {p.shape[1]} classes in training, all above 0",
            str(before.tolist()),
            "Count the training images of each class.",
        )
    before = before / before.sum()
    likelihood = p / before
    weights = np.ones((1, len(p)))
    start = before[None]
    share, converged = _em(likelihood, weights, start, _STEPS, _SMALL)
    after = likelihood * share[0]
    total = after.sum(axis=1, keepdims=True)
    corrected = np.where(total > 0, after / np.where(total > 0, total, 1.0), p)
    return PriorCorrection(
        corrected, before, _figures(likelihood, groups, share[0]), converged
    )


def _figures(likelihood: Array, groups: ArrayLike, share: Array) -> list[Figure]:
    count = len(np.unique(np.asarray(groups).astype(str)))
    if count < 2 or not _tells_apart(likelihood):
        ends, reason = (float("nan"),) * 2, ONE_GROUP if count < 2 else _ALIKE
        return [Figure.of(float(one), ends, reason) for one in share]
    # Moved off the edge, which EM cannot leave.
    start = 0.99 * share + 0.01 / len(share)
    draws = np.concatenate([
        _em(
            likelihood,
            weights,
            np.tile(start, (len(weights), 1)),
            _DRAWN_STEPS,
            _DRAWN_SMALL,
        )[0]
        for weights in bootstrap_weights(groups, resamples=_DRAWS)
    ])  # fmt: skip
    return [
        Figure.of(
            float(one),
            wilson(float(one), draws[:, c], groups=count, images=len(likelihood)),
            ONE_GROUP,
        )
        for c, one in enumerate(share)
    ]


def _tells_apart(likelihood: Array) -> bool:
    """Whether no class is a mixture of others, so that their shares can be told."""
    seen = likelihood[:, likelihood.any(axis=0)]
    scaled = seen / np.linalg.norm(seen, axis=0)
    return bool(np.linalg.matrix_rank(scaled, tol=_DEPENDENT) == seen.shape[1])


def _em(
    likelihood: Array, weights: Array, start: Array, steps: int, small: float
) -> tuple[Array, bool]:
    """Shares (B, C) that maximise the likelihood of rows (N, C) weighted (B, N)."""
    share, total = start, weights.sum(axis=1, keepdims=True)
    for _ in range(steps):
        mixture = np.maximum(share @ likelihood.T, np.finfo(float).tiny)
        updated = share * ((weights / mixture) @ likelihood) / total
        updated /= updated.sum(axis=1, keepdims=True)
        change = float(np.abs(updated - share).max())
        share = updated
        if change < small:
            return share, True
    return share, False
