"""Evaluation: fit a head on some folds, predict the others, and never leak.

Embeddings come as (N, V, D): N images in V views, view 0 first. All views of the
training images are trained on; held-out images are seen plain, or as the mean of
the probabilities over their own views.
"""

import os
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from featcache.core.tf import THREADS
from featcache.dataset.splits import assert_disjoint
from featcache.errors import FeatcacheError, HeadError


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
    """

    p: np.ndarray
    fit_seconds: float
    predict_seconds: float
    model_file: str = ""
    history: list[dict[str, float]] = field(default_factory=list)
    tuning: dict[str, Any] = field(default_factory=dict)


def fit_predict(
    head: Any,
    X: np.ndarray,
    *,
    y: np.ndarray,
    groups: np.ndarray,
    train: np.ndarray,
    held: np.ndarray,
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
        held: Indices of the held-out images; may be empty.
        n_classes: C, classes in the whole dataset.
        tta: Average the probabilities over a held-out image's views.
        save_to: Folder for the fitted model.

    Raises:
        SplitError: A group stands on both sides.
        HeadError: The head cannot be fitted.
    """
    assert_disjoint(groups[train], groups[held])
    views = X.shape[1]
    started = time.perf_counter()
    head.fit(
        X[train].reshape(-1, X.shape[2]),
        np.repeat(y[train], views),
        groups=np.repeat(groups[train], views),
    )
    fitted = time.perf_counter()
    p = np.zeros((len(held), n_classes))
    if len(held):
        seen = X[held] if tta else X[held, :1]
        raw = head.predict_proba(seen.reshape(-1, X.shape[2]))
        p[:, head.classes_] = raw.reshape(len(held), seen.shape[1], -1).mean(axis=1)
    predicted = time.perf_counter()
    return Fit(
        p=p,
        fit_seconds=fitted - started,
        predict_seconds=predicted - fitted,
        model_file=head.save(save_to) if save_to else "",
        history=head.history_,
        tuning=head.tuning_,
    )


def side_by_side(
    calls: Sequence[dict[str, Any]], n_jobs: int
) -> Iterator[tuple[int, Fit | str]]:
    """Runs ``fit_predict`` for each set of arguments in parallel processes.

    Each process has one thread: folds side by side are many times faster than
    threads that fight each other. No process is left behind on Ctrl-C.

    Yields:
        (number of the call, its outcome) as they end; an outcome that is a text is
        the reason why the head failed.
    """
    if not calls:
        return
    from joblib import Parallel, delayed, parallel_config
    from joblib.externals.loky import get_reusable_executor
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    with (
        warnings.catch_warnings(),
        parallel_config("loky", n_jobs=n_jobs, inner_max_num_threads=1),
    ):
        # Workers that grew too large are replaced; that is no news to a user.
        warnings.filterwarnings("ignore", "A worker stopped", UserWarning)
        parallel = Parallel(return_as="generator_unordered", batch_size=1)
        try:
            yield from parallel(
                delayed(_outcome)(number, os.getpid(), call)
                for number, call in enumerate(calls)
            )
        except TerminatedWorkerError as error:
            raise HeadError(
                "the worker processes to live",
                "one that was killed, most often for want of memory",
                "Finished runs are kept: try again with fewer `jobs`.",
            ) from error
        except BaseException:
            get_reusable_executor().shutdown(wait=False, kill_workers=True)
            raise


def _outcome(
    number: int, parent: int, arguments: dict[str, Any]
) -> tuple[int, Fit | str]:
    if os.getpid() != parent:
        os.environ[THREADS] = "1"
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    try:
        return number, fit_predict(**arguments)
    except FeatcacheError as error:
        return number, str(error)
    except Exception as error:  # noqa: BLE001
        # Whatever a foreign head raises is recorded as the reason of its failure.
        return number, f"{type(error).__name__}: {error}"
