"""Heads from scikit-learn: class shares, logistic regression, support vectors."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, TypeGuard

import numpy as np
from scipy.linalg import qr
from sklearn.base import ClassifierMixin, clone
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.svm import SVC

from featcache.errors import HeadError
from featcache.heads.base import (
    COLUMNS,
    Scale,
    SklearnHead,
    fitted_scaler,
    scaled,
)
from featcache.heads.kernel import (
    calibrated_on,
    held_out_margins,
    machine_margins,
    on_rows,
    proba_of,
)
from featcache.heads.logistic import Solution
from featcache.heads.nystroem import Landmarks, calibrated_machine, margins_along
from featcache.heads.rows import Matrix, Rows, moments
from featcache.heads.streamed import regression
from featcache.heads.tuning import (
    Fold,
    grid,
    held_out_rows,
    inner_folds,
    kept_rows,
    scores,
    summary,
    walk_down,
)

# The usual protocol of a linear probe: 45 values, spaced evenly in the logarithm.
PATH = tuple(float(f"{C:.3g}") for C in np.logspace(-6, 5, 45))
MOST_ROWS = 10_000  # whose kernel (400 MB) is kept in memory


class ApproximationWarning(UserWarning):
    """A head is fitted by an approximation, for there are too many rows."""


class Majority(SklearnHead):
    """The class shares of the training rows, whatever the features: the floor."""

    name = "majority"
    streams = True

    def _classifier(
        self, Z: Matrix, codes: np.ndarray, groups: np.ndarray
    ) -> ClassifierMixin:
        return DummyClassifier(strategy="prior").fit(Z, codes)


@dataclass(kw_only=True, eq=False, repr=False)
class LogReg(SklearnHead):
    """L2 logistic regression on scaled features.

    Tuned, it walks along a path of 45 values of C from the one that it would have, all
    inner folds together, to where the inner log-loss is smallest: every second value
    first, then the neighbours of the best. Each starts at the solution of the nearest
    one and is fitted to its own optimum.

    ``model_["classify"]`` has ``coef_`` (n_classes, D; one row for two classes) and
    ``intercept_`` for the features that ``model_["scale"]`` gives.

    Args:
        tune: Choose C inside the training rows.
        C: Inverse strength of the penalty where it is not tuned; "scale" is 1.5 / D,
            for the sum of D scaled features grows with D.
        scale: See ``base.fitted_scaler``.
        seed: Decides the inner folds; the solver (`logistic.Regression`) is exact.
    """

    tune: bool = True
    C: float | str = "scale"
    scale: Scale = COLUMNS
    seed: int = 0

    name = "logreg"
    candidates = grid(C=PATH)
    most_folds = 5
    streams = True

    def _classifier(
        self, Z: Matrix, codes: np.ndarray, groups: np.ndarray
    ) -> ClassifierMixin:
        C = self._strength(Z.shape[1])
        every = np.ones((1, len(Z)), bool)
        if _has_span(Z):
            span = _span(Z)
            solution = regression(Z @ span, codes, every).fit(C)
            weights = span @ solution.weights[:, 0]
        else:
            solution = regression(Z, codes, every).fit(C)
            weights = solution.weights[:, 0]
        intercepts = solution.intercepts[0]
        model = LogisticRegression(C=C)
        model.classes_ = np.arange(len(intercepts))
        model.n_features_in_ = Z.shape[1]
        model.n_iter_ = np.array([solution.steps])
        if len(intercepts) == 2:  # of which scikit-learn keeps the difference
            weights, intercepts = np.diff(weights, axis=1), np.diff(intercepts)
        model.coef_, model.intercept_ = weights.T, intercepts
        return model

    def _search(
        self, X: Matrix, codes: np.ndarray, groups: np.ndarray, folds: list[Fold]
    ) -> dict[str, Any]:
        Z = scaled(X, fitted_scaler(X, self.scale))
        Z = Z @ _span(Z) if _has_span(Z) else Z
        fits = regression(Z, codes, kept_rows(folds, len(Z)))
        held_out = codes[held_out_rows(folds)]
        trials: dict[int, dict[str, Any]] = {}
        solutions: dict[int, Solution] = {}

        def log_loss(number: int) -> float:
            settings = self.candidates[number]
            nearest = min(solutions, key=lambda n: abs(n - number), default=number)
            solution = fits.fit(settings["C"], solutions.get(nearest))
            parts = [solution.proba(Z[out], fit) for fit, (_, out) in enumerate(folds)]
            trials[number] = settings | scores(held_out, np.concatenate(parts))
            solutions[number] = solution
            return float(trials[number]["log_loss"])

        values = np.log([settings["C"] for settings in self.candidates])
        first = int(np.abs(values - np.log(self._strength(X.shape[1]))).argmin())
        walk_down(log_loss, len(values), first)
        return summary([trials[number] for number in sorted(trials)], len(folds))

    def _strength(self, width: int) -> float:
        return 1.5 / width if self.C == "scale" else float(self.C)


@dataclass(kw_only=True, eq=False, repr=False)
class Svm(SklearnHead):
    """Support vector machine with an RBF kernel on scaled features.

    Its margins become probabilities by a sigmoid (Platt 1999), fitted on margins of
    rows held out by group; the machine itself is then fitted on all rows.

    With more than ``exact_rows`` training rows, which a kernel of all pairs would take
    days for, the kernel is that with ``components`` drawn rows alone, see
    `nystroem`; a warning says so, and so does ``tuning_["note"]``.

    Args:
        tune: Choose C and gamma inside the training rows.
        C: Inverse strength of the penalty.
        gamma: Inverse width of the kernel, as a multiple of 1 / (D x variance).
        exact_rows: Most training rows with the kernel of all pairs.
        components: Rows that stand for all others where there are more.
        scale: See ``base.fitted_scaler``.
        seed: Decides the folds of the calibration and the inner folds.
    """

    tune: bool = False
    C: float = 3.0
    gamma: float = 1.0
    exact_rows: int = 20_000
    components: int = 1_000
    scale: Scale = COLUMNS
    seed: int = 0

    name = "svm"
    streams = True
    candidates = grid(gamma=(0.3, 1.0), C=(1.0, 3.0, 10.0, 30.0))

    def _classifier(
        self, Z: Matrix, codes: np.ndarray, groups: np.ndarray
    ) -> ClassifierMixin:
        folds = inner_folds(codes, groups, most=5, seed=self.seed)
        if not folds:
            raise HeadError(
                "at least two groups per class to calibrate the svm head",
                f"{len(np.unique(groups))} groups for {codes.max() + 1} classes",
                "Add patients, or use the logreg head.",
            )
        if len(Z) > self.exact_rows:
            warnings.warn(self._note, ApproximationWarning, stacklevel=2)
            self.tuning_ = summary([], 0, self._note)
            return calibrated_machine(Z, codes, folds, self._landmarks(Z), self.C)
        Z = np.asarray(Z)
        machine, rows = self._on_kernel(Z)
        margins = held_out_margins(machine, rows, codes, folds)
        machine.fit(rows, codes)
        if rows is not Z:
            machine = on_rows(machine, Z, self._gamma(Z))
        calibrated = calibrated_on(margins, codes, folds, machine)
        return calibrated.set_params(estimator=self._machine(Z))

    def _proba(self, X: np.ndarray) -> np.ndarray:
        scaler, calibrated = self.model_["scale"], self.model_["classify"]
        machine = calibrated.calibrated_classifiers_[0].estimator
        if not isinstance(machine, SVC):
            return super()._proba(X)
        return proba_of(calibrated, machine_margins(machine, scaler.transform(X)))

    def _search(
        self, X: Matrix, codes: np.ndarray, groups: np.ndarray, folds: list[Fold]
    ) -> dict[str, Any]:
        Z = scaled(X, fitted_scaler(X, self.scale))
        is_exact = len(Z) <= self.exact_rows
        Z = np.asarray(Z) if is_exact else Z
        tried = []
        for gamma, same in groupby(self.candidates, itemgetter("gamma")):
            candidates = list(same)
            values = [settings["C"] for settings in candidates]
            head = clone(self).set_params(gamma=gamma)
            margins = head._exact_margins if is_exact else head._margins
            for settings, margin in zip(
                candidates, margins(Z, codes, folds, values), strict=True
            ):
                # One calibration for all folds: a few numbers for many rows.
                proba = LogisticRegression().fit(margin, codes).predict_proba(margin)
                tried.append(settings | scores(codes, proba))
        return summary(tried, len(folds), "" if is_exact else self._note)

    def _exact_margins(
        self, Z: np.ndarray, codes: np.ndarray, folds: list[Fold], values: list[float]
    ) -> Iterator[np.ndarray]:
        """Margins of held-out rows for each value of C."""
        machine, rows = self._on_kernel(Z)
        for C in values:
            yield held_out_margins(machine.set_params(C=C), rows, codes, folds)

    def _margins(
        self, Z: Matrix, codes: np.ndarray, folds: list[Fold], values: list[float]
    ) -> Iterator[np.ndarray]:
        """The same by landmarks."""
        return margins_along(Z, codes, folds, self._landmarks(Z), values)

    def _landmarks(self, Z: Matrix) -> Landmarks:
        gamma = self.gamma / (Z.shape[1] * (moments(Z)[1] or 1))
        return Landmarks.of(Z, gamma, most=self.components, seed=self.seed)

    @property
    def _note(self) -> str:
        return (
            f"more than {self.exact_rows} training rows: the kernel is approximated by "
            f"{self.components} of them (Nystroem)"
        )

    def _machine(self, Z: np.ndarray) -> SVC:
        return SVC(C=self.C, gamma=self._gamma(Z))

    def _gamma(self, Z: np.ndarray) -> float:
        return float(self.gamma / (Z.shape[1] * (Z.var() or 1)))

    def _on_kernel(self, Z: np.ndarray) -> tuple[SVC, np.ndarray]:
        """A machine, and what to fit it on: the kernel of all rows where that fits.

        One matrix product serves all folds; the machine itself would compute each
        value of the kernel anew in every fold, ten times slower.
        """
        if len(Z) > MOST_ROWS:
            return self._machine(Z), Z
        kernel = rbf_kernel(Z, gamma=self._gamma(Z))
        return SVC(C=self.C, kernel="precomputed"), kernel


def _has_span(Z: Matrix) -> TypeGuard[np.ndarray]:
    """Whether there are fewer rows than columns, and copies of them may be made."""
    return not isinstance(Z, Rows) and len(Z) < Z.shape[1]


def _span(Z: np.ndarray) -> np.ndarray:
    """An orthonormal basis (D, N) of the rows of ``Z`` (N, D), where N < D; float64.

    The L2 penalty does not change under rotation, and the coefficients lie in the
    span of the rows: fitted on ``Z @ basis`` they are the same, with fewer columns.
    """
    basis, _ = qr(Z.T.astype(np.float64), mode="economic", check_finite=False)
    return np.asarray(basis)
