"""Embeddings transformed before a head sees them: square root, length, PCA."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.pipeline import Pipeline

from featcache.errors import HeadError
from featcache.heads.base import (
    COLUMNS,
    COMMON,
    TOO_FEW,
    Head,
    check_blocks,
    fitted_scaler,
    predict_held,
)
from featcache.heads.files import read_model, write_model
from featcache.heads.tuning import Fold, held_out_scores, inner_folds, summary

NONE, SQRT, L2, TUNE = "none", "sqrt", "l2", "tune"
TRANSFORMS = (NONE, SQRT, L2)
COMPONENTS = (64, 128, 256, 512)  # what "tune" tries beside no PCA
FILE = "embedding.skops"


@dataclass
class Embedding:
    """A way from features to what a head sees.

    Args:
        transform: One of `TRANSFORMS`.
        pca: "none", or a number of components.
        blocks: Widths of the blocks of features; all one block if empty.
        seed: Of the randomised PCA.
        rotation: Fitted steps ``scale`` (StandardScaler) and ``pca`` (PCA), or None.
    """

    transform: str
    pca: str | int
    blocks: Sequence[int] = ()
    seed: int = 0
    rotation: Pipeline | None = None

    def fit(self, X: np.ndarray) -> np.ndarray:
        """Fits the rotation on ``X`` (N, D) and returns what the head sees of it.

        Raises:
            HeadError: More components than rows or columns.
        """
        Z = self._transformed(X)
        if self.pca == NONE:
            return Z
        if int(self.pca) > min(Z.shape):
            raise HeadError(
                f"at most {min(Z.shape)} components for {Z.shape} training features",
                str(self.pca),
                "Use fewer, or tune.",
            )
        scaler = fitted_scaler(Z, self.blocks or COLUMNS)
        pca = PCA(int(self.pca), random_state=self.seed)
        with np.errstate(invalid="ignore"):  # shares of no variance at all
            Z = pca.fit_transform(scaler.transform(Z))
        self.rotation = Pipeline([("scale", scaler), ("pca", pca)])
        return np.asarray(Z)

    def __call__(self, X: np.ndarray) -> np.ndarray:
        """What the head sees of ``X`` (N, D): (N, D) or (N, components)."""
        Z = self._transformed(X)
        return Z if self.rotation is None else np.asarray(self.rotation.transform(Z))

    def _transformed(self, X: np.ndarray) -> np.ndarray:
        if self.transform == SQRT:
            return np.asarray(np.sign(X) * np.sqrt(np.abs(X)))
        if self.transform == L2:
            parts = np.split(X, np.cumsum(self.blocks[:-1], dtype=int), axis=1)
            return np.concatenate([_unit(part) for part in parts], axis=1)
        return X


@dataclass
class _Trial:
    """A head and the embedding it is scored on."""

    head: Head
    embedding: Embedding
    Z: np.ndarray
    scores: dict[str, Any] = field(default_factory=dict)

    @property
    def row(self) -> dict[str, Any]:
        at = self.embedding
        return {"transform": at.transform, "pca": at.pca} | self.scores

    def scored(
        self, codes: np.ndarray, groups: np.ndarray, folds: list[Fold]
    ) -> "_Trial":
        """Scores by the head's own tuning, else by inner folds."""
        if self.head.tune:
            tried = self.head.fit(self.Z, codes, groups).tuning_["tried"]
            self.scores = min(tried, key=lambda row: row["log_loss"])
        else:
            one = partial(predict_held, clone(self.head), self.Z, codes, groups)
            self.scores = held_out_scores(codes, folds, one)
        return self


