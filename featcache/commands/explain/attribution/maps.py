"""Maps: contributions laid over the cells of the last maps, and smooth upsampling.

A map holds margin, not intensity: its cells, and after upsampling its pixels, sum to
what it explains.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from featcache.backbones.pooling import LEAST, POOLINGS, POWER, Pooling
from featcache.commands.explain.attribution.base import Array
from featcache.commands.explain.frame import WHOLE, Area
from featcache.core.taps import AVG, GEM, MAX

# Of a channel's training mean: below, it matters by its absence. Chosen by measuring,
# docs/decisions/0021-explain.md.
NEAR_ZERO = 0.5
MEAN = POOLINGS[AVG]
CANCELLED = 0.05  # of the sum of a channel's absolute values, that its sum is


class Spread(NamedTuple):
    """Contributions of one block over its cells.

    Attributes:
        cells: (h, w); they sum to the contributions.
        even: The sum of those that were spread evenly.
        even_share: Their absolute values, as a share of those of all.
    """

    cells: Array
    even: float
    even_share: float


def spread(
    A: np.ndarray,
    phi: Array,
    *,
    pooling: Pooling = MEAN,
    reference: np.ndarray | None = None,
) -> Spread:
    """Lays each channel's contribution over the cells, in proportion to its map.

    What a feature adds goes to the cells it was pooled from: for a mean in proportion
    to them, for a maximum to those that reach it, for a generalised mean in proportion
    to their powers; for the mean of a region, to the cells of that region alone.

    A channel that is far less active than usual matters by its absence, which has no
    place: what it adds is spread evenly. So is what a channel adds whose positive and
    negative cells cancel.

    Args:
        A: (h, w, c) maps.
        phi: (regions * c,) contributions, region by region.
        pooling: How the features were pooled from the maps.
        reference: (regions * c,) training means, for what is usual; None for 0.
    """
    usual = np.full(len(phi), np.nan) if reference is None else reference
    cells, even, lost = np.zeros(A.shape[:2]), 0.0, 0.0
    pairs = zip(*(np.split(a, pooling.factor) for a in (phi, usual)), strict=True)
    regions = pooling.regions(*A.shape[:2])
    for region, (own, own_usual) in zip(regions, pairs, strict=True):
        part, own_even, own_lost = _spread_region(A[region], own, pooling, own_usual)
        cells[region] += part
        even, lost = even + own_even, lost + own_lost
    return Spread(cells, even, lost / (np.abs(phi).sum() or 1.0))


def everywhere(phi: Array) -> Spread:
    """Contributions of what has no place in the image, such as a class token."""
    whole = float(phi.sum())
    return Spread(np.array([[whole]]), whole, 1.0)


def _spread_region(
    A: np.ndarray, phi: Array, pooling: Pooling, usual: np.ndarray
) -> tuple[Array, float, float]:
    """Cells of one region, and the sums that were spread evenly: signed, absolute."""
    flat = np.asarray(A, np.float64).reshape(-1, len(phi))
    share, value = flat, flat.mean(axis=0)
    if pooling.kind == MAX:
        value = flat.max(axis=0)
        share = (flat == value).astype(np.float64)
    elif pooling.kind == GEM:
        share = np.maximum(flat, LEAST) ** POWER
        value = share.mean(axis=0) ** (1 / POWER)
    total = share.sum(axis=0)
    lost = np.abs(total) <= CANCELLED * np.abs(share).sum(axis=0)
    lost |= np.abs(value) <= NEAR_ZERO * np.abs(usual)  # never, where that is NaN
    weights = np.divide(phi, total, out=np.zeros(len(phi)), where=~lost)
    even = float(phi[lost].sum())
    cells = share @ weights + even / len(flat)
    return cells.reshape(A.shape[:2]), even, float(np.abs(phi[lost]).sum())


def pooled_gradient(A: np.ndarray, g: Array, *, pooling: Pooling = MEAN) -> Array:
    """Gradient (h, w, c) on maps, from that on their pooled features ``g``.

    The mean gives each of its H x W cells the same slope, g / (H W), and that of a
    region the cells of the region; the maximum gives it to the cell that is taken, and
    equal parts to cells that tie; the generalised mean the more, the larger a cell is.
    """
    slopes = np.zeros(A.shape)
    regions, parts = pooling.regions(*A.shape[:2]), np.split(g, pooling.factor)
    for region, own in zip(regions, parts, strict=True):
        part = np.asarray(A[region], np.float64)
        weights = np.ones(part.shape)
        if pooling.kind == MAX:
            weights = (part.max(axis=(0, 1)) == part).astype(np.float64)
            weights *= part.shape[0] * part.shape[1] / weights.sum(axis=(0, 1))
        elif pooling.kind == GEM:
            weights = np.where(part > LEAST, part / pooling(part[None])[0], 0) ** 2
        slopes[region] += weights * own / (part.shape[0] * part.shape[1])
    return slopes


def grad_cam(A: np.ndarray, G: Array) -> Array:
    """Grad-CAM (Selvaraju et al. 2017) before its ReLU: (h, w).

    Args:
        A: (h, w, c) maps.
        G: (h, w, c) gradient of the margin on them.
    """
    return np.asarray(A @ G.mean(axis=(0, 1)))


def grad_cam_plus(A: np.ndarray, G: Array) -> Array:
    """Grad-CAM++ (Chattopadhay et al. 2018) before its ReLU: (h, w).

    Its higher derivatives are those of exp(margin), whose ratios need the first only.
    """
    square, cube = G**2, G**3
    below = 2 * square + A.sum(axis=(0, 1)) * cube
    alpha = np.divide(square, below, out=np.zeros_like(below), where=below != 0)
    return np.asarray(A @ (alpha * np.maximum(G, 0)).sum(axis=(0, 1)))


def hirescam(A: np.ndarray, G: Array) -> Array:
    """HiResCAM (Draelos and Carin 2020): (h, w), cell by cell, with its sign."""
    return np.asarray((A * G).sum(axis=-1))


def cam_spread(A: np.ndarray, G: Array, total: float) -> Spread:
    """Gradient times map in its place, and the rest of ``total`` evenly.

    For a linear head on means these are class activation maps (Zhou et al. 2016): each
    cell has what the head would say of a picture that is like this cell all over.

    Args:
        A: (h, w, c) maps.
        G: (h, w, c) gradient of the margin on them.
        total: What the cells are to sum to.
    """
    cells = hirescam(A, G)
    even = total - float(cells.sum())
    whole = np.abs(cells).sum() + abs(even) or 1.0
    return Spread(cells + even / cells.size, even, abs(even) / whole)


CAMS = {"grad-cam": grad_cam, "grad-cam++": grad_cam_plus, "hirescam": hirescam}
SIGNED = ("hirescam",)  # the others keep what speaks for the class alone


def upsampled(cells: Array, side: int, area: Area = WHOLE) -> Array:
    """Draws cells (h, w) smoothly on (side, side) pixels; the sum is kept.

    Each cell becomes a quadratic B-spline of three cells' width: no peak appears that
    is not one of the cells, and nothing is finer than they are.

    Args:
        cells: The cells.
        side: Of the square in pixels.
        area: The part of the square that the cells lie on; beside it all is 0.
    """
    rows = _spline(side, cells.shape[0], area.top, area.bottom)
    columns = _spline(side, cells.shape[1], area.left, area.right)
    return np.asarray(rows @ cells @ columns.T)


@lru_cache(maxsize=32)
def _spline(side: int, cells: int, start: float, end: float) -> Array:
    """(side, cells) weights whose columns sum to one; mirrored at the edges."""
    pixels = ((np.arange(side) + 0.5) / side - start) / (end - start)
    at = np.where((pixels >= 0) & (pixels <= 1), pixels * cells - 0.5, np.inf)
    away = np.abs(at[:, None] - np.arange(-1, cells + 1))
    near = np.where(away < 0.5, 0.75 - away**2, np.maximum(1.5 - away, 0) ** 2 / 2)
    inner = near[:, 1:-1].copy()
    inner[:, 0] += near[:, 0]
    inner[:, -1] += near[:, -1]
    between = inner.sum(axis=0) == 0  # cells far smaller than pixels
    middles = start + (np.arange(cells) + 0.5) / cells * (end - start)
    inner[(middles[between] * side).astype(int), between] = 1
    return np.asarray(inner / inner.sum(axis=0))
