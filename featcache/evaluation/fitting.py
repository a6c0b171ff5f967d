"""Evaluation: fit a head on some folds, predict the others, and never leak.

Embeddings come as (N, V, D): N images in V views, view 0 first. All views of the
training images are trained on; held-out images are seen plain, or as the mean of
the probabilities over their own views.
"""

import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from featcache.core.text import warning_text
from featcache.dataset.splits import assert_disjoint
from featcache.heads.rows import Matrix, take


@dataclass(frozen=True)
class Fit:
    """One fitted head and what it says of the held-out images.

    Attributes:
        p: (len(held), C) probabilities, columns in class order.
        fit_seconds: Time of the fit.
        predict_seconds: Time of the predictions.
        model_file: Name of the saved model; empty if none was to be saved.
        history: One row an epoch, for heads that have epochs.
        tuning: What the head tried and chose inside its training rows; empty if
            nothing was to be chosen.
        warnings: What libraries warned of, each once.
    """

    p: np.ndarray
    fit_seconds: float
    predict_seconds: float
    model_file: str = ""
    history: list[dict[str, float]] = field(default_factory=list)
    tuning: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Time of the fit and the predictions."""
        return self.fit_seconds + self.predict_seconds


def fit_predict(
    head: Any,
    X: np.ndarray,
    *,
    y: np.ndarray,
    groups: np.ndarray,
    train: np.ndarray,
    held_out: np.ndarray,
    n_classes: int,
    tta: bool = False,
    save_to: Path | None = None,
) -> Fit:
    """Fits a head on the training images and predicts the held-out ones.

    Args:
        head: An unfitted head of ``featcache.heads``.
        X: (N, V, D) embeddings.
        y: (N,) class indices.
        groups: (N,) groups.
        train: Indices of the training images.
        held_out: Indices of the held-out images; may be empty.
        n_classes: C, classes in the whole dataset.
        tta: Average the probabilities over a held-out image's views.
        save_to: Folder for the fitted model.

    Raises:
        SplitError: A group stands on both sides.
        HeadError: The head cannot be fitted.
    """
    assert_disjoint(groups[train], groups[held_out])
    views = X.shape[1]
    started = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        head.fit(
            _rows(X, train, views),
            np.repeat(y[train], views),
            groups=np.repeat(groups[train], views),
        )
    fitted = time.perf_counter()
    p = np.zeros((len(held_out), n_classes))
    if len(held_out):
        seen = views if tta else 1
        raw = head.predict_proba(_rows(X, held_out, seen))
        p[:, head.classes_] = raw.reshape(len(held_out), seen, -1).mean(axis=1)
    predicted = time.perf_counter()
    return Fit(
        p=p,
        fit_seconds=fitted - started,
        predict_seconds=predicted - fitted,
        model_file=head.save(save_to) if save_to else "",
        history=head.history_,
        tuning=head.tuning_,
        warnings=list(
            dict.fromkeys(warning_text(one.message, one.category) for one in caught)
        ),
    )


def _rows(X: np.ndarray, images: np.ndarray, views: int) -> Matrix:
    """A row for each of the first views of images; not copied where they are many."""
    rows = images[:, None] * X.shape[1] + np.arange(views)
    return take(X.reshape(-1, X.shape[2]), rows.ravel())
