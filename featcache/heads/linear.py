"""Heads from scikit-learn: class shares, logistic regression, support vectors."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import qr
from sklearn.base import ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from featcache.errors import HeadError
from featcache.heads.base import COLUMNS, Scale, SklearnHead, fitted_scaler
from featcache.heads.tuning import (
    Fold,
    grid,
    held_rows,
    inner_folds,
    scores,
    summary,
)

# The usual protocol of a linear probe: 45 values, spaced evenly in the logarithm.
PATH = tuple(float(f"{C:.3g}") for C in np.logspace(-6, 5, 45))
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
        Z = _spanned(fitted_scaler(X, self.scale).transform(X))
        held = codes[held_rows(folds)]
        walks = [_walk(Z, codes, fold) for fold in folds]
        tried: list[dict[str, Any]] = []
        for C, *parts in zip(PATH, *walks, strict=True):
            tried.append({"C": C} | scores(held, np.concatenate(parts)))
            losses = [trial["log_loss"] for trial in tried]
            if len(losses) - np.argmin(losses) > PATIENCE:
                break
        ended = f"path ended at C={C:g}: no better for {PATIENCE} values"
        return summary(tried, len(folds), ended if PATH[-1] > C else "")


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

    def _machine(self, Z: np.ndarray) -> SVC:
        return SVC(C=self.C, gamma=self.gamma / (Z.shape[1] * (Z.var() or 1)))

    def _classifier(
        self, Z: np.ndarray, codes: np.ndarray, groups: np.ndarray
    ) -> ClassifierMixin:
        folds = inner_folds(codes, groups, most=5, seed=self.seed)
        if not folds:
            raise HeadError(
                "at least two groups of every class to calibrate the svm head",
                f"{len(np.unique(groups))} groups for {codes.max() + 1} classes",
                "Add patients, or take the logreg head.",
            )
        return CalibratedClassifierCV(
            self._machine(Z), method="sigmoid", cv=folds, ensemble=False
        ).fit(Z, codes)

    def _search(
        self, X: np.ndarray, codes: np.ndarray, groups: np.ndarray, folds: list[Fold]
    ) -> dict[str, Any]:
        Z = _spanned(fitted_scaler(X, self.scale).transform(X))
        held = codes[held_rows(folds)]
        tried = []
        for settings in self.candidates:
            machine = clone(self).set_params(**settings)._machine(Z)
            margins = [
                machine.fit(Z[kept], codes[kept]).decision_function(Z[out])
                for kept, out in folds
            ]
            # One calibration for all folds: a few numbers for many rows.
            margin = np.concatenate(margins).reshape(len(held), -1)
            proba = LogisticRegression().fit(margin, held).predict_proba(margin)
            tried.append(settings | scores(held, proba))
        return summary(tried, len(folds))


def _walk(Z: np.ndarray, codes: np.ndarray, fold: Fold) -> Iterator[np.ndarray]:
    """Probabilities of a fold's held-out rows at each C of the path."""
    kept, held = fold
    # Exact enough to choose by: measured, the same choices at a third of the time.
    model = LogisticRegression(warm_start=True, max_iter=500, tol=1e-3)
    for C in PATH:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            # Rows are taken anew each time, so that one fold at a time is in memory.
            model.set_params(C=C).fit(Z[kept], codes[kept])
        yield model.predict_proba(Z[held])


def _span(Z: np.ndarray) -> np.ndarray:
    """An orthonormal basis (D, N) of the rows of ``Z`` (N, D), where N < D.

    The L2 penalty and distances do not change under rotation, and coefficients lie
    in the span of the rows: fitted on ``Z @ basis`` they are the same, with fewer
    columns.
    """
    basis, _ = qr(Z.T, mode="economic", check_finite=False)
    return np.asarray(basis)


def _spanned(Z: np.ndarray) -> np.ndarray:
    return Z if len(Z) >= Z.shape[1] else Z @ _span(Z)
