"""Choosing a head's settings inside the training rows that it is given."""

import warnings
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.model_selection import StratifiedKFold

Fold = tuple[np.ndarray, np.ndarray]
Tried = list[dict[str, Any]]
HOTTEST = 20.0  # the highest temperature


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
        held_out_groups = [held_out for _, held_out in splitter.split(strata, strata)]
    masks = [np.isin(member, held_out) for held_out in held_out_groups]
    whole = [m for m in masks if len(np.unique(codes[~m])) == len(np.unique(codes))]
    return [(np.flatnonzero(~m), np.flatnonzero(m)) for m in whole]


def inner_folds(
    codes: np.ndarray, groups: np.ndarray, *, most: int = 5, seed: int
) -> list[Fold]:
    """The most folds, up to ``most``, that hold out every row once.

    Returns:
        Pairs of row indices (kept, held out); none where a class has but one group.
    """
    for folds in range(most, 1, -1):
        pairs = group_folds(codes, groups, folds=folds, seed=seed)
        if len(pairs) == folds:
            return pairs
    return []


def grid(**values: Sequence[Any]) -> list[dict[str, Any]]:
    """Every combination of the values of some settings."""
    return [dict(zip(values, c, strict=True)) for c in product(*values.values())]


def walk_down(loss: Callable[[int], float], count: int, first: int) -> None:
    """Walks along settings 0..count-1 until both neighbours of one are no better.

    Strides of two, then of one: right where the loss falls and rises once. A step down
    is tried first, for weak penalties are slow to fit.

    Args:
        loss: Of a setting; is called once for each that is tried.
        count: Settings.
        first: The one to start at.
    """
    losses = {first: loss(first)}
    best = first
    for stride in (2, 1):
        before = None
        while before != best:
            before = best
            for near in (best - stride, best + stride):
                if 0 <= near < count and near not in losses:
                    losses[near] = loss(near)
                    if losses[near] < losses[best]:
                        best = near
                        break


def scores(codes: np.ndarray, proba: np.ndarray) -> dict[str, float]:
    """Mean log-loss and accuracy of held-out rows.

    Args:
        codes: (N,) class codes 0..n-1.
        proba: (N, n) probabilities.
    """
    right = proba[np.arange(len(codes)), codes]
    # A float32 softmax may give a clear 0.
    log_loss = -np.log(right.clip(np.finfo(np.float32).eps)).mean()
    accuracy = (proba.argmax(axis=1) == codes).mean()
    return {"log_loss": float(log_loss), "accuracy": float(accuracy)}


def softening(codes: np.ndarray, proba: np.ndarray) -> tuple[float, float]:
    """The log-loss of held-out rows after the temperature that suits them best.

    The logarithms of the probabilities are divided by it (Guo et al., ICML 2017). It
    is never below 1: a few held-out groups that are all right would ask for certainty.

    Args:
        codes: (N,) class codes 0..n-1.
        proba: (N, n) probabilities.

    Returns:
        The log-loss and the temperature.
    """
    logits = np.log(proba.clip(np.finfo(np.float32).tiny)).astype(np.float64)
    rows = np.arange(len(codes))

    def loss(logarithm: float) -> float:
        return float(
            -log_softmax(logits / np.exp(logarithm), axis=1)[rows, codes].mean()
        )

    best = minimize_scalar(loss, bounds=(0, np.log(HOTTEST)), method="bounded")
    return float(best.fun), float(np.exp(best.x))


def kept_rows(folds: Sequence[Fold], n_rows: int) -> np.ndarray:
    """Whether the fit of a fold sees a row, (F, N) bool."""
    kept = np.zeros((len(folds), n_rows), bool)
    for fit, (rows, _) in enumerate(folds):
        kept[fit, rows] = True
    return kept


def held_out_rows(folds: Sequence[Fold]) -> np.ndarray:
    """Indices of the held-out rows of all folds, one fold after the other."""
    return np.concatenate([held_out for _, held_out in folds])


def held_out_scores(
    codes: np.ndarray, folds: Sequence[Fold], predict: Callable[[Fold], np.ndarray]
) -> dict[str, float]:
    """``scores`` over the held-out rows of all folds, each predicted by ``predict``."""
    proba = np.concatenate([predict(fold) for fold in folds])
    return scores(codes[held_out_rows(folds)], proba)


def summary(tried: Tried, folds: int, note: str = "") -> dict[str, Any]:
    """What was tried and chosen: the smallest inner log-loss, the first on a tie.

    Args:
        tried: The settings of each trial with their ``log_loss`` and ``accuracy``.
        folds: Inner folds; 0 where there were none and nothing was tried.
        note: What a reader of the record should know.

    Returns:
        ``chosen``, ``log_loss``, ``folds``, ``tried`` and, where there is one,
        ``note``.
    """
    best = min(tried, key=lambda trial: trial["log_loss"]) if tried else {}
    return {
        "selected": {
            k: v for k, v in best.items() if k not in ("log_loss", "accuracy")
        },
        "log_loss": best.get("log_loss"),
        "folds": folds,
        "tried": tried,
    } | ({"note": note} if note else {})