@dataclass(kw_only=True, eq=False, repr=False)
class Embedded(Head):
    """A head on transformed embeddings.

    What looks at no label (standardisation, PCA) is fitted on all training rows. What
    is chosen is chosen by the inner log-loss of the head over whole groups, or by the
    best one that the head reports where it tunes itself: first the transform, then
    the number of components.

    PCA is fitted on standardised columns, and the head then divides all components
    by one number: with all of them it would be the head without PCA, only rotated.

    Args:
        head: The head; it is cloned.
        transformation: "none", "sqrt" (signed square root), "l2" (each block of a row
            to unit length) or "tune".
        pca: "none", a number of components, or "tune".
        blocks: Widths of the concatenated blocks of features; all one block if empty.
        seed: Decides the inner folds and the randomised PCA.

    Attributes:
        head_: The fitted head, for class codes 0..n-1 of what `model_` gives.
        model_: The fitted `Embedding`: called, it gives what ``head_`` sees.
    """

    head: Head
    transformation: str = NONE  # `transform` would be a method of scikit-learn
    pca: str | int = NONE
    blocks: Sequence[int] = ()
    seed: int = 0

    name = "embedded"

    @property
    def file(self) -> str:  # type: ignore[override]
        """Name of the inner head's model file."""
        return self.head.file

    def _fit(self, X: np.ndarray, codes: np.ndarray, groups: np.ndarray) -> None:
        check_blocks(X, self.blocks or X.shape[1:])
        best = self._best(X, codes, groups)
        if not hasattr(best.head, "classes_"):
            best.head.fit(best.Z, codes, groups)
        self.tuning_ = self.tuning_ or best.head.tuning_
        self.head_, self.model_ = best.head, best.embedding
        self.history_ = best.head.history_

    def _best(self, X: np.ndarray, codes: np.ndarray, groups: np.ndarray) -> _Trial:
        """The trial to take; what led to it goes to ``tuning_``."""
        folds = inner_folds(codes, groups, most=self.head.most_folds, seed=self.seed)
        transforms, components = self._choices(X.shape, bool(folds))
        if len(transforms) == len(components) == 1:
            if TUNE in (self.transformation, self.pca) and not folds:
                self.tuning_ = summary([], 0, TOO_FEW)
            return self._trial(X, transforms[0], components[0])

        def scored(transform: str, pca: str | int) -> _Trial:
            return self._trial(X, transform, pca).scored(codes, groups, folds)

        trials = [scored(name, components[0]) for name in transforms]
        taken = min(trials, key=_loss).embedding.transform
        trials += [scored(taken, k) for k in components[1:]]
        best = min(trials, key=_loss)
        self.tuning_ = summary([trial.row for trial in trials], len(folds))
        if best.head.tune:
            self.tuning_["head"] = best.head.tuning_
        return best

    def _choices(
        self, shape: tuple[int, ...], can_choose: bool
    ) -> tuple[Sequence[str], Sequence[str | int]]:
        transforms: Sequence[str] = (self.transformation,)
        components: Sequence[str | int] = (self.pca,)
        if self.transformation == TUNE:
            transforms = TRANSFORMS if can_choose else (NONE,)
        if self.pca == TUNE:
            fitting = [k for k in COMPONENTS if can_choose and k < min(shape)]
            components = (NONE, *fitting)
        return transforms, components

    def _trial(self, X: np.ndarray, transform: str, pca: str | int) -> _Trial:
        embedding = Embedding(transform, pca, self.blocks, self.seed)
        head = clone(self.head)
        if pca != NONE and "scale" in head.get_params():
            head.set_params(scale=COMMON)
        return _Trial(head, embedding, embedding.fit(X))

    def _proba(self, X: np.ndarray) -> np.ndarray:
        return self.head_.predict_proba(self.model_(X))

    def _files(self) -> list[str]:
        rotation = [FILE] if self.model_.rotation is not None else []
        return [*self.head_._files(), *rotation]

    def _record(self) -> dict[str, Any]:
        at = self.model_
        inner = self.head_._record() | {"params": self.head.get_params(deep=False)}
        params = self.get_params(deep=False) | {"head": inner}
        taken = {"transform": at.transform, "pca": at.pca}
        return super()._record() | {"params": params, "embedding": taken}

    def restore(self, record: dict[str, Any], folder: Path) -> Self:
        """Takes up what `save` wrote; ``head`` is the restored inner head."""
        self.head_, self.head = self.head, clone(self.head)
        self.model_ = Embedding(
            **record["embedding"], blocks=self.blocks, seed=self.seed
        )
        return super().restore(record, folder)

    def _write(self, path: Path) -> None:
        self.head_._write(path)
        if self.model_.rotation is not None:
            write_model(self.model_.rotation, path.with_name(FILE))

    def _read(self, path: Path) -> None:
        if self.model_.pca != NONE:
            self.model_.rotation = read_model(path.with_name(FILE))


def _loss(trial: _Trial) -> float:
    return float(trial.scores["log_loss"])


def _unit(rows: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(length > 0, length, 1))
