"""Pairs of rows that are alike, found without comparing each row with all others.

A row's shadow is its part in a few directions, and the length of what is left. The
product of two shadows is at least that of the rows (Cauchy and Schwarz), so only pairs
whose shadows are near enough are compared in full: none is missed. Shadows are sorted
into small boxes by a k-d tree, and boxes that are too far apart are never compared.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from featcache.core.parallel import THREADS, one_thread

_SAMPLE = 4096  # rows that the directions are computed from
_BOX = 256  # rows of a box, about
_BOXES = 32  # that a box is compared with at a time
_BLOCK = 8192
_SLACK = 1e-4  # far above the rounding of float32
Scale = Callable[[np.ndarray], NDArray[np.float32]]


class Pairs(NamedTuple):
    """Some pairs.

    Attributes:
        i: (P,) rows.
        j: (P,) rows of the others.
        product: (P,) float64.
    """

    i: NDArray[np.intp]
    j: NDArray[np.intp]
    product: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Boxes:
    """Rows sorted into boxes.

    Attributes:
        rows: (N, ...) as they came.
        scale: What brings them to unit length.
        basis: (D, K - 1) the directions.
        order: (N,) rows, box by box.
        shadows: (N, K) float32 in that order.
        edges: (B + 1,) where the boxes begin in that order, and N.
        low: (B, K) least shadow of each box.
        high: (B, K) largest.
    """

    rows: np.ndarray
    scale: Scale
    basis: NDArray[np.float32]
    order: NDArray[np.intp]
    shadows: NDArray[np.float32]
    edges: NDArray[np.intp]
    low: NDArray[np.float32]
    high: NDArray[np.float32]


def sort_into_boxes(
    rows: np.ndarray, scale: Scale, *, basis: NDArray[np.float32] | int = 24
) -> Boxes:
    """Sorts rows, so that others can be compared with them.

    Args:
        rows: (N, ...) in any form.
        scale: Brings some of the rows to unit length, (n, D) float32, or zeros.
        basis: Orthonormal directions (D, K), or how many to compute.
    """
    with one_thread():
        if isinstance(basis, int):
            basis = _directions(rows, basis, scale)
        return _boxes(rows, basis, scale)


def pairs_above(
    rows: np.ndarray,
    limit: float,
    *,
    scale: Scale,
    others: Boxes | None = None,
    joined: NDArray[np.intp] | None = None,
) -> Iterator[Pairs]:
    """Finds the pairs of rows whose product is above a limit.

    Args:
        rows: (N, ...) in any form.
        limit: The limit, above 0.
        scale: Brings some of the rows to unit length, (n, D) float32, or zeros.
        others: What to compare the rows with; without, the rows are compared with one
            another.
        joined: (N,) numbers; pairs of the same number are left out. May be changed
            between two results.

    Yields:
        Pairs in no particular order, each once; without ``others`` i < j.
    """
    if not len(rows):
        return
    left = sort_into_boxes(rows, scale, basis=24 if others is None else others.basis)
    right = left if others is None else others

    def compare(task: tuple[int, NDArray[np.intp]]) -> Pairs:
        box, near = task
        i, j = _candidates(left, box, right, near, limit)
        if others is None:
            i, j = i[i < j], j[i < j]
        i, j = left.order[i], right.order[j]
        if joined is not None:
            apart = joined[i] != joined[j]
            i, j = i[apart], j[apart]
        product = products(left, i, right, j)
        above = product > limit
        i, j = i[above], j[above]
        if others is None:
            i, j = np.minimum(i, j), np.maximum(i, j)
        return Pairs(i, j, product[above])

    n_threads = int(os.environ.get(THREADS) or 0) or os.cpu_count() or 1
    tasks = _near_boxes(left, right, limit)
    with one_thread(), ThreadPoolExecutor(n_threads) as pool:
        while some := list(islice(tasks, 2 * n_threads)):
            yield from pool.map(compare, some)


def _directions(rows: np.ndarray, most: int, scale: Scale) -> NDArray[np.float32]:
    """Orthonormal directions (D, K) that hold most of the rows' length."""
    from sklearn.utils.extmath import randomized_svd

    sample = scale(rows[:: -(-len(rows) // _SAMPLE)])
    k = min(most, *sample.shape)
    _, _, directions = randomized_svd(sample, k, n_iter=2, random_state=0)
    return np.ascontiguousarray(directions.T, dtype=np.float32)


def _boxes(rows: np.ndarray, basis: NDArray[np.float32], scale: Scale) -> Boxes:
    from sklearn.neighbors import KDTree

    shadows = np.empty((len(rows), basis.shape[1] + 1), np.float32)
    for start in range(0, len(rows), _BLOCK):
        units = scale(rows[start : start + _BLOCK])
        inside = units @ basis
        shadows[start : start + _BLOCK, :-1] = inside
        rest = units - inside @ basis.T
        shadows[start : start + _BLOCK, -1] = np.linalg.norm(rest, axis=1)
    _, order, nodes, bounds = map(
        np.asarray, KDTree(shadows, leaf_size=_BOX).get_arrays()
    )
    leaves = np.flatnonzero(nodes["is_leaf"])
    leaves = leaves[np.argsort(nodes["idx_start"][leaves])]
    edges = np.append(nodes["idx_start"][leaves], len(rows))
    low, high = bounds[:, leaves].astype(np.float32)
    return Boxes(rows, scale, basis, order, shadows[order], edges, low, high)


def _near_boxes(
    left: Boxes, right: Boxes, limit: float
) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """Each box of the left with those of the right that are near it, some at a time."""
    for box, low, high in zip(count(), left.low, left.high):
        first = box if left is right else 0
        gaps = _gaps(right.low[first:], right.high[first:], low, high)
        near = np.flatnonzero(gaps <= _farthest(limit)) + first
        for start in range(0, len(near), _BOXES):
            yield box, near[start : start + _BOXES]


def _candidates(
    left: Boxes, box: int, right: Boxes, near: NDArray[np.intp], limit: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs of a box and others whose shadows are near, by position in their orders."""
    start, end = left.edges[box : box + 2]
    at = np.concatenate([np.arange(*right.edges[b : b + 2]) for b in near])
    shadows = right.shadows[at]
    inside = _gaps(shadows, shadows, left.low[box], left.high[box]) <= _farthest(limit)
    at = at[inside]
    products = left.shadows[start:end] @ shadows[inside].T
    i, j = divmod(np.flatnonzero(products.ravel() > limit - _SLACK), len(at) or 1)
    return i + start, at[j]


def _gaps(
    low: np.ndarray, high: np.ndarray, other_low: np.ndarray, other_high: np.ndarray
) -> np.ndarray:
    """Squared distances of boxes (n, K) to another."""
    apart = np.maximum(low - other_high, other_low - high)
    np.maximum(apart, 0, out=apart)
    squares: np.ndarray = np.einsum("ij,ij->i", apart, apart)
    return squares


def _farthest(limit: float) -> float:
    """Squared distance of two rows of unit length whose product is the limit."""
    return 2 * (1 - limit + _SLACK)


def products(
    left: Boxes, i: np.ndarray, right: Boxes, j: np.ndarray
) -> NDArray[np.float64]:
    """The products (P,) of rows ``i`` and others ``j`` in double precision."""
    own, at = np.unique(i, return_inverse=True)
    other, to = np.unique(j, return_inverse=True)
    a, b = left.scale(left.rows[own]), right.scale(right.rows[other])
    values: NDArray[np.float64] = (a.astype(float) @ b.astype(float).T)[at, to]
    return values
