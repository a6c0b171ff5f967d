"""Support vector machines on many rows: a kernel by landmarks, and a linear machine.

Each row is described by its kernel with some of the rows, the landmarks (Williams and
Seeger, NIPS 2000); on that, a linear machine is nearly the one with the whole kernel,
at a cost that grows with the rows and not with their square.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import eigh
from sklearn.calibration import CalibratedClassifierCV
from sklearn.kernel_approximation import Nystroem
from sklearn.pipeline import Pipeline
from sklearn.svm import LinearSVC

from featcache.heads.kernel import calibrated_on
from featcache.heads.logistic import Solution
from featcache.heads.rows import BLOCK, Matrix, blocks
from featcache.heads.streamed import HingeRegression
from featcache.heads.tuning import Fold, kept_rows

CUTOFF = 1e-6  # of the first direction; those below are noise in float32


@dataclass(frozen=True)
class Landmarks:
    """What rows are described by.

    Args:
        points: (m, D) scaled rows.
        gamma: Inverse width of the RBF kernel.
    """

    points: np.ndarray
    gamma: float

    @classmethod
    def of(cls, Z: Matrix, gamma: float, *, most: int, seed: int) -> "Landmarks":
        """At most ``most`` of the rows (N, D), drawn by a seed, in their order."""
        drawn_by = np.random.default_rng(seed)
        rows = np.sort(drawn_by.choice(len(Z), min(most, len(Z)), replace=False))
        return cls(np.asarray(Z[rows], np.float32), gamma)

    @cached_property
    def whitening(self) -> np.ndarray:
        """(r, m), from the kernel with landmarks to orthonormal directions."""
        kernel = self.kernel(self.points).astype(np.float64)
        values, vectors = eigh((kernel + kernel.T) / 2)
        clear = values > CUTOFF * values[-1]
        return np.asarray((vectors[:, clear] / np.sqrt(values[clear])).T)

    def kernel(self, Z: np.ndarray) -> np.ndarray:
        """RBF kernel of rows (n, D) with the landmarks, (n, m) float32."""
        points, gamma = self.points, np.float32(self.gamma)
        exponent = Z @ (2 * gamma * points.T)
        exponent -= gamma * np.square(Z).sum(axis=1)[:, None]
        exponent -= gamma * np.square(points).sum(axis=1)
        return np.exp(np.minimum(exponent, 0, out=exponent), out=exponent)

    def describe(self, Z: Matrix) -> np.ndarray:
        """What a linear machine sees of rows (N, D): (N, r) float32."""
        turn = self.whitening.T.astype(np.float32)
        out, start = np.empty((len(Z), turn.shape[1]), np.float32), 0
        for block in blocks(Z):
            np.matmul(self.kernel(block), turn, out=out[start : start + len(block)])
            start += len(block)
        return out

    def machine(self, solution: Solution, fit: int, C: float) -> Pipeline:
        """One of the fits as a scikit-learn pipeline on scaled rows: map, machine."""
        mapping = Nystroem(gamma=self.gamma, n_components=len(self.points))
        mapping.components_ = self.points
        mapping.normalization_ = self.whitening
        mapping.component_indices_ = np.arange(len(self.points))
        mapping.n_features_in_ = self.points.shape[1]
        weights, intercepts = solution.weights[:, fit], solution.intercepts[fit]
        machine = LinearSVC(C=C, loss="hinge")
        machine.classes_ = np.arange(len(intercepts))
        machine.n_features_in_, machine.n_iter_ = len(weights), solution.steps
        if len(intercepts) == 2:  # of which scikit-learn keeps that of the second
            weights, intercepts = weights[:, 1:], intercepts[1:]
        machine.coef_, machine.intercept_ = weights.T, intercepts
        return Pipeline([("map", mapping), ("machine", machine)])


def calibrated_machine(
    Z: Matrix, codes: np.ndarray, folds: list[Fold], landmarks: Landmarks, C: float
) -> CalibratedClassifierCV:
    """A machine on all rows, calibrated on margins of rows that are held out.

    Args:
        Z: (N, D) scaled features.
        codes: (N,) class codes.
        folds: Pairs of rows (kept, held out), which hold out each row once.
        landmarks: Of these rows.
        C: Inverse strength of the penalty.

    Returns:
        What scikit-learn fits with ``ensemble=False``; its estimator is that of
        `Landmarks.machine`.
    """
    described = landmarks.describe(Z)
    kept = np.vstack([kept_rows(folds, len(codes)), np.ones(len(codes), bool)])
    solution = HingeRegression(described, codes, kept).fit(C)
    margins = held_out_margins(described, solution, folds)
    machine = landmarks.machine(solution, len(folds), C)
    calibrated = calibrated_on(margins, codes, folds, machine)
    calibrated.set_params(estimator=LinearSVC(C=C, loss="hinge"), cv=None)
    return calibrated


def margins_along(
    Z: Matrix,
    codes: np.ndarray,
    folds: list[Fold],
    landmarks: Landmarks,
    values: list[float],
) -> Iterator[np.ndarray]:
    """Margins of held-out rows (N, n) for each value of C, the smallest first."""
    described, solution = landmarks.describe(Z), None
    fits = HingeRegression(described, codes, kept_rows(folds, len(codes)))
    for C in values:
        solution = fits.fit(C, solution)
        yield held_out_margins(described, solution, folds)


def held_out_margins(
    described: np.ndarray, solution: Solution, folds: list[Fold]
) -> np.ndarray:
    """Margins of each row by the fit that has not seen it, (N, n); (N, 1) of two."""
    margins = np.empty((len(described), solution.intercepts.shape[1]))
    for fit, (_, out) in enumerate(folds):
        weights = solution.weights[:, fit].astype(np.float32)
        for rows in np.array_split(out, -(-len(out) // BLOCK)):
            margins[rows] = described[rows] @ weights + solution.intercepts[fit]
    return margins[:, 1:] if margins.shape[1] == 2 else margins
