"""Rows of features that are read block by block, where a copy would be too large."""

from collections.abc import Callable, Iterator
from typing import Any, Self, Union

import numpy as np

LARGE = 2**25  # numbers above which features are not copied whole (128 MiB, float32)
BLOCK = 4096  # rows that are read at once

Step = Callable[[np.ndarray], np.ndarray]
Matrix = Union[np.ndarray, "Rows"]


class Rows:
    """Some rows of a matrix; what is computed of them is computed when they are read.

    Indexing gives other `Rows` and copies nothing; ``np.asarray`` reads them all.

    Args:
        matrix: (M, W), in memory or mapped from a file.
        index: (N,) rows of it, in the order in which they are read; all if None.
        steps: Applied to what is read, one after the other: each takes (n, W) and
            gives as many rows, of any width. None may write into what it is given.
        width: Columns after the last step, D.

    Attributes:
        shape: (N, D).
    """

    def __init__(
        self,
        matrix: np.ndarray,
        index: np.ndarray | None = None,
        steps: tuple[Step, ...] = (),
        width: int | None = None,
    ) -> None:
        self._matrix, self._index, self._steps = matrix, index, steps
        n_rows = len(matrix) if index is None else len(index)
        self.shape = (n_rows, matrix.shape[1] if width is None else width)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray | slice) -> "Rows":
        if self._index is not None:
            index = self._index[rows]
        else:
            index = np.arange(len(self))[rows]
        return Rows(self._matrix, index, self._steps, self.shape[1])

    def __matmul__(self, weights: np.ndarray) -> np.ndarray:
        return np.concatenate([block @ weights for block in self.blocks()])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        out = np.empty(self.shape, np.float32 if dtype is None else dtype)
        start = 0
        for block in self.blocks():
            out[start : start + len(block)] = block
            start += len(block)
        return out

    def then(self, step: Step, width: int | None = None) -> Self:
        """The same rows after one more step, of ``width`` columns if that changes."""
        width = self.shape[1] if width is None else width
        return type(self)(self._matrix, self._index, (*self._steps, step), width)

    def read(self, rows: slice | np.ndarray) -> np.ndarray:
        """Some of the rows, (n, D)."""
        block = self._matrix[rows if self._index is None else self._index[rows]]
        for step in self._steps:
            block = step(block)
        return block

    def blocks(self, size: int = BLOCK) -> Iterator[np.ndarray]:
        """All rows in order, at most ``size`` at a time."""
        for start in range(0, len(self), size):
            yield self.read(slice(start, start + size))


def take(X: np.ndarray, index: np.ndarray) -> Matrix:
    """Some rows of features: a copy, or `Rows` where that would be large."""
    return Rows(X, index) if len(index) * X.shape[1] > LARGE else X[index]


def uncopied(X: np.ndarray) -> Matrix:
    """Features as `Rows` where they are large, and else as they are."""
    return Rows(X) if X.size > LARGE else X


def blocks(X: Matrix, size: int = BLOCK) -> Iterator[np.ndarray]:
    """The rows of features in order, at most ``size`` at a time."""
    if isinstance(X, Rows):
        yield from X.blocks(size)
    else:
        for start in range(0, len(X), size):
            yield X[start : start + size]


def moments(X: Matrix) -> tuple[float, float]:
    """Mean and variance of all numbers of features, in float64."""
    total = squares = 0.0
    for block in blocks(X):
        total += float(block.sum(dtype=np.float64))
        squares += float(np.vdot(block, block))
    count = X.shape[0] * X.shape[1]
    mean = total / count
    return mean, max(squares / count - mean**2, 0.0)
