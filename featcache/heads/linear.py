"""Heads from scikit-learn: class shares, logistic regression, support vectors."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
from scipy.linalg import qr
from sklearn.base import ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import cross_val_predict
from sklearn.svm import SVC

from featcache.errors import HeadError
from featcache.heads.base import COLUMNS, Scale, SklearnHead, fitted_scaler
from featcache.heads.tuning import (
    Fold,
    grid,
    held_out_rows,
    inner_folds,
    scores,
    summary,
)

# The usual protocol of a linear probe: 45 values, spaced evenly in the logarithm.
PATH = tuple(float(f"{C:.3g}") for C in np.logspace(-6, 5, 45))
MOST_ROWS = 10_000  # whose kernel (400 MB) is kept in memory
PATIENCE = 4  # values in a row without a better inner log-loss that end the path


class Majority(SklearnHead):
    """The class shares of the training rows, whatever the features: the floor."""

    name = "majority"

    def _classifier(
        self, Z: np.ndarray, codes: np.ndarray, groups: np.ndarray
    ) -> ClassifierMixin:
        return DummyClassifier(strategy="prior").fit(Z, codes)


@dataclass(kw_only=True, eq=False, repr=False)
class LogReg(SklearnHead):
    """L2 logistic regression on scaled features.

    Tuned, it walks up a path of 45 values of C, from the strongest penalty to the
    weakest, each starting where the last one ended and all inner folds side by side,
    until the inner log-loss has stopped falling: beyond, the solver is slow and the
    head only overfits more.

    ``model_["classify"]`` has ``coef_`` (n_classes, D; one row for two classes) and
    ``intercept_`` for the features that ``model_["scale"]`` gives.

    Args:
        tune: Choose C inside the training rows.
        C: Inverse strength of the penalty where it is not tuned; "scale" is 1.5 / D,
            for the sum of D scaled features grows with D.
        scale: See ``base.fitted_scaler``.
        seed: Decides the inner folds; the solver (L-BFGS) is exact.
    """

    tune: bool = True
    C: float | str = "scale"
    scale: Scale = COLUMNS
    seed: int = 0

    name = "logreg"
    candidates = grid(C=PATH)
    most_folds = 5

    def _classifier(
        self, Z: np.ndarray, codes: np.ndarray, groups: np.ndarray
    ) -> ClassifierMixin:
        C = 1.5 / Z.shape[1] if self.C == "scale" else self.C
        model = LogisticRegression(C=C, max_iter=2000)
        if len(Z) >= Z.shape[1]:
            return model.fit(Z, codes)
        span = _span(Z)
        model.fit(Z @ span, codes)
        model.coef_, model.n_features_in_ = model.coef_ @ span.T, len(span)
        return model

    def _search(
        self, X: np.ndarray, codes: np.ndarray, groups: np.ndarray, folds: list[Fold]
    ) -> dict[str, Any]:
        Z = fitted_scaler(X, self.scale).transform(X)
        Z = Z if len(Z) >= Z.shape[1] else Z @ _span(Z)
        held_out = codes[held_out_rows(folds)]
        walks = [_walk(Z, codes, fold) for fold in folds]
        tried: list[dict[str, Any]] = []
        for settings, *parts in zip(self.candidates, *walks, strict=True):
            tried.append(settings | scores(held_out, np.concatenate(parts)))
            losses = [trial["log_loss"] for trial in tried]
            if len(losses) - np.argmin(losses) > PATIENCE:
                break
        ended = f"path ended at C={settings['C']:g}: no better for {PATIENCE} values"
        whole = len(tried) == len(self.candidates)
        return summary(tried, len(folds), "" if whole else ended)


@dataclass(kw_only=True, eq=False, repr=False)
class Svm(SklearnHead):
    """Support vector machine with an RBF kernel on scaled features.

    Its margins become probabilities by a sigmoid (Platt 1999), fitted on margins of
    rows held out by group; the machine itself is then fitted on all rows.

    Args:
        tune: Choose C and gamma inside the training rows.
        C: Inverse strength of the penalty.
        gamma: Inverse width of the kernel, as a multiple of 1 / (D x variance).
        scale: See ``base.fitted_scaler``.
        seed: Decides the folds of the calibration and the inner folds.
    """

    tune: bool = False
    C: float = 3.0
    gamma: float = 1.0
    scale: Scale = COLUMNS
    seed: int = 0

    name = "svm"
    candidates = grid(gamma=(0.3, 1.0), C=(1.0, 3.0, 10.0, 30.0))

    def _classifier(
        self, Z: np.ndarray, codes: np.ndarray, groups: np.ndarray
    ) -> ClassifierMixin:
        folds = inner_folds(codes, groups, most=5, seed=self.seed)
        if not folds:
            raise HeadError(
                "at least two groups per class to calibrate the svm head",
                f"{len(np.unique(groups))} groups for {codes.max() + 1} classes",
                "Add patients, or use the logreg head.",
            )
        machine, rows = self._on_kernel(Z)
        calibrated = CalibratedClassifierCV(
            machine, method="sigmoid", cv=folds, ensemble=False
        ).fit(rows, codes)
        if rows is not Z:  # calibrated on the kernel matrix, to be used on features
            fitted = calibrated.calibrated_classifiers_[0]
            fitted.estimator = self._machine(Z).fit(Z, codes)
            calibrated.set_params(estimator=self._machine(Z))
            calibrated.n_features_in_ = Z.shape[1]
        return calibrated

    def _search(
        self, X: np.ndarray, codes: np.ndarray, groups: np.ndarray, folds: list[Fold]
    ) -> dict[str, Any]:
        Z = fitted_scaler(X, self.scale).transform(X)
        tried = []
        for gamma, same in groupby(self.candidates, itemgetter("gamma")):
            machine, rows = clone(self).set_params(gamma=gamma)._on_kernel(Z)
            for settings in same:
                margin = cross_val_predict(
                    machine.set_params(C=settings["C"]),
                    rows,
                    codes,
                    cv=folds,
                    method="decision_function",
                ).reshape(len(codes), -1)
                # One calibration for all folds: a few numbers for many rows.
                proba = LogisticRegression().fit(margin, codes).predict_proba(margin)
                tried.append(settings | scores(codes, proba))
        return summary(tried, len(folds))

    def _machine(self, Z: np.ndarray) -> SVC:
        return SVC(C=self.C, gamma=self.gamma / (Z.shape[1] * (Z.var() or 1)))

    def _on_kernel(self, Z: np.ndarray) -> tuple[SVC, np.ndarray]:
        """A machine, and what to fit it on: the kernel of all rows where that fits.

        One matrix product serves all folds; the machine itself would compute each
        value of the kernel anew in every fold, ten times slower.
        """
        machine = self._machine(Z)
        if len(Z) > MOST_ROWS:
            return machine, Z
        kernel = rbf_kernel(Z, gamma=machine.gamma)
        return SVC(C=self.C, kernel="precomputed"), kernel


def _walk(Z: np.ndarray, codes: np.ndarray, fold: Fold) -> Iterator[np.ndarray]:
    """Probabilities of a fold's held-out rows at each C of the path."""
    kept, held_out = fold
    # Exact enough to choose by: measured, the same choices at a third of the time.
    model = LogisticRegression(warm_start=True, max_iter=500, tol=1e-3)
    for C in PATH:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            # Rows are taken anew each time, so that one fold at a time is in memory.
            model.set_params(C=C).fit(Z[kept], codes[kept])
        yield model.predict_proba(Z[held_out])


def _span(Z: np.ndarray) -> np.ndarray:
    """An orthonormal basis (D, N) of the rows of ``Z`` (N, D), where N < D.

    The L2 penalty does not change under rotation, and the coefficients lie in the
    span of the rows: fitted on ``Z @ basis`` they are the same, with fewer columns.
    """
    basis, _ = qr(Z.T, mode="economic", check_finite=False)
    return np.asarray(basis)
