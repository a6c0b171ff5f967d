"""A fitted head taken apart: transform, rotation, and the head proper.

Heads come as they are from ``featcache.heads``; what is read here of them is said in
their docstrings (``model_``, ``head_``).
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from featcache.commands.explain.attribution.base import Array, contrast, margins

_AGREEMENT = 1e-3  # of a linear form and the head it is taken from, in margin


class Rotation(NamedTuple):
    """``Z = (T - centre) @ matrix.T``: standardisation and PCA as one affine map.

    Attributes:
        matrix: (K, D).
        centre: (D,), what is at 0 of every component.
    """

    matrix: Array
    centre: Array


class Linear(NamedTuple):
    """Margins ``((Z - mean) / scale) @ weights.T + intercept``.

    Attributes:
        weights: (C, K).
        intercept: (C,).
        mean: (K,).
        scale: (K,).
    """

    weights: Array
    intercept: Array
    mean: Array
    scale: Array


@dataclass(frozen=True)
class Stages:
    """Features X (N, D) to T (N, D), each of its own channel, to Z (N, K), to margins.

    Attributes:
        inner: The head that sees Z.
        embedding: What leads from X to Z; None if the head sees X.
    """

    inner: Any
    embedding: Any = None

    @property
    def transform(self) -> str:
        """The transform's name: none, sqrt or l2."""
        return str(self.embedding.transform) if self.embedding else "none"

    def transformed(self, X: Array) -> Array:
        """T: column c is that of channel c, whatever the transform."""
        if self.embedding is None:
            return X
        return np.asarray(replace(self.embedding, rotation=None)(X))

    @property
    def rotation(self) -> Rotation | None:
        """From T to Z, where there is PCA."""
        if self.embedding is None or self.embedding.rotation is None:
            return None
        steps = self.embedding.rotation.named_steps
        scaler, pca = steps["scale"], steps["pca"]
        return Rotation(
            pca.components_ / scaler.scale_, scaler.mean_ + scaler.scale_ * pca.mean_
        )

    def rotated(self, T: Array) -> Array:
        """Z, (N, K)."""
        turn = self.rotation
        return T if turn is None else (T - turn.centre) @ turn.matrix.T

    def margins(self, T: Array) -> Array:
        """Margins (N, C) of transformed features (N, D)."""
        return margins(self.inner.predict_proba(self.rotated(T)))

    def back(self, X: Array, g: Array) -> Array:
        """From a gradient with respect to Z (N, K) to one with respect to X (N, D).

        A square root has no slope at 0; there it is taken for 0.
        """
        turn = self.rotation
        g = g if turn is None else g @ turn.matrix
        if self.transform == "sqrt":
            slope = np.zeros_like(X)
            np.divide(0.5, np.sqrt(np.abs(X)), out=slope, where=X != 0)
            return g * slope
        if self.transform == "l2":
            return _through_length(X, g, self.embedding.blocks)
        return g


def stages(head: Any) -> Stages:
    """Takes a fitted head of ``featcache.heads`` apart."""
    if hasattr(head, "head_"):
        return Stages(head.head_, head.model_)
    return Stages(head)


def linear(inner: Any, Z: Array) -> Linear | None:
    """The linear form of a head, if its margins at ``Z`` (N, K) are those of one."""
    parameters = _of_sklearn(inner) or _of_keras(inner)
    if parameters is None:
        return None
    weights, intercept, mean, scale = (np.asarray(a, np.float64) for a in parameters)
    if len(weights) == 1:  # two classes in one row
        weights = np.concatenate([np.zeros_like(weights), weights])
        intercept = np.concatenate([np.zeros_like(intercept), intercept])
    turn = contrast(len(weights))
    form = Linear(turn @ weights, turn @ intercept, mean, scale)
    expected = margins(inner.predict_proba(Z))
    if expected.shape[1] != len(weights):  # a row of weights for each pair of classes
        return None
    ours = (Z - form.mean) / form.scale @ form.weights.T + form.intercept
    return form if np.abs(ours - expected).max(initial=0) < _AGREEMENT else None


def _of_sklearn(inner: Any) -> tuple[Any, ...] | None:
    steps = getattr(inner.model_, "named_steps", {})
    classify: Any = steps.get("classify")
    if not hasattr(classify, "coef_") or not hasattr(classify, "intercept_"):
        return None
    scale = steps["scale"]
    return classify.coef_, classify.intercept_, scale.mean_, scale.scale_


def _of_keras(inner: Any) -> tuple[Any, ...] | None:
    layers = list(getattr(inner.model_, "layers", []))[1:]
    kinds = [type(layer).__name__ for layer in layers]
    if kinds not in (["Normalization", "Dense"], ["Dense", "Activation"]):
        return None
    scale, dense = layers[0], layers[kinds.index("Dense")]
    kernel, bias = (weight.numpy() for weight in dense.weights)
    if scale is dense:
        return kernel.T, bias, np.zeros(len(kernel)), np.ones(len(kernel))
    mean, variance = (np.ravel(part.numpy()) for part in (scale.mean, scale.variance))
    return kernel.T, bias, mean, np.sqrt(variance)


def _through_length(X: Array, g: Array, blocks: Any) -> Array:
    """Back through the scaling of each block of a row to unit length."""
    ends = np.cumsum(blocks)[:-1] if blocks else np.arange(0)
    parts = zip(np.split(X, ends, axis=1), np.split(g, ends, axis=1), strict=True)
    slopes = []
    for B, slope in parts:
        length = np.linalg.norm(B, axis=1, keepdims=True)
        length = np.where(length > 0, length, 1)
        unit = B / length
        slopes.append((slope - unit * (unit * slope).sum(1, keepdims=True)) / length)
    return np.concatenate(slopes, axis=1)
