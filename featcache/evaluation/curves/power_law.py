"""Inverse power laws of the error: error(n) = floor + scale x n^-exponent.

The usual law of learning curves (Figueroa et al., BMC Med. Inform. Decis. Mak. 2012;
Viering and Loog, IEEE TPAMI 2023). For a given exponent the least squares are linear,
so that a grid of exponents finds the best law of many curves at once, and no search
can end in a local minimum.
"""

from dataclasses import dataclass

import numpy as np

from featcache.evaluation.metrics.base import Array

EXPONENTS = np.geomspace(0.05, 4.0, 90)


@dataclass(frozen=True, eq=False)
class PowerLaws:
    """One law for each of B curves.

    Attributes:
        floor: The error that no number of groups removes, (B,), at least 0.
        scale: The rest of the error with ``unit`` groups, (B,), at least 0.
        exponent: How fast that rest falls, (B,).
        unit: Number of groups.
        misfit: Weighted sum of squared residuals, (B,).
    """

    floor: Array
    scale: Array
    exponent: Array
    unit: float
    misfit: Array

    def errors(self, groups: Array) -> Array:
        """The error with each number of groups (S,), (B, S)."""
        falls = (groups / self.unit) ** -self.exponent[:, None]
        return np.asarray(self.floor[:, None] + self.scale[:, None] * falls)


def fit_power_laws(groups: Array, errors: Array) -> PowerLaws:
    """Fits a law to each curve by weighted least squares.

    A size weighs as many times as it has groups: the more were trained on, the less a
    mean over draws of them varies. A law never rises.

    Args:
        groups: Numbers of groups, (S,), at least three, none twice.
        errors: The errors of B curves with each of them, (B, S).
    """
    unit = float(groups.max())
    weights = groups / groups.sum()
    zeros = np.zeros(len(errors))
    best = PowerLaws(zeros, zeros, zeros, unit, np.full(len(errors), np.inf))
    for exponent in EXPONENTS:
        falls = (groups / unit) ** -exponent
        floor, scale = _least_squares(falls, errors, weights)
        residuals = errors - floor[:, None] - scale[:, None] * falls
        misfit = np.square(residuals) @ weights
        better = misfit < best.misfit
        best = PowerLaws(
            np.where(better, floor, best.floor),
            np.where(better, scale, best.scale),
            np.where(better, exponent, best.exponent),
            unit,
            np.where(better, misfit, best.misfit),
        )
    return best


def _least_squares(falls: Array, errors: Array, weights: Array) -> tuple[Array, Array]:
    """Floor and scale (B,) of a given fall (S,), neither of them negative."""
    mean_fall, mean = falls @ weights, errors @ weights
    away = (falls - mean_fall) * weights
    scale = np.maximum(errors @ away / (falls @ away), 0.0)
    floor = mean - scale * mean_fall
    through_zero = np.maximum(
        errors @ (falls * weights) / (np.square(falls) @ weights), 0.0
    )
    negative = floor < 0
    return np.where(negative, 0.0, floor), np.where(negative, through_zero, scale)
