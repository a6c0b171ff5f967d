"""Support vector machines that are fitted and used on a kernel of matrix products.

libsvm computes each value of a kernel by itself, and again in every fold; a matrix
product gives all of them ten times faster.
"""

from copy import copy
from itertools import combinations

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import cross_val_predict
from sklearn.svm import SVC

from featcache.heads.rows import blocks
from featcache.heads.tuning import Fold

ROWS_AT_ONCE = 1024  # whose kernel with the support vectors is in memory


class _Margins(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Passes on margins (N, n), or (N, 1) of two classes, to be calibrated."""

    def fit(self, margins: np.ndarray, codes: np.ndarray) -> "_Margins":
        self.classes_ = np.unique(codes)
        return self

    def decision_function(self, margins: np.ndarray) -> np.ndarray:
        return margins[:, 0] if margins.shape[1] == 1 else margins

    def predict(self, margins: np.ndarray) -> np.ndarray:
        return np.asarray(self.classes_[margins.argmax(axis=1)])


def calibrated_on(
    margins: np.ndarray, codes: np.ndarray, folds: list[Fold], machine: BaseEstimator
) -> CalibratedClassifierCV:
    """A fitted machine with sigmoids on margins of rows that others held out.

    Args:
        margins: (N, n) of rows by machines that have not seen them; (N, 1) of two.
        codes: (N,) class codes.
        folds: Of those machines, for the record.
        machine: Fitted on all rows.

    Returns:
        What scikit-learn fits with ``ensemble=False``.
    """
    calibrated = CalibratedClassifierCV(
        _Margins(), method="sigmoid", cv=folds, ensemble=False
    ).fit(margins, codes)
    calibrated.calibrated_classifiers_[0].estimator = machine
    calibrated.n_features_in_ = machine.n_features_in_
    return calibrated


def proba_of(calibrated: CalibratedClassifierCV, margins: np.ndarray) -> np.ndarray:
    """``calibrated.predict_proba`` (N, n) of rows with these margins (N, n)."""
    sigmoids = copy(calibrated.calibrated_classifiers_[0])
    sigmoids.estimator = _Margins().fit(margins, sigmoids.classes)
    return np.asarray(sigmoids.predict_proba(margins))


def held_out_margins(
    machine: SVC, rows: np.ndarray, codes: np.ndarray, folds: list[Fold]
) -> np.ndarray:
    """Margins of each row by the machine that has not seen it, (N, n) or (N, 1).

    Args:
        machine: Not fitted.
        rows: (N, D) features, or for a machine that takes one their kernel (N, N).
        codes: (N,) class codes.
        folds: Pairs of rows (kept, held out), which hold out each row once.
    """
    margins = cross_val_predict(
        machine, rows, codes, cv=folds, method="decision_function"
    )
    return np.asarray(margins.reshape(len(codes), -1))


def on_rows(machine: SVC, Z: np.ndarray, gamma: float) -> SVC:
    """The machine that was fitted on the RBF kernel of all rows (N, D), for features.

    scikit-learn would fit the same one, from a kernel of its own.
    """
    machine.set_params(kernel="rbf", gamma=gamma)
    machine.support_vectors_ = Z[machine.support_].astype(np.float64)
    machine.shape_fit_, machine.n_features_in_ = Z.shape, Z.shape[1]
    machine._gamma = gamma
    return machine


def machine_margins(machine: SVC, Z: np.ndarray) -> np.ndarray:
    """``machine.decision_function`` of rows (N, D): (N, n), or (N, 1) of two."""
    weights, vectors = pair_weights(machine), machine.support_vectors_
    kernels = (
        rbf_kernel(block.astype(np.float64), vectors, gamma=machine._gamma)
        for block in blocks(Z, ROWS_AT_ONCE)
    )
    pairs = np.concatenate([kernel @ weights for kernel in kernels])
    pairs += machine.intercept_
    if len(machine.classes_) == 2:
        return pairs
    # Votes of the pairs, with the sum of their margins to break ties.
    first, second = sides(len(machine.classes_))
    votes = (pairs < 0) @ (second - first) + first.sum(axis=0)
    confidence = pairs @ (first - second)
    return np.asarray(votes + confidence / (3.0 * (np.abs(confidence) + 1.0)))


def pair_weights(machine: SVC) -> np.ndarray:
    """(S, pairs) what each support vector weighs in each pair of classes."""
    dual = machine.dual_coef_
    if len(machine.classes_) == 2:
        return np.asarray(dual.T)
    ends = np.cumsum(machine.n_support_)
    rows = [
        slice(end - n, end) for end, n in zip(ends, machine.n_support_, strict=True)
    ]
    pairs = list(combinations(range(len(rows)), 2))
    weights = np.zeros((dual.shape[1], len(pairs)))
    for column, (one, other) in enumerate(pairs):
        weights[rows[one], column] = dual[other - 1, rows[one]]
        weights[rows[other], column] = dual[one, rows[other]]
    return weights


def sides(classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Which class stands first, and which second, in each pair: (pairs, classes)."""
    pairs = np.array(list(combinations(range(classes), 2)))
    return np.eye(classes)[pairs[:, 0]], np.eye(classes)[pairs[:, 1]]
