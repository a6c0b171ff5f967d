"""Calibration of one class against the rest: intercept, slope and a flexible curve.

One-vs-rest logistic recalibration (Van Calster et al., BMC Medicine 2019, levels "weak"
and "moderate"): with x the log-odds of the predicted probability, the intercept is that
of logit P(class) = a + x, the slope b that of logit P(class) = a + b x.
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq, minimize
from scipy.special import expit, log_expit

from featcache.evaluation.calibration import log_odds
from featcache.evaluation.external.base import CurvePoint
from featcache.evaluation.figures import ONE_GROUP, Figure, groups_of, student
from featcache.evaluation.metrics.base import Array, ratio
from featcache.evaluation.metrics.interval import wilson
from featcache.evaluation.metrics.resampling import RESAMPLES, bootstrap_sums
from featcache.evaluation.operating_points.base import Mask

SPAN = 0.75  # share of the images that a point of the curve rests on
POINTS = 11
_STEEPEST = 1000.0  # of a slope that was fitted and did not run away
_FARTHEST = 100.0  # of an intercept: log-odds are at most 34.5
_SINGULAR = 1e-9


def intercept_and_slope(
    inside: Mask,
    p: Array,
    groups: ArrayLike,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[Figure, Figure]:
    """Calibration intercept and slope, with intervals over groups.

    Each resample takes one Newton step from the estimate of the whole sample, on its
    own gradient and Hessian, which are sums over groups (the k-step bootstrap:
    Davidson and MacKinnon, Int. Econ. Rev. 1999; Andrews, Econometrica 2002). The
    interval is Student's t with the groups of the rarer side.

    Args:
        inside: Whether each image is of the class, (N,).
        p: Its predicted probability of the class, (N,).
        groups: Its group, (N,).
        resamples: Bootstrap draws.
        seed: Of the draws.
    """
    if inside.all() or not inside.any():
        return (Figure.none("one class"),) * 2
    x = log_odds(p)
    fewest = int(groups_of(np.stack([inside, ~inside], axis=1), groups).min())
    shift = _intercept(inside, x)
    line = _line(inside, x)
    a, b = line if isinstance(line, tuple) else (shift, 1.0)
    q, r = expit(shift + x), expit(a + b * x)
    weight = r * (1 - r)
    columns = [inside - q, q * (1 - q), inside - r, (inside - r) * x]
    columns += [weight, weight * x, weight * x**2]
    table = np.stack(columns, axis=1)
    sums = bootstrap_sums(table, groups, resamples=resamples, seed=seed).T
    drawn_shift = shift + ratio(sums[0], sums[1])
    intercept = student(shift, drawn_shift, groups=fewest, reason=ONE_GROUP)
    if isinstance(line, str):
        return intercept, Figure.none(line)
    g0, g1, h00, h01, h11 = sums[2:]
    determinant = h00 * h11 - h01**2
    sound = np.where(determinant > _SINGULAR * h00 * h11, determinant, 0.0)
    slopes = b + ratio(h00 * g1 - h01 * g0, sound)
    return intercept, student(b, slopes, groups=fewest, reason=ONE_GROUP)


def _intercept(inside: Mask, x: Array) -> float:
    """The intercept with which as many images are expected as there are."""

    def surplus(a: float) -> float:
        return float(expit(a + x).mean() - inside.mean())

    return float(brentq(surplus, -_FARTHEST, _FARTHEST))


def _line(inside: Mask, x: Array) -> tuple[float, float] | str:
    """Intercept and slope of the likelihood's maximum, or why there is none."""
    if np.ptp(x) < _SINGULAR:
        return "all probabilities are the same"
    low, high = x[inside], x[~inside]
    if low.min() >= high.max() or low.max() <= high.min():
        return "a threshold separates the class perfectly: no slope is the steepest"
    sign = np.where(inside, 1.0, -1.0)
    design = np.stack([np.ones_like(x), x], axis=1)

    def loss(numbers: Array) -> float:
        return float(-log_expit(sign * (design @ numbers)).mean())

    def gradient(numbers: Array) -> Array:
        return np.asarray(design.T @ (expit(design @ numbers) - inside) / len(x))

    def hessian(numbers: Array) -> Array:
        q = expit(design @ numbers)
        return np.asarray((design * (q * (1 - q))[:, None]).T @ design / len(x))

    fit = minimize(
        loss,
        np.array([0.0, 1.0]),
        jac=gradient,
        hess=hessian,
        method="trust-exact",
        options={"gtol": 1e-8},
    )
    a, b = map(float, fit.x)
    if not (math.isfinite(b) and abs(b) < _STEEPEST):
        return "no slope fits"
    return a, b


def curve(
    inside: Mask,
    p: Array,
    groups: ArrayLike,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[CurvePoint]:
    """The flexible calibration curve: the observed share by predicted probability.

    Loess as in Austin and Steyerberg (Stat. Med. 2014): a straight line about each
    point, fitted on the nearest 75 % of the images with tricube weights; clipped to 0
    and 1. The points are quantiles of the predicted probabilities. Intervals are those
    of `metrics.wilson` at each point.

    Args:
        inside: Whether each image is of the class, (N,).
        p: Its predicted probability of the class, (N,).
        groups: Its group, (N,).
        resamples: Bootstrap draws.
        seed: Of the draws.

    Returns:
        At most 11 points, by rising probability; a single one where all
        probabilities are the same.
    """
    at = np.unique(np.quantile(p, np.linspace(0.02, 0.98, POINTS)).round(6))
    away = p[:, None] - at
    weights = _tricube(np.abs(away))
    table = [weights, weights * away, weights * away**2]
    table += [weights * inside[:, None], weights * away * inside[:, None]]
    columns = np.concatenate(table, axis=1)
    whole = _local_line(columns.sum(axis=0)[None], len(at))[0]
    sums = bootstrap_sums(columns, groups, resamples=resamples, seed=seed)
    draws = _local_line(sums, len(at))
    based_on = groups_of(weights > 0, groups)
    images = (weights > 0).sum(axis=0)
    return [
        _point(at[k], whole[k], draws[:, k], int(based_on[k]), int(images[k]))
        for k in range(len(at))
    ]


def _point(
    at: float, value: float, draws: Array, groups: int, images: int
) -> CurvePoint:
    ends = wilson(value, draws, groups=groups, images=images)
    return CurvePoint(float(at), Figure.of(value, ends, ONE_GROUP))


def _tricube(distance: Array) -> Array:
    """Tricube weights (N, K) of distances; those of the nearest share are positive."""
    rank = min(math.ceil(SPAN * len(distance)), len(distance)) - 1
    reach = np.partition(distance, rank, axis=0)[rank] * (1 + 1e-6)
    scaled = np.where(reach > 0, distance / np.where(reach > 0, reach, 1), distance > 0)
    return np.asarray((1 - scaled.clip(0, 1) ** 3) ** 3)


def _local_line(sums: Array, points: int) -> Array:
    """Values (B, K) at distance 0 from the sums (B, 5 K) of weighted least squares."""
    s0, s1, s2, t0, t1 = np.split(sums, [points * k for k in range(1, 5)], axis=1)
    determinant = s0 * s2 - s1**2
    is_line = determinant > _SINGULAR * np.maximum(s0 * s2, _SINGULAR)
    line = ratio(s2 * t0 - s1 * t1, np.where(is_line, determinant, 0.0))
    return np.asarray(np.where(is_line, line, ratio(t0, s0)).clip(0.0, 1.0))
