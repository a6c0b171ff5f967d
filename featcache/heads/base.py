"""What every head is: a scikit-learn classifier that saves and loads safely."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from featcache.core import checked
from featcache.errors import HeadError
from featcache.heads.files import RECORD, Allowed, ours, read_model, write_model
from featcache.heads.rows import Matrix, Rows, blocks, uncopied
from featcache.heads.tuning import Fold, held_out_scores, inner_folds, summary

COLUMNS, COMMON = "columns", "common"
Scale = str | Sequence[int]  # how a head scales its features, see `fitted_scaler`
ROWS_AT_ONCE = 8192  # that are predicted
TOO_FEW = "a class has too few groups for inner folds: default settings used"


class Head(ClassifierMixin, BaseEstimator, ABC):  # type: ignore[misc]
    """A classifier on features.

    A subclass fits on class codes 0..n-1 (`_fit`), gives probabilities in their
    order (`_proba`) and writes and reads its one model file; labels, checks, tuning
    and the record beside the model file live here.

    A subclass that ``streams`` gets features above ``rows.LARGE`` numbers as `Rows`,
    and reads them block by block instead of holding copies.

    A head that can tune itself has an argument ``tune`` and either ``candidates`` or
    a search of its own (`_search`). A head that scales its features has an argument
    ``scale``; see `fitted_scaler`.

    Args:
        seed: Decides everything random in the head.

    Attributes:
        candidates: Settings to try where the head tunes itself.
        most_folds: Inner folds to try them on, where there are groups enough.
        streams: Whether `_fit` and `_search` take `Rows`.
        classes_: (n_classes,) sorted labels seen by `fit`.
        history_: One row an epoch for heads trained in epochs, else empty.
        tuning_: What was tried and chosen (``tuning.summary``); empty if nothing was
            to be chosen.
        model_: The fitted model of the library that the head stands on.
    """

    name: ClassVar[str]
    file: ClassVar[str]
    candidates: ClassVar[Sequence[dict[str, Any]]] = ()
    most_folds: ClassVar[int] = 3
    streams: ClassVar[bool] = False
    tune = False
    classes_: np.ndarray
    history_: list[dict[str, float]]
    tuning_: dict[str, Any]
    model_: Any

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Fits the head.

        Args:
            X: (N, D) features, an array or `Rows`.
            y: (N,) labels of at least two classes.
            groups: (N,) what must stay together wherever the head splits its own
                training rows; None puts every row in a group of its own.

        Raises:
            HeadError: Features are not finite, or fewer than two classes.
        """
        X, y = self._validated(X, y)
        groups = np.arange(len(X)) if groups is None else np.asarray(groups)
        check_consistent_length(X, groups)
        check_classification_targets(y)
        _refuse_not_finite(X)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise HeadError(
                "at least two classes",
                f"only {self.classes_[0]!s} in {len(y)} training rows",
                "Add images of another class, or use fewer folds.",
            )
        self.history_, self.tuning_ = [], {}
        (self._fit_tuned if self.tune else self._fit)(X, codes, groups)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Class probabilities.

        Args:
            X: (N, D) features, an array or `Rows`.

        Returns:
            (N, n_classes) float64, columns in the order of ``classes_``; rows sum
            to 1.

        Raises:
            HeadError: Features are not finite.
        """
        check_is_fitted(self)
        if not isinstance(X, Rows):
            X = validate_data(
                self, X, dtype=np.float32, reset=False, ensure_all_finite=False
            )
        _refuse_not_finite(X)
        parts = [self._proba(block) for block in blocks(X, ROWS_AT_ONCE)]
        proba = np.concatenate(parts).astype(np.float64, copy=False)
        # A float32 softmax sums to 1 only to 1e-7; scikit-learn's log_loss warns.
        return np.asarray(proba / proba.sum(axis=1, keepdims=True))

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label of each row of ``X`` (N, D), as (N,)."""
        best = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[best])

    def save(self, folder: Path) -> str:
        """Writes the model file and its record into ``folder``.

        Returns:
            The model file's name.

        Raises:
            HeadError: The model cannot be written in a format that is safe to read.
        """
        check_is_fitted(self)
        folder.mkdir(parents=True, exist_ok=True)
        # Written last, the record says that the model file beside it is whole.
        (folder / RECORD).unlink(missing_ok=True)
        self._write(folder / self.file)
        files = checked.file_digests(folder / name for name in self._files())
        checked.write_record(folder / RECORD, self._record() | {"files": files})
        return self.file

    def restore(self, record: dict[str, Any], folder: Path) -> Self:
        """Takes up what `save` wrote; the head predicts the same probabilities.

        Args:
            record: The head's record; ``self`` was made of its ``params``.
            folder: Where the model file is.

        Raises:
            HeadError: The model file is not safe to read.
        """
        self.classes_ = np.array(record["classes"])
        self.n_features_in_ = record["n_features"]
        self.history_, self.tuning_ = [], record["tuning"]
        self._read(folder / self.file)
        return self

    def _validated(self, X: Any, y: Any) -> tuple[Matrix, np.ndarray]:
        """Features in float32, and labels, as the subclass takes them."""
        if isinstance(X, Rows) and self.streams:
            self.n_features_in_ = X.shape[1]
            return X, column_or_1d(y)
        X = np.asarray(X) if isinstance(X, Rows) else X
        X, y = validate_data(self, X, y, dtype=np.float32, ensure_all_finite=False)
        return uncopied(X) if self.streams else X, y

    def _files(self) -> list[str]:
        """Names of the files that `_write` writes."""
        return [self.file]

    def _record(self) -> dict[str, Any]:
        return {
            "head": self.name,
            "params": self.get_params(deep=False),
            "classes": self.classes_.tolist(),
            "n_features": self.n_features_in_,
            "tuning": self.tuning_,
        }

    def _fit_tuned(self, X: Matrix, codes: np.ndarray, groups: np.ndarray) -> None:
        """Chooses by inner folds over whole groups, then fits on all rows."""
        folds = inner_folds(codes, groups, most=self.most_folds, seed=self.seed)
        self.tuning_ = (
            self._search(X, codes, groups, folds) if folds else summary([], 0, TOO_FEW)
        )
        tuned = clone(self).set_params(tune=False, **self.tuning_["selected"])
        tuned.fit(X, codes, groups)
        self.model_, self.history_ = tuned.model_, tuned.history_

    def _search(
        self, X: Matrix, codes: np.ndarray, groups: np.ndarray, folds: list[Fold]
    ) -> dict[str, Any]:
        """Tries every candidate on every inner fold."""
        tried = []
        for settings in self.candidates:
            head = clone(self).set_params(tune=False, **settings)
            predict = partial(predict_held, head, X, codes, groups)
            tried.append(settings | held_out_scores(codes, folds, predict))
        return summary(tried, len(folds))

    @abstractmethod
    def _fit(self, X: Matrix, codes: np.ndarray, groups: np.ndarray) -> None: ...

    @abstractmethod
    def _proba(self, X: np.ndarray) -> np.ndarray: ...

    @abstractmethod
    def _write(self, path: Path) -> None: ...

    @abstractmethod
    def _read(self, path: Path) -> None: ...


