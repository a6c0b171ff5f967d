"""What every head is: a scikit-learn classifier that saves and loads safely."""

import json
import warnings
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import StratifiedKFold
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from featcache import _io
from featcache.errors import HeadError

RECORD = "head.json"
Fold = tuple[np.ndarray, np.ndarray]


class Head(ClassifierMixin, BaseEstimator, ABC):  # type: ignore[misc]
    """A classifier on features.

    A subclass fits on class codes 0..n-1 (`_fit`), gives probabilities in their
    order (`_proba`) and writes and reads its one model file; labels, checks and
    the record beside the model file live here.

    Args:
        seed: Decides everything random in the head.

    Attributes:
        classes_: (n_classes,) sorted labels seen by `fit`.
        history_: One row an epoch for heads trained in epochs, else empty.
    """

    name: ClassVar[str]
    file: ClassVar[str]
    classes_: np.ndarray
    history_: list[dict[str, float]]

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Fits the head.

        Args:
            X: (N, D) features.
            y: (N,) labels of at least two classes.
            groups: (N,) what must stay together wherever the head splits its own
                training rows; None puts every row in a group of its own.

        Raises:
            HeadError: Features are not finite, or fewer than two classes.
        """
        X, y = validate_data(self, X, y, dtype=np.float32, ensure_all_finite=False)
        groups = np.arange(len(X)) if groups is None else np.asarray(groups)
        check_consistent_length(X, groups)
        check_classification_targets(y)
        _refuse_not_finite(X)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise HeadError(
                "at least two classes to tell apart",
                f"only {self.classes_[0]!s} in {len(y)} training rows",
                "Add images of another class, or fewer folds.",
            )
        self.history_ = []
        self._fit(X, codes, groups)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Class probabilities.

        Args:
            X: (N, D) features.

        Returns:
            (N, n_classes) float64, columns in the order of ``classes_``; rows sum
            to 1.

        Raises:
            HeadError: Features are not finite.
        """
        check_is_fitted(self)
        X = validate_data(
            self, X, dtype=np.float32, reset=False, ensure_all_finite=False
        )
        _refuse_not_finite(X)
        proba = np.asarray(self._proba(X), dtype=np.float64)
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
        record = {
            "head": self.name,
            "params": self.get_params(deep=False),
            "classes": self.classes_.tolist(),
            "n_features": self.n_features_in_,
        }
        _io.write_json(folder / RECORD, record)
        return self.file

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Reads what `save` wrote; the head predicts the same probabilities.

        Raises:
            HeadError: There is no head, or its model file is not safe to read.
        """
        record = read_record(folder)
        head = cls(**record["params"])
        head.classes_ = np.array(record["classes"])
        head.n_features_in_ = record["n_features"]
        head.history_ = []
        head._read(folder / cls.file)
        return head

    @abstractmethod
    def _fit(self, X: np.ndarray, codes: np.ndarray, groups: np.ndarray) -> None: ...

    @abstractmethod
    def _proba(self, X: np.ndarray) -> np.ndarray: ...

    @abstractmethod
    def _write(self, path: Path) -> None: ...

    @abstractmethod
    def _read(self, path: Path) -> None: ...


class SklearnHead(Head):
    """A head around a scikit-learn estimator, kept as a skops file."""

    file = "model.skops"
    model_: Any

    @abstractmethod
    def _build(self, codes: np.ndarray, groups: np.ndarray) -> Any:
        """The unfitted estimator for these training rows."""

    def _fit(self, X: np.ndarray, codes: np.ndarray, groups: np.ndarray) -> None:
        self.model_ = self._build(codes, groups).fit(X, codes)

    def _proba(self, X: np.ndarray) -> np.ndarray:
        return np.asarray(self.model_.predict_proba(X))

    def _trusted(self) -> set[str]:
        """Packages whose types may be rebuilt from a file."""
        return {"sklearn", "numpy", "scipy"}

    def _write(self, path: Path) -> None:
        import skops.io
        from skops.io.exceptions import UnsupportedTypeException

        try:
            data = skops.io.dumps(self.model_)
        except UnsupportedTypeException as error:
            raise HeadError(
                "a model that skops can write", str(error), _ONLY_SAFE
            ) from error
        self._check_types(data)
        path.write_bytes(data)

    def _read(self, path: Path) -> None:
        import skops.io

        data = path.read_bytes()
        self.model_ = skops.io.loads(data, trusted=self._check_types(data))

    def _check_types(self, data: bytes) -> list[str]:
        import skops.io

        types = skops.io.get_untrusted_types(data=data)
        foreign = [t for t in types if t.partition(".")[0] not in self._trusted()]
        if foreign:
            raise HeadError(
                f"a model made of types from {', '.join(sorted(self._trusted()))}",
                f"{', '.join(foreign)}",
                _ONLY_SAFE,
            )
        return list(types)


_ONLY_SAFE = "Model files are never pickled: take a classifier without such parts."


def read_record(folder: Path) -> dict[str, Any]:
    """Reads the record beside a saved model file.

    Raises:
        HeadError: There is none.
    """
    try:
        text = (folder / RECORD).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise HeadError(
            f"a saved head in {folder}", f"no {RECORD}", "Train the head again."
        ) from None
    record: dict[str, Any] = json.loads(text)
    return record


def group_folds(
    codes: np.ndarray, groups: np.ndarray, *, folds: int, seed: int
) -> list[Fold]:
    """Stratified folds of a head's own training rows, by group.

    Groups are drawn, not rows: a group counts for the class of its first row.
    scikit-learn's StratifiedGroupKFold balances rows better, but takes 8 s for
    34,000 groups.

    Args:
        codes: (N,) class codes 0..n-1.
        groups: (N,) groups.
        folds: How many.
        seed: Decides the draw.

    Returns:
        Pairs of row indices (kept, held out). A fold is left out when it would hold
        out all rows of a class, so there can be fewer than asked for, or none.
    """
    _, first, member = np.unique(groups, return_index=True, return_inverse=True)
    strata = codes[first]
    if np.bincount(strata).max() < folds:
        return []
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # A class with fewer groups than folds is dealt with below.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        drawn = [held for _, held in splitter.split(strata, strata)]
    masks = [np.isin(member, held) for held in drawn]
    whole = [m for m in masks if len(np.unique(codes[~m])) == len(np.unique(codes))]
    return [(np.flatnonzero(~m), np.flatnonzero(m)) for m in whole]


def _refuse_not_finite(X: np.ndarray) -> None:
    bad = len(X) - int(np.isfinite(X).all(axis=1).sum())
    if bad:
        raise HeadError(
            "finite features",
            f"NaN or infinity in {bad} of {len(X)} rows",
            "Delete the store and extract it again; if they come back, the weights "
            "are broken.",
        )
