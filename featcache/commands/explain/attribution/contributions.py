"""Contributions: what each feature adds to a head's margin, by head and method."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from featcache.commands.explain.attribution import gradients
from featcache.commands.explain.attribution.base import (
    Array,
    Contributions,
    contrast,
    margins,
)
from featcache.commands.explain.attribution.stages import Stages, linear, stages
from featcache.errors import HeadError

AUTO = "auto"
STEPS = 128  # points of the path of integrated gradients
PERMUTATIONS = 16  # each is walked there and back
_ROWS = 16_384  # rows a head predicts at once


class Sampling(NamedTuple):
    """The orders in which Shapley sampling changes the features.

    Attributes:
        seed: Decides them.
        orders: How many a row has; each is walked there and back.
        first: Number of the first row, where each row has orders of its own, so that
            a mean over rows is over many; None if all rows have the same.
    """

    seed: int = 0
    orders: int = PERMUTATIONS
    first: int | None = None

    def permutations(self, row: int, features: int) -> list[np.ndarray]:
        """The orders of a row."""
        own = self.seed if self.first is None else [self.seed, self.first + row]
        rng = np.random.default_rng(own)
        return [rng.permutation(features) for _ in range(self.orders)]

    @property
    def of_mean(self) -> "Sampling":
        """For a mean over rows: half of the orders, and each row has its own."""
        return self._replace(orders=self.orders // 2, first=0)


SAMPLING = Sampling()


def contributions(
    head: Any,
    X: np.ndarray,
    codes: np.ndarray,
    *,
    background: np.ndarray,
    method: str = AUTO,
    sampling: Sampling = SAMPLING,
) -> Contributions:
    """Splits the margin of a class over the features.

    Args:
        head: A fitted head of ``featcache.heads``.
        X: (N, D) features.
        codes: (N,) column of ``head.classes_`` whose margin is split, for each row.
        background: (D,) mean of the training rows: what a feature is compared with
            where the head has no closed form.
        method: One of `METHODS`, or "auto" for the first that suits the head.
        sampling: The orders of Shapley sampling.

    Raises:
        HeadError: The method does not suit the head.
    """
    X, parts = np.asarray(X, np.float64), stages(head)
    codes = np.asarray(codes, int)
    names = list(METHODS) if method == AUTO else [method]
    for name in names:
        how = METHODS[name](parts, X, background=background, sampling=sampling)
        if how is not None:
            phi, base = how(codes)
            return Contributions(name, phi, np.broadcast_to(base, len(X)).copy())
    raise HeadError(
        f"a head that {method} can explain",
        _described(parts),
        "Use `methods=['auto']`.",
    )


def gradient(head: Any, X: np.ndarray, codes: np.ndarray) -> Array:
    """Gradient (N, D) of the requested margins with respect to the features.

    Args:
        head: A fitted head of ``featcache.heads``: one of Keras, or a linear one.
        X: (N, D) features.
        codes: (N,) column of ``head.classes_``, for each row.

    Raises:
        HeadError: The head has no gradient.
    """
    X, parts = np.asarray(X, np.float64), stages(head)
    Z = parts.rotated(parts.transformed(X))
    form = linear(parts.inner, Z)
    if form is not None:
        return parts.back(X, (form.weights / form.scale)[codes])
    if not _is_keras(parts):
        raise HeadError(
            "a head that has gradients (softmax, mlp, mlp-dropout, logreg)",
            _described(parts),
            "Use `methods=['auto']` or occlusion.",
        )
    return parts.back(X, gradients.of_features(parts.inner.model_, Z, codes))


_Split = Callable[[np.ndarray], tuple[Array, Any]]


def _linear(parts: Stages, X: Array, **_: Any) -> _Split | None:
    T = parts.transformed(X)
    form, turn = linear(parts.inner, parts.rotated(T)), parts.rotation
    if form is None:
        return None

    def split(codes: np.ndarray) -> tuple[Array, Array]:
        weights = form.weights / form.scale
        if turn is None:
            return weights[codes] * (T - form.mean), form.intercept[codes]
        base = form.intercept - weights @ form.mean
        return (weights @ turn.matrix)[codes] * (T - turn.centre), base[codes]

    return split


def _treeshap(parts: Stages, X: Array, **_: Any) -> _Split | None:
    if not hasattr(parts.inner.model_, "get_booster") or parts.rotation is not None:
        return None

    def split(codes: np.ndarray) -> tuple[Array, Array]:
        from xgboost import DMatrix

        rows = DMatrix(parts.transformed(X).astype(np.float32))
        booster = parts.inner.model_.get_booster()
        contributed = booster.predict(rows, pred_contribs=True).astype(np.float64)
        if contributed.ndim == 2:  # two classes: that of the second
            contributed = np.stack([np.zeros_like(contributed), contributed], axis=1)
        turn = contrast(contributed.shape[1])[codes]
        phi = np.einsum("nc,ncd->nd", turn, contributed)
        return phi[:, :-1], phi[:, -1]

    return split


def _by_slope(
    mean_slope: Callable[[Stages, Array, Array, np.ndarray], Array],
    parts: Stages,
    X: Array,
    *,
    background: np.ndarray,
    **_: Any,
) -> _Split | None:
    """The change of each feature from the background, times a slope of the margin."""
    if not _is_keras(parts):
        return None

    def split(codes: np.ndarray) -> tuple[Array, Array]:
        T, start = _ends(parts, X, background)
        slope = mean_slope(parts, T, start, codes)
        return slope * (T - start), parts.margins(start)[0, codes]

    return split


def _slope_on_path(parts: Stages, T: Array, start: Array, codes: np.ndarray) -> Array:
    shares = (np.arange(STEPS) + 0.5) / STEPS
    path = start + shares[:, None, None] * (T - start)
    slopes = _slope(parts, path.reshape(-1, T.shape[1]), np.tile(codes, STEPS))
    return np.asarray(slopes.reshape(path.shape).mean(axis=0))


def _slope_at_end(parts: Stages, T: Array, _: Array, codes: np.ndarray) -> Array:
    return _slope(parts, T, codes)


def _shapley(
    parts: Stages, X: Array, *, background: np.ndarray, sampling: Sampling
) -> _Split | None:
    def split(codes: np.ndarray) -> tuple[Array, Array]:
        T, start = _ends(parts, X, background)
        phi = [
            _sampled(parts, start[0], row, code, sampling.permutations(n, len(row)))
            for n, (row, code) in enumerate(zip(T, codes, strict=True))
        ]
        return np.stack(phi), parts.margins(start)[0, codes]

    return split


def _sampled(
    parts: Stages, start: Array, row: Array, code: int, orders: Sequence[np.ndarray]
) -> Array:
    """Mean gain of each feature as they change over one by one, in these orders.

    Permutation sampling (Castro et al. 2009), each order also backwards (Mitchell et
    al. 2022). The gains of an order sum to the whole change, so the mean does too.
    """
    gains = np.zeros(len(row))
    for permutation in orders:
        for order in (permutation, permutation[::-1]):
            gains[order] += np.diff(_walk(parts, start, row, order)[:, code])
    return gains / (2 * len(orders))


def _walk(parts: Stages, start: Array, row: Array, order: np.ndarray) -> Array:
    """Margins (D + 1, C) after the first 0, 1, ... D features of an order changed."""
    place = np.empty(len(row), int)
    place[order] = np.arange(len(row))
    steps = np.arange(len(row) + 1)
    chunks = np.array_split(steps, -(-len(steps) * len(row) // (_ROWS * 512)) or 1)
    return np.concatenate(
        [parts.margins(np.where(place < n[:, None], row, start)) for n in chunks]
    )


def _ends(parts: Stages, X: Array, background: np.ndarray) -> tuple[Array, Array]:
    """Transformed features (N, D), and those of the training mean (1, D)."""
    start = np.asarray(background, np.float64)[None]
    return parts.transformed(X), parts.transformed(start)


def _slope(parts: Stages, T: Array, codes: np.ndarray) -> Array:
    g = gradients.of_features(parts.inner.model_, parts.rotated(T), codes)
    return g if parts.rotation is None else g @ parts.rotation.matrix


def _is_keras(parts: Stages) -> bool:
    return hasattr(parts.inner.model_, "layers")


def _described(parts: Stages) -> str:
    return str(parts.inner.name) + (" on PCA" if parts.rotation is not None else "")


# In the order in which "auto" tries them.
METHODS: dict[str, Callable[..., _Split | None]] = {
    "linear": _linear,
    "treeshap": _treeshap,
    "integrated-gradients": partial(_by_slope, _slope_on_path),
    "gradient-input": partial(_by_slope, _slope_at_end),
    "shapley": _shapley,
}
__all__ = ["AUTO", "METHODS", "contributions", "gradient", "margins"]
