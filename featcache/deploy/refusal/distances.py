"""Refusal by distance in the space of embeddings."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcache.core.parallel import one_thread
from featcache.deploy.refusal.record import array, unit_rows

Array = NDArray[np.float64]

NEIGHBOURS = 5
MOST_REFERENCES = 5000
DIRECTIONS = 256
_MOST_ROWS = 2048  # of a covariance of more columns than that
_LEAST = 1e-3  # variance in a direction, of the mean variance
_CHUNK = 1024  # rows compared at a time


@dataclass(frozen=True)
class Mahalanobis:
    """Distance from the mean in standard deviations, by a shrunk covariance.

    Of the covariance the largest directions are kept; in all others the variance is
    their mean. Embeddings are square-rooted first (with their sign).

    Attributes:
        mean: (D,).
        directions: (R, D) float32, orthonormal; R at most 256.
        variances: (R + 1,) along each direction, and along any other.
    """

    mean: Array
    directions: NDArray[np.float32]
    variances: Array

    @classmethod
    def fit(cls, X: NDArray[np.float32]) -> Self:
        """Fits mean and covariance of (N, D) training embeddings.

        Shrunk towards a multiple of the identity by Ledoit and Wolf (2004). Of more
        than 2,048 columns, the first 2,048 rows are used.
        """
        if X.shape[1] > _MOST_ROWS:
            X = X[:_MOST_ROWS]
        rooted = _rooted(X)
        mean = rooted.mean(axis=0)
        scale = float(np.square(rooted).mean())
        rooted -= mean
        variances, directions = _spectrum(rooted)
        level, shrinkage = _shrinkage(rooted, variances)
        floor = max(_LEAST * level, 1e-9 * scale, 1e-12)
        kept = min(DIRECTIONS, len(directions))
        width = X.shape[1]
        others = max(level * width - float(variances[:kept].sum()), 0.0)
        all_variances = np.append(variances[:kept], others / max(width - kept, 1))
        shrunk = (1 - shrinkage) * all_variances + shrinkage * level
        return cls(mean, directions[:kept], np.maximum(shrunk, floor))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """As arrays that a file can hold."""
        return {
            "mean": self.mean,
            "directions": self.directions,
            "variances": self.variances,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Reads what `to_arrays` gave.

        Raises:
            ValueError: Something else.
        """
        mean = array(arrays, "mean", np.float64, (None,))
        directions = array(arrays, "directions", np.float32, (None, mean.size))
        variances = array(arrays, "variances", np.float64, (len(directions) + 1,))
        unit_rows(directions, "directions")
        if len(directions) > min(DIRECTIONS, mean.size) or not (variances > 0).all():
            raise ValueError("a covariance that is none")
        return cls(mean, directions, variances)

    def distance(self, X: NDArray[np.float32]) -> Array:
        """(N,) distances of (N, D) embeddings."""
        parts = [self._distance(X[i : i + _CHUNK]) for i in range(0, len(X), _CHUNK)]
        return np.concatenate([np.empty(0), *parts])

    def _distance(self, X: NDArray[np.float32]) -> Array:
        away = _rooted(X) - self.mean
        along = np.square(away @ self.directions.T.astype(np.float64))
        beside = np.square(away).sum(axis=1) - along.sum(axis=1)
        inside = (along / self.variances[:-1]).sum(axis=1)
        squares: Array = inside + np.maximum(beside, 0) / self.variances[-1]
        return np.sqrt(squares)


def _rooted(X: NDArray[np.float32]) -> Array:
    root: Array = np.abs(X, dtype=np.float64)
    np.sqrt(root, out=root)
    return np.asarray(np.copysign(root, X, out=root))


def _spectrum(centred: Array) -> tuple[Array, NDArray[np.float32]]:
    """Variances and directions of centred rows, the largest first, none of 0."""
    rows, width = centred.shape
    wide = rows < width
    product = centred @ centred.T if wide else centred.T @ centred
    with one_thread():  # more are slower where others use the processor too
        variances, vectors = np.linalg.eigh(product / rows)
    order = np.argsort(variances)[::-1]
    order = order[variances[order] > 1e-10 * max(variances.max(), 1e-300)]
    variances, vectors = variances[order], vectors[:, order]
    if wide:
        vectors = centred.T @ (vectors / np.sqrt(rows * variances))
    return variances, np.ascontiguousarray(vectors.T, np.float32)


