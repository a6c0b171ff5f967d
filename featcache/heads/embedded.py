"""Embeddings transformed before a head sees them: square root, length, PCA."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from scipy.linalg import eigh
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
    scaled,
)
from featcache.heads.files import read_model, write_model
from featcache.heads.rows import Matrix, Rows, uncopied
from featcache.heads.tuning import Fold, held_out_scores, inner_folds, summary

NONE, SQRT, L2, TUNE = "none", "sqrt", "l2", "tune"
TRANSFORMS = (NONE, SQRT, L2)
COMPONENTS = (64, 128, 256, 512)  # what "tune" tries beside no PCA
FILE = "embedding.skops"
_NOTHING = np.empty((0, 0), np.float32)


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

    def fit(self, X: Matrix) -> Matrix:
        """Fits the rotation on ``X`` (N, D) and returns what the head sees of it.

        Raises:
            HeadError: More components than rows or columns.
        """
        Z = X.then(self._transformed) if isinstance(X, Rows) else self._transformed(X)
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
        Z = scaled(Z, scaler)
        with np.errstate(invalid="ignore"):  # shares of no variance at all
            if isinstance(Z, Rows):
                Z = uncopied(components_of(Z, pca))
            else:
                Z = np.asarray(pca.fit_transform(Z))
        self.rotation = Pipeline([("scale", scaler), ("pca", pca)])
        return Z

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
    Z: Matrix
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
    streams = True

    @property
    def file(self) -> str:  # type: ignore[override]
        """Name of the inner head's model file."""
        return self.head.file

    def _fit(self, X: Matrix, codes: np.ndarray, groups: np.ndarray) -> None:
        check_blocks(X, self.blocks or X.shape[1:])
        best = self._best(X, codes, groups)
        if not hasattr(best.head, "classes_"):
            best.head.fit(best.Z, codes, groups)
        self.tuning_ = self.tuning_ or best.head.tuning_
        self.head_, self.model_ = best.head, best.embedding
        self.history_ = best.head.history_

    def _best(self, X: Matrix, codes: np.ndarray, groups: np.ndarray) -> _Trial:
        """The trial to take; what led to it goes to ``tuning_``."""
        folds = inner_folds(codes, groups, most=self.head.most_folds, seed=self.seed)
        transforms, components = self._choices(X.shape, bool(folds))
        if len(transforms) == len(components) == 1:
            if TUNE in (self.transformation, self.pca) and not folds:
                self.tuning_ = summary([], 0, TOO_FEW)
            return self._trial(X, transforms[0], components[0])

        trials: list[_Trial] = []

        def score(transform: str, pca: str | int) -> None:
            trial = self._trial(X, transform, pca).scored(codes, groups, folds)
            trials.append(trial)
            for other in trials:  # one copy at most is kept of what heads see
                if other is not min(trials, key=_loss):
                    other.Z = _NOTHING

        for name in transforms:
            score(name, components[0])
        taken = min(trials, key=_loss).embedding.transform
        for k in components[1:]:
            score(taken, k)
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

    def _trial(self, X: Matrix, transform: str, pca: str | int) -> _Trial:
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


def components_of(Z: Rows, pca: PCA) -> np.ndarray:
    """Fits a PCA by the covariance of scaled rows (N, D), and gives (N, k) float32.

    It is summed block by block in float64; ``pca`` is then as if it had been fitted.
    """
    total = np.zeros(Z.shape[1])
    products = np.zeros((Z.shape[1], Z.shape[1]))
    for block in Z.blocks():
        total += block.sum(axis=0, dtype=np.float64)
        products += block.T @ block
    pca.mean_ = total / len(Z)
    covariance = products / len(Z) - np.outer(pca.mean_, pca.mean_)
    first = Z.shape[1] - pca.n_components
    values, vectors = eigh(covariance, subset_by_index=(first, Z.shape[1] - 1))
    values, vectors = values[::-1].clip(0), vectors[:, ::-1]
    # Signs as scikit-learn's: the largest coordinate of each direction is positive.
    largest = np.abs(vectors).argmax(axis=0)
    vectors = vectors * np.sign(vectors[largest, np.arange(vectors.shape[1])])
    spread = len(Z) / (len(Z) - 1)
    pca.components_ = vectors.T.astype(np.float32)
    pca.explained_variance_ = values * spread
    pca.explained_variance_ratio_ = values / np.trace(covariance)
    pca.singular_values_ = np.sqrt(values * len(Z))
    pca.noise_variance_ = float(
        spread * (np.trace(covariance) - values.sum()) / max(first, 1)
    )
    pca.n_samples_, pca.n_features_in_ = Z.shape
    pca.n_components_ = pca.n_components
    turn = pca.components_.T
    shift = (pca.mean_ @ turn).astype(np.float32)
    return np.asarray(Z.then(lambda block: block @ turn - shift, turn.shape[1]))


def _loss(trial: _Trial) -> float:
    return float(trial.scores["log_loss"])


def _unit(rows: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(length > 0, length, 1))
