"""Heads from scikit-learn: class shares, logistic regression, support vectors."""

from typing import Any

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from featcache.errors import HeadError
from featcache.heads.base import Fold, SklearnHead, group_folds


class Majority(SklearnHead):
    """The class shares of the training rows, whatever the features: the floor."""

    name = "majority"

    def _build(self, codes: np.ndarray, groups: np.ndarray) -> Any:
        return DummyClassifier(strategy="prior")


class LogReg(SklearnHead):
    """L2 logistic regression on scaled features.

    Args:
        C: Inverse strength of the penalty; "scale" is 1.5 / D, for the sum of D
            scaled features grows with D.
        seed: Changes nothing: the solver (L-BFGS) is exact.
    """

    name = "logreg"

    def __init__(self, *, C: float | str = "scale", seed: int = 0) -> None:
        super().__init__(seed=seed)
        self.C = C

    def _build(self, codes: np.ndarray, groups: np.ndarray) -> Any:
        C = 1.5 / self.n_features_in_ if self.C == "scale" else self.C
        return make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=2000))


class Svm(SklearnHead):
    """Support vector machine with an RBF kernel on scaled features.

    Its margins become probabilities by a sigmoid (Platt 1999), fitted on margins of
    rows held out by group; the machine itself is then fitted on all rows.

    Args:
        C: Inverse strength of the penalty.
        seed: Decides the folds of the calibration.
    """

    name = "svm"

    def __init__(self, *, C: float = 3.0, seed: int = 0) -> None:
        super().__init__(seed=seed)
        self.C = C

    def _build(self, codes: np.ndarray, groups: np.ndarray) -> Any:
        return CalibratedClassifierCV(
            make_pipeline(StandardScaler(), SVC(C=self.C)),
            method="sigmoid",
            cv=_calibration_folds(codes, groups, self.seed),
            ensemble=False,
        )


def _calibration_folds(codes: np.ndarray, groups: np.ndarray, seed: int) -> list[Fold]:
    for folds in (5, 4, 3, 2):
        drawn = group_folds(codes, groups, folds=folds, seed=seed)
        if len(drawn) == folds:
            return drawn
    raise HeadError(
        "at least two groups of every class to calibrate the svm head",
        f"{len(np.unique(groups))} groups for {codes.max() + 1} classes",
        "Add patients, or take the logreg head.",
    )
