"""Figures that say how faithful a map is: without truth, and against a mask."""

import numpy as np

from featcache.commands.explain.attribution.base import Array
from featcache.commands.explain.attribution.maps import upsampled

STEPS = 20  # of the deletion and insertion curves


def ranks(values: Array) -> Array:
    """(S, S) share of the pixels ranked before each, the largest value first."""
    order = np.argsort(-values, axis=None, kind="stable")
    shares = np.empty(values.size)
    shares[order] = np.arange(values.size) / values.size
    return shares.reshape(values.shape)


def area(curve: Array) -> float:
    """Area below a curve of equal steps from 0 to 1 (trapezoids)."""
    return float((curve[1:] + curve[:-1]).sum() / 2 / (len(curve) - 1))


def inside(values: Array, mask: np.ndarray) -> float:
    """Share of the positive evidence (S, S) that lies in a mask; NaN without any."""
    positive = np.maximum(values, 0)
    whole = positive.sum()
    return float(positive[mask].sum() / whole) if whole > 0 else float("nan")


def points(values: Array, mask: np.ndarray) -> float:
    """The pointing game (Zhang et al. 2018): 1 if the largest value is in a mask.

    Without tolerance around it. Where several pixels are the largest, their share in
    the mask.
    """
    return float(mask[values == values.max()].mean())


def noise(side: int, *, seed: int, cells: int = 7) -> Array:
    """A map of nothing, (side, side): what any figure has to be compared with."""
    values = np.random.default_rng(seed).normal(size=(cells, cells))
    return upsampled(values, side)