def _shrinkage(centred: Array, variances: Array) -> tuple[float, float]:
    """Mean variance, and the share of it that replaces the covariance.

    What scikit-learn's LedoitWolf computes, from the variances along directions.
    """
    rows, width = centred.shape
    squares = np.square(centred).sum(axis=1)
    level = float(squares.mean()) / width
    second = float(np.square(variances).sum())
    spread = second / width - level**2
    noise = (float(np.square(squares).mean()) - second) / (width * rows)
    return level, 0.0 if spread <= 0 else min(noise, spread) / spread


@dataclass(frozen=True)
class Neighbours:
    """Cosine distance to the fifth nearest training embedding.

    Attributes:
        rows: (M, D) float16 of unit norm; M at most 5,000.
        k: Of the neighbour, at most M.
    """

    rows: NDArray[np.float16]
    k: int

    @classmethod
    def fit(cls, X: NDArray[np.float32]) -> Self:
        """Keeps training embeddings (M, D)."""
        return cls(_unit(X).astype(np.float16), min(NEIGHBOURS, len(X)))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """As arrays that a file can hold."""
        return {"reference": self.rows}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Reads what `to_arrays` gave.

        Raises:
            ValueError: Something else.
        """
        rows = array(arrays, "reference", np.float16, (None, None))
        unit_rows(rows, "reference")
        if len(rows) > MOST_REFERENCES:
            raise ValueError(f"{len(rows)} reference rows")
        return cls(rows, min(NEIGHBOURS, len(rows)))

    @cached_property
    def _reference(self) -> NDArray[np.float32]:
        return _unit(self.rows.astype(np.float32))

    def distance(self, X: NDArray[np.float32]) -> tuple[NDArray[np.int64], Array]:
        """Compares embeddings (N, D).

        Returns:
            (N, k) rows of the nearest training embeddings, the nearest first, and their
            distances: 0 of one direction, 1 at right angles, 2 of opposite ones.
        """
        parts = [
            self._distance(_unit(X[start : start + _CHUNK]))
            for start in range(0, len(X), _CHUNK)
        ]
        rows, apart = zip(*parts, strict=True) if parts else ((), ())
        none = np.empty((0, self.k))
        return (
            np.concatenate([none.astype(np.int64), *rows]),
            np.concatenate([none, *apart]),
        )

    def _distance(self, X: NDArray[np.float32]) -> tuple[NDArray[np.int64], Array]:
        apart = 1 - X @ self._reference.T
        rows = np.sort(np.argpartition(apart, self.k - 1, axis=1)[:, : self.k], axis=1)
        near = np.take_along_axis(apart, rows, axis=1)
        order = np.argsort(near, axis=1, kind="stable")
        near = np.take_along_axis(near, order, axis=1)
        return np.take_along_axis(rows, order, axis=1), np.maximum(near, np.zeros(1))


def _unit(X: NDArray[np.float32]) -> NDArray[np.float32]:
    # Divided by the largest first: squares of huge numbers overflow.
    X = X / np.maximum(np.abs(X).max(axis=1, keepdims=True), np.float32(1e-30))
    norms = np.linalg.norm(X, axis=1, keepdims=True)
    return np.asarray(X / np.maximum(norms, np.float32(1e-30)), np.float32)


def sample_references(
    labels: ArrayLike, groups: ArrayLike, seed: int, most: int = MOST_REFERENCES
) -> NDArray[np.int64]:
    """Rows to keep: an image of each group before a second, classes in turn.

    Args:
        labels: Class of each row, (N,).
        groups: Group of each row, (N,).
        seed: Of the order.
        most: Rows to keep.

    Returns:
        (min(N, most),) rows, in that order.
    """
    labels, groups = np.asarray(labels), np.asarray(groups)
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(_turns(groups[order]), kind="stable")]
    order = order[np.argsort(_turns(labels[order]), kind="stable")]
    return order[:most]


def _turns(names: NDArray[np.generic]) -> NDArray[np.int64]:
    """How many equal names come before each."""
    _, codes = np.unique(names, return_inverse=True)
    order = np.argsort(codes, kind="stable")
    starts = np.r_[0, np.cumsum(np.bincount(codes))[:-1]]
    turns = np.empty(len(names), np.int64)
    turns[order] = np.arange(len(names)) - starts[codes[order]]
    return turns