class SklearnHead(Head):
    """A scikit-learn classifier on scaled features, kept as a skops file.

    Attributes:
        model_: A pipeline of two fitted steps: ``scale``, a StandardScaler with
            ``mean_`` and ``scale_`` of (D,), and ``classify``, the classifier.
    """

    file = "model.skops"
    scale: Scale = COLUMNS

    @abstractmethod
    def _classifier(
        self, Z: Matrix, codes: np.ndarray, groups: np.ndarray
    ) -> ClassifierMixin:
        """The classifier, fitted on scaled features."""

    def _fit(self, X: Matrix, codes: np.ndarray, groups: np.ndarray) -> None:
        scaler = fitted_scaler(X, self.scale)
        classifier = self._classifier(scaled(X, scaler), codes, groups)
        self.model_ = Pipeline([("scale", scaler), ("classify", classifier)])

    def _proba(self, X: np.ndarray) -> np.ndarray:
        return np.asarray(self.model_.predict_proba(X))

    def _allowed(self) -> Allowed:
        """Which types may be rebuilt from a file."""
        return ours

    def _write(self, path: Path) -> None:
        self._types = write_model(self.model_, path, self._allowed())

    def _read(self, path: Path) -> None:
        self.model_ = read_model(path, self._allowed())


def fitted_scaler(X: Matrix, scale: Scale) -> StandardScaler:
    """Standardises the columns of features.

    Args:
        X: (N, D) training rows.
        scale: "columns" divides each by its own deviation. "common" divides all by
            one number, so that principal components keep their weight. Widths of
            blocks divide each column by its own deviation, and then by the root of
            its block's width (over the mean width), so that a wide block weighs no
            more than a narrow one.

    Raises:
        HeadError: The widths do not sum to D.
    """
    scaler = StandardScaler()
    for block in X.blocks() if isinstance(X, Rows) else [X]:
        scaler.partial_fit(block)
    if scale == COMMON:
        scaler.scale_ = np.full_like(scaler.scale_, np.sqrt(scaler.var_.mean()) or 1)
    elif scale != COLUMNS:
        widths = check_blocks(X, scale)
        scaler.scale_ *= np.repeat(np.sqrt(widths / widths.mean()), widths)
    return scaler


def scaled(X: Matrix, scaler: StandardScaler) -> Matrix:
    """Features (N, D) as a scaler makes them; `Rows` as they are read, in float32."""
    if not isinstance(X, Rows):
        return np.asarray(scaler.transform(X))
    mean, scale = (a.astype(np.float32) for a in (scaler.mean_, scaler.scale_))
    return X.then(lambda block: (block - mean) / scale)


def check_blocks(X: Matrix, blocks: Sequence[Any]) -> np.ndarray:
    """The widths of the blocks of features, where they fit.

    Raises:
        HeadError: They do not sum to the columns of ``X`` (N, D).
    """
    if sum(blocks) != X.shape[1]:
        raise HeadError(
            f"blocks that sum to {X.shape[1]} features",
            f"{list(blocks)}",
            "Give the width of each block.",
        )
    return np.asarray(blocks, dtype=int)


def predict_held(
    head: Head, X: Matrix, codes: np.ndarray, groups: np.ndarray, fold: Fold
) -> np.ndarray:
    """Fits a head on the kept rows of a fold and predicts its held-out rows."""
    kept, held_out = fold
    return head.fit(X[kept], codes[kept], groups[kept]).predict_proba(X[held_out])


def _refuse_not_finite(X: Matrix) -> None:
    bad = sum(int((~np.isfinite(block).all(axis=1)).sum()) for block in blocks(X))
    if bad:
        raise HeadError(
            "finite features",
            f"NaN or infinity in {bad} of {len(X)} rows",
            "Delete the store and extract again; if this recurs, the weights are "
            "corrupt.",
        )
