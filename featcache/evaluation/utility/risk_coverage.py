"""Risk and coverage: how accurate a model is on the images that it is surest of.

Images are accepted by the highest probability, the surest first. The risk at a coverage
is the share of errors among the accepted (Geifman and El-Yaniv, NeurIPS 2017); AUGRC is
the mean, over all coverages, of the share of images that are accepted and wrong (Traub
et al., NeurIPS 2024): 0 is best, and half the error rate is what a random order has.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from featcache.evaluation.figures import ONE_GROUP, Figure
from featcache.evaluation.metrics.base import Array, checked
from featcache.evaluation.metrics.interval import log_t, wilson
from featcache.evaluation.metrics.resampling import bootstrap_weights

COVERAGES = np.arange(1, 21) / 20
DEFERRED = (0.1, 0.2, 0.3)
_RESAMPLES = 500


@dataclass(frozen=True)
class Deferral:
    """Accuracy on the rest when the least certain images are left to a person.

    Attributes:
        share: Of the images that are left to a person.
        accuracy: On all others.
    """

    share: float
    accuracy: Figure


@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """The errors among the images that a model is surest of.

    Attributes:
        risk: Share of errors at each of `COVERAGES`, (K,).
        low: Lower end of its 95 % interval over groups, (K,).
        high: Upper end, (K,).
        augrc: Area under the generalised risk-coverage curve, 0 to 0.5.
        deferrals: For each of `DEFERRED`.
    """

    risk: Array
    low: Array
    high: Array
    augrc: Figure
    deferrals: list[Deferral]


def risk_coverage(y: ArrayLike, p: ArrayLike, groups: ArrayLike) -> RiskCoverage:
    """Risk at every coverage, with intervals over groups.

    Images that are equally sure count as wrong as they are on average, so that their
    order does not matter.

    Args:
        y: Class of each image, (N,).
        p: Its probabilities, (N, C), of a model that was not trained on it.
        groups: Its group, (N,).

    Raises:
        UsageError: The arrays do not fit together.
    """
    y, p = checked(y, p)
    names = np.asarray(groups).astype(str)
    order, errors = _surest_first(y, p)
    ones = np.ones((1, len(y)))
    accepted, area = _accepted_errors(ones, errors)
    draws = [
        _accepted_errors(weights[:, order], errors)
        for weights in bootstrap_weights(names, resamples=_RESAMPLES)
    ]
    risks = accepted[0] / COVERAGES
    of_draws = np.concatenate([one for one, _ in draws]) / COVERAGES
    count = len(np.unique(names))
    ends = np.array(
        [
            wilson(risk, column, groups=count, images=max(1.0, round(c * len(y))))
            for risk, column, c in zip(risks, of_draws.T, COVERAGES, strict=True)
        ]
    )
    areas = np.concatenate([one for _, one in draws])
    return RiskCoverage(
        risk=risks,
        low=ends[:, 0],
        high=ends[:, 1],
        augrc=_with_interval(float(area[0]), areas, count),
        deferrals=[_deferral(share, risks, ends) for share in DEFERRED],
    )


def _surest_first(y: np.ndarray, p: Array) -> tuple[np.ndarray, Array]:
    """Order of the images, and in it their errors, (N,) each."""
    top = p.max(axis=1)
    order = np.argsort(-top, kind="stable")
    wrong = (p.argmax(axis=1) != y)[order].astype(float)
    _, block, sizes = np.unique(-top[order], return_inverse=True, return_counts=True)
    return order, (np.bincount(block, wrong) / sizes)[block]


def _accepted_errors(weights: Array, errors: Array) -> tuple[Array, Array]:
    """Share of all images that are accepted and wrong, (B, K), and its mean, (B,)."""
    total = weights.sum(axis=1, keepdims=True)
    covered = np.cumsum(weights, axis=1) / total
    wrong = np.cumsum(weights * errors, axis=1) / total
    zeros = np.zeros_like(total)
    covered, wrong = np.hstack([zeros, covered]), np.hstack([zeros, wrong])
    pairs = zip(covered, wrong, strict=True)
    accepted = np.stack([np.interp(COVERAGES, *pair) for pair in pairs])
    return accepted, np.trapezoid(wrong, covered, axis=1)


def _with_interval(area: float, draws: Array, groups: int) -> Figure:
    """An area with Student's t interval on its logarithm, as losses have it."""
    low, high = log_t(area, draws, groups=groups)
    reason = ONE_GROUP if groups < 2 else "nothing is wrong: no interval"
    return Figure.of(area, (low, min(high, 0.5)), reason)


def _deferral(share: float, risks: Array, ends: Array) -> Deferral:
    at = int(np.argmin(np.abs(COVERAGES - (1 - share))))
    low, high = (float(1 - end) for end in ends[at][::-1])
    return Deferral(share, Figure.of(1 - float(risks[at]), (low, high), ONE_GROUP))
