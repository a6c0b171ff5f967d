"""L2 logistic regression, several fits at once, each to its own optimum."""

import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.extmath import randomized_svd

from featcache.heads.rows import Matrix

DIRECTIONS = 64  # principal directions along which steps are scaled
TOLERANCE = 3e-5  # largest scaled gradient at the end, per log-loss over log(K)
MOST_STEPS = 2000


@dataclass(frozen=True)
class Solution:
    """Fitted coefficients.

    Attributes:
        weights: (D, F, K), for F fits and K classes.
        intercepts: (F, K).
        steps: Evaluations of loss and gradient.
    """

    weights: np.ndarray
    intercepts: np.ndarray
    steps: int = 0

    def proba(self, Z: Matrix, fit: int = 0) -> np.ndarray:
        """Class probabilities of ``Z`` (N, D) by one of the fits, (N, K)."""
        logits = Z @ self.weights[:, fit] + self.intercepts[fit]
        return np.asarray(softmax(logits, axis=1))


@dataclass(frozen=True)
class Regression:
    """Fits on several subsets of the same rows, which share each pass over them.

    The mean log-loss of the kept rows plus the penalty, as in scikit-learn's
    LogisticRegression, is minimised by L-BFGS in float64. Steps are scaled by the
    curvature along the principal directions of the rows: without that, columns that
    vary together make the solver crawl, and a loose tolerance would end it anywhere.

    Args:
        Z: (N, D) scaled features, float64.
        codes: (N,) class codes 0..K-1.
        kept: (F, N) whether a fit sees a row.
    """

    Z: np.ndarray
    codes: np.ndarray
    kept: np.ndarray

    @property
    def n_classes(self) -> int:
        """K."""
        return int(self.codes.max()) + 1

    @cached_property
    def directions(self) -> tuple[np.ndarray, np.ndarray]:
        """Variances (k,) along the first principal directions (D, k)."""
        k = min(DIRECTIONS, *self.Z.shape)
        _, s, V = randomized_svd(
            self.Z, k, n_iter=2, power_iteration_normalizer="QR", random_state=0
        )
        return s**2 / len(self.Z), V.T

    def fit(self, C: float, start: Solution | None = None) -> Solution:
        """Fits all subsets with one C, converged wherever it starts.

        Args:
            C: Inverse strength of the penalty, as in scikit-learn.
            start: A solution for another C, which is quicker than to start from zero.
        """
        D, F, K = self.Z.shape[1], len(self.kept), self.n_classes
        penalty = self._penalty(C)
        scale = _Scaling(*self.directions, penalty)
        first, excess = np.zeros((D + 1, F, K)), np.inf
        if start:
            first[:-1], first[-1] = scale.undo(start.weights), start.intercepts

        def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
            nonlocal excess
            x = x.reshape(D + 1, F, K)
            weights = scale(x[:-1])
            value, by_weights, by_intercepts = self._loss(weights, x[-1], penalty)
            slope = np.vstack([scale(by_weights), by_intercepts[None]]).ravel()
            # Near the optimum of classes far apart, loss and curvature are small alike.
            excess = np.abs(slope).max() / (TOLERANCE * value / (F * np.log(K)))
            return value, slope

        def stop_when_exact(_: np.ndarray) -> None:
            if excess <= 1:
                raise StopIteration

        end = minimize(
            loss,
            first.ravel(),
            jac=True,
            method="L-BFGS-B",
            callback=stop_when_exact,
            options={
                "maxiter": MOST_STEPS,
                "maxfun": 2 * MOST_STEPS,
                "gtol": 1e-12,
                "ftol": 1e-15,
            },
        )
        if excess > 10:
            warnings.warn(
                f"logistic regression with C={C:g} has not converged after {end.nit} "
                "steps",
                ConvergenceWarning,
                stacklevel=2,
            )
        x = end.x.reshape(D + 1, F, K)
        return Solution(scale(x[:-1]), x[-1], int(end.nfev))

    def _penalty(self, C: float) -> np.ndarray:
        # For two classes scikit-learn has one column of weights, the difference of
        # these two, and its penalty is half as large.
        halves = 2 if self.n_classes == 2 else 1
        return np.asarray(halves / (C * self.kept.sum(axis=1)))

    def _loss(
        self, weights: np.ndarray, intercepts: np.ndarray, penalty: np.ndarray
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """The sum over the fits, and its gradients."""
        D, F, K = weights.shape
        share = (self.kept / self.kept.sum(axis=1, keepdims=True)).T
        logits = (self.Z @ weights.reshape(D, -1)).reshape(-1, F, K) + intercepts
        log_p = log_softmax(logits, axis=2)
        rows = np.arange(len(self.Z))
        shrunk = penalty[:, None] * weights
        value = (shrunk * weights).sum() / 2 - (
            share * log_p[rows, :, self.codes]
        ).sum()
        residual = np.exp(log_p)
        residual[rows, :, self.codes] -= 1
        residual *= share[:, :, None]
        by_weights = (self.Z.T @ residual.reshape(len(rows), -1)).reshape(D, F, K)
        return float(value), by_weights + shrunk, residual.sum(axis=0)


class _Scaling:
    """Divides weights by the root of the curvature along each direction.

    That of the log-loss is at most a quarter of the variance; beside the directions
    it is taken to be that of the last one.
    """

    def __init__(
        self, variances: np.ndarray, directions: np.ndarray, penalty: np.ndarray
    ) -> None:
        curvature = variances[:, None] / 4 + penalty
        self._directions = directions
        self._along = 1 / np.sqrt(curvature)[:, :, None]  # (k, F, 1)
        self._beside = self._along[-1]  # (F, 1)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self._applied(x, self._along, self._beside)

    def undo(self, x: np.ndarray) -> np.ndarray:
        return self._applied(x, 1 / self._along, 1 / self._beside)

    def _applied(
        self, x: np.ndarray, along: np.ndarray, beside: np.ndarray
    ) -> np.ndarray:
        V, flat = self._directions, x.reshape(len(x), -1)
        parts = (V.T @ flat).reshape(-1, *x.shape[1:]) * (along - beside)
        moved = (V @ parts.reshape(len(parts), -1)).reshape(x.shape)
        return np.asarray(beside * x + moved)
