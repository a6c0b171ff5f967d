"""Linear fits that read their rows block by block."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import log_softmax

from featcache.heads.logistic import Regression
from featcache.heads.rows import Matrix, Rows, blocks

SAMPLED = 8_192  # rows that tell the principal directions, which only scale the steps


@dataclass(frozen=True)
class BlockRegression(Regression):
    """The same fits as `logistic.Regression`, for rows that cannot be copied.

    Each block is in float64 while it is read: with products of float32 the loss is
    too rough for the last steps where classes are far apart.

    Args:
        Z: (N, D) scaled features, float32.
    """

    Z: Matrix  # type: ignore[assignment]

    @cached_property
    def directions(self) -> tuple[np.ndarray, np.ndarray]:
        """Those of rows at even distances, see `Regression.directions`."""
        rows = np.linspace(0, len(self.Z) - 1, min(SAMPLED, len(self.Z))).astype(int)
        sample = np.asarray(self.Z[rows], np.float64)
        return Regression(sample, self.codes[rows], self.kept[:, rows]).directions

    def _loss(
        self, weights: np.ndarray, intercepts: np.ndarray, penalty: np.ndarray
    ) -> tuple[float, np.ndarray, np.ndarray]:
        D, F, K = weights.shape
        flat = weights.reshape(D, -1)
        value, by_weights, by_intercepts = 0.0, np.zeros((D, F * K)), np.zeros((F, K))
        counts = self.kept.sum(axis=1)[:, None]
        start = 0
        for block in blocks(self.Z):
            rows = slice(start, start + len(block))
            block = block.astype(np.float64)
            margins = (block @ flat).reshape(-1, F, K) + intercepts
            losses, slopes = self._each(margins, self.codes[rows])
            kept = self.kept[:, rows].T
            value += float((losses * kept / counts[:, 0]).sum())
            slopes *= kept[:, :, None]
            by_intercepts += slopes.sum(axis=0)
            by_weights += block.T @ slopes.reshape(len(block), -1)
            start += len(block)
        shrunk = penalty[:, None] * weights
        return (
            value + float((shrunk * weights).sum() / 2),
            by_weights.reshape(D, F, K) / counts + shrunk,
            by_intercepts / counts,
        )

    def _each(
        self, margins: np.ndarray, codes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The loss of each row in each fit (n, F), and its slope (n, F, K)."""
        log_p = log_softmax(margins, axis=2)
        rows = np.arange(len(codes))
        slopes = np.exp(log_p)
        slopes[rows, :, codes] -= 1
        return -log_p[rows, :, codes], slopes


@dataclass(frozen=True)
class HingeRegression(BlockRegression):
    """Support vector machines without a kernel, each class against the rest.

    The hinge is rounded off where it meets 0 (Rennie and Srebro 2005), so that it has
    a slope everywhere; ``C`` weighs the sum of losses as in scikit-learn's SVC.
    """

    def _penalty(self, C: float) -> np.ndarray:
        return np.asarray(1 / (C * self.kept.sum(axis=1)))

    def _each(
        self, margins: np.ndarray, codes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        side = np.where(codes[:, None, None] == np.arange(margins.shape[2]), 1.0, -1.0)
        short = 1 - side * margins
        inside = short.clip(0, 1)  # the slope; beyond 1 the loss is a line
        return (inside * (short - inside / 2)).sum(axis=2), -side * inside


def regression(Z: Matrix, codes: np.ndarray, kept: np.ndarray) -> Regression:
    """Fits on float64 copies of features, or on `Rows` as they are read."""
    if isinstance(Z, Rows):
        return BlockRegression(Z, codes, kept)
    return Regression(Z.astype(np.float64, copy=False), codes, kept)
