"""Maps: contributions laid over the cells of the last maps, and smooth upsampling.

A map holds margin, not intensity: its cells, and after upsampling its pixels, sum to
what it explains.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from featcache.commands.explain.attribution.base import Array

# Of a channel's training mean: below, it matters by its absence. Chosen by measuring,
# docs/decisions/0021-explain.md.
NEAR_ZERO = 0.5
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
    maximum: bool = False,
    reference: np.ndarray | None = None,
) -> Spread:
    """Lays each channel's contribution over the cells, in proportion to its map.

    A channel that is far less active than usual matters by its absence, which has no
    place: what it adds is spread evenly. So is what a channel adds whose positive and
    negative cells cancel.

    Args:
        A: (h, w, c) maps.
        phi: (c,) contributions.
        maximum: The features are the maxima of the maps and not their means: each
            contribution goes to the cells that reach it.
        reference: (c,) training means, for what is usual; None for 0.
    """
    flat = np.asarray(A, np.float64).reshape(-1, len(phi))
    if maximum:
        share = (flat == flat.max(axis=0)).astype(np.float64)
        value = flat.max(axis=0)
    else:
        share, value = flat, flat.mean(axis=0)
    total = share.sum(axis=0)
    lost = np.abs(total) <= CANCELLED * np.abs(share).sum(axis=0)
    if reference is not None:
        lost |= np.abs(value) <= NEAR_ZERO * np.abs(reference)
    weights = np.divide(phi, total, out=np.zeros(len(phi)), where=~lost)
    even = float(phi[lost].sum())
    cells = share @ weights + even / len(flat)
    whole = np.abs(phi).sum() or 1.0
    return Spread(
        cells.reshape(A.shape[:2]), even, float(np.abs(phi[lost]).sum() / whole)
    )


def pooled_gradient(A: np.ndarray, g: Array, *, maximum: bool = False) -> Array:
    """Gradient (h, w, c) on maps, from that on their pooled features ``g`` (c,).

    The mean gives each of its H x W cells the same slope, g / (H W); the maximum gives
    it to the cell that is taken, and equal parts to cells that tie.
    """
    if not maximum:
        return np.broadcast_to(g / (A.shape[0] * A.shape[1]), A.shape)
    top = (A.max(axis=(0, 1)) == A).astype(np.float64)
    return np.asarray(top / top.sum(axis=(0, 1)) * g)


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


def upsampled(cells: Array, side: int) -> Array:
    """Draws cells (h, w) smoothly on (side, side) pixels; the sum is kept.

    Each cell becomes a quadratic B-spline of three cells' width: no peak appears that
    is not one of the cells, and nothing is finer than they are.
    """
    rows, columns = (_spline(side, n) for n in cells.shape)
    return np.asarray(rows @ cells @ columns.T)


@lru_cache(maxsize=32)
def _spline(side: int, cells: int) -> Array:
    """(side, cells) weights whose columns sum to one; mirrored at the edges."""
    at = (np.arange(side) + 0.5) * cells / side - 0.5
    away = np.abs(at[:, None] - np.arange(-1, cells + 1))
    near = np.where(away < 0.5, 0.75 - away**2, np.maximum(1.5 - away, 0) ** 2 / 2)
    inner = near[:, 1:-1].copy()
    inner[:, 0] += near[:, 0]
    inner[:, -1] += near[:, -1]
    return np.asarray(inner / inner.sum(axis=0))
