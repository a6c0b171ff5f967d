"""A run's training rows, and its head fitted on subsamples of them."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from featcache import heads
from featcache.core.progress import Reporter
from featcache.core.workers import Workers
from featcache.dataset.manifest import OK, Manifest
from featcache.dataset.views import Policy
from featcache.deploy import networks
from featcache.errors import RunError, StoreError
from featcache.evaluation import fitting, runs
from featcache.evaluation.curves import SHARES, Size, group_classes, subsample
from featcache.evaluation.fitting import Fit
from featcache.evaluation.runs import Run
from featcache.features import FeatureSet, Selection
from featcache.features.mapping import map_images

if TYPE_CHECKING:
    from featcache.heads.base import Head

_LEAST_GROUPS = 4  # of each class, so that settings can be tuned inside
_HALF = 0.5


@dataclass(frozen=True, eq=False)
class Training:
    """The out-of-fold images of a run, with their features.

    Attributes:
        selection: Rows of the stores, (views + 1) an image, in the images' order.
        y: (N,) class indices.
        groups: (N,) groups.
        fold_of: (N,) folds.
        seed: Of the subsamples.
        unit: What groups are called.
        classes: Labels in class order.
    """

    selection: Selection
    y: np.ndarray
    groups: np.ndarray
    fold_of: np.ndarray
    seed: int
    unit: str
    classes: list[str]

    @property
    def folds(self) -> list[int]:
        """Their numbers."""
        return [int(fold) for fold in np.unique(self.fold_of)]

    @cached_property
    def group_counts(self) -> list[int]:
        """Groups of each class, in all folds together."""
        of_group, _ = group_classes(self.y, self.groups)
        return [*map(int, np.bincount(of_group, minlength=len(self.classes)))]

    def trained_groups(self, number: int) -> float:
        """Groups of a class that are trained on, the mean over folds."""
        return self.group_counts[number] * (1 - 1 / len(self.folds))


class _Task(NamedTuple):
    """A fit: on which share of which class (None for all), which draw, which fold."""

    share: float
    of_class: int | None
    draw: int
    fold: int


def run_training(manifest: Manifest, run: Run, *, seed: int) -> Training:
    """The rows that a run's head was evaluated on, with their features.

    Raises:
        RunError: A run without cached features or out-of-fold predictions.
        StoreError: Its features are gone, or lack an image.
    """
    table = run.table[run.table["split"] == runs.TRAIN]
    _refuse_others(run, table["fold"].nunique())
    record, ids = run.record, set(table["image_id"])
    own = manifest.table[manifest.table["image_id"].isin(ids)]
    if missing := ids - set(own.loc[own["status"] == OK, "image_id"]):
        raise StoreError(
            f"the images of {run.run_id} in the manifest of {manifest.dataset}",
            f"{len(missing)} are gone, such as {min(missing)}",
            "Scan the source as it was, or train the run again with `force=True`.",
        )
    dataset = replace(manifest, table=own.reset_index(drop=True))
    stores = [networks.store_of(run, manifest.folder, b) for b in record.features]
    by_path = {one.path: one for one in stores}
    selection = FeatureSet(tuple(by_path.values())).select(
        dataset,
        views=record.views,
        policy=Policy.of(record.policy) if record.policy else None,
        taps=record.taps,
    )
    part = run.predictions(runs.TRAIN)
    meta = selection.meta
    order = pd.Index(table["image_id"]).get_indexer(
        meta.loc[meta["view"] == 0, "image_id"]
    )
    return Training(
        selection,
        part.y[order],
        part.groups[order],
        table["fold"].to_numpy(int)[order],
        seed,
        record.split.unit,
        run.classes,
    )


def _refuse_others(run: Run, folds: int) -> None:
    record = run.record
    reason = ""
    if run.failed:
        reason = "which failed"
    elif record.members:
        reason = "an ensemble, which has no features of its own"
    elif not all(block.contract_id for block in record.features):
        reason = "a fine-tuned network, which would have to be trained anew"
    elif any(block.region for block in record.features):
        reason = "a control on a part of each picture"
    elif folds < 2:
        reason = "which has no out-of-fold predictions"
    if reason:
        raise RunError(
            "a run of a head on cached features, with folds",
            f"{run.run_id}, {reason}",
            "Choose another run. To see them: featcache compare",
        )


def fit_sizes(
    training: Training,
    run: Run,
    workers: Workers,
    *,
    draws: int,
    classes: bool,
    reporter: Reporter,
) -> tuple[list[Size], list[Size | None]]:
    """Out-of-fold predictions of the run's head at every size.

    Args:
        training: Its rows.
        run: The run.
        workers: Where the head is fitted.
        draws: Subsamples of each size.
        classes: Also halve each class.
        reporter: Hears of the fits done, as "fits", and of sizes that failed.

    Returns:
        The sizes by rising share; and for each class half of its groups, None where
        that was not asked for or cannot be.
    """
    tasks = [*_tasks(training, draws, classes, len(run.classes))]
    p: dict[tuple[float, int | None, int], np.ndarray] = defaultdict(
        lambda: np.full((len(training.y), len(run.classes)), np.nan)
    )
    with workers.scratch(run.folder.parent.parent) as temp:
        X = map_images(training.selection, temp / "features.npy")
        calls = [_call(training, run, X, task) for task in tasks]
        with closing(workers.run(fitting.fit_predict, calls)) as results:
            for done, (number, result) in enumerate(results, 1):
                task = tasks[number]
                if isinstance(result, Fit):
                    p[task[:3]][training.fold_of == task.fold] = result.p
                else:
                    reporter.message(
                        f"A fit on {task.share:.0%} of the {training.unit} failed: "
                        f"{result}"
                    )
                reporter.progress("fits", done, len(tasks))
    whole = {key: one for key, one in p.items() if not np.isnan(one).any()}
    sizes = [_size(training, whole, share) for share in SHARES]
    halves = [_size(training, whole, _HALF, c) for c in range(len(run.classes))]
    return [size for size in sizes if size], halves


def _tasks(
    training: Training, draws: int, classes: bool, n_classes: int
) -> Iterator[_Task]:
    for share in SHARES:
        if share == 1 or _is_large_enough(training, share):
            for draw in range(draws if share < 1 else 1):
                yield from (_Task(share, None, draw, f) for f in training.folds)
    for number in range(n_classes if classes else 0):
        if training.trained_groups(number) * _HALF >= 1:
            for draw in range(draws):
                yield from (_Task(_HALF, number, draw, f) for f in training.folds)


def _is_large_enough(training: Training, share: float) -> bool:
    rarest = min(count for count in training.group_counts if count)
    trained = rarest * (1 - 1 / len(training.folds))
    return trained * share >= _LEAST_GROUPS


def _kept(training: Training, task: _Task) -> np.ndarray:
    """The rows that a fit is trained on."""
    train = np.flatnonzero(training.fold_of != task.fold)
    kept = subsample(
        training.y[train],
        training.groups[train],
        task.share,
        draw=task.draw,
        seed=training.seed,
        of_class=task.of_class,
    )
    return train[kept]


def _call(training: Training, run: Run, X: np.ndarray, task: _Task) -> dict[str, Any]:
    """The arguments of one fit; see ``evaluation.fitting.fit_predict``."""
    return {
        "head": _unfitted(run, training.selection.dims),
        "X": X,
        "y": training.y,
        "groups": training.groups,
        "train": _kept(training, task),
        "held_out": np.flatnonzero(training.fold_of == task.fold),
        "n_classes": len(run.classes),
        "tta": run.record.tta,
    }


def _unfitted(run: Run, dims: Sequence[int]) -> "Head":
    """The head as the run was told to train it."""
    identity = run.record.head_is
    embedding = identity.embedding
    return heads.make(
        run.record.head,
        seed=run.record.seed,
        tune=identity.params.get("tune"),
        blocks=tuple(dims),
        transform=embedding.transform if embedding else heads.NONE,
        pca=embedding.pca if embedding else heads.NONE,
    )


def _size(
    training: Training,
    p: Mapping[tuple[float, int | None, int], np.ndarray],
    share: float,
    of_class: int | None = None,
) -> Size | None:
    """All draws of a size whose every fold was fitted; None without any."""
    draws = [key[2] for key in p if key[:2] == (share, of_class)]
    if not draws:
        return None
    kept = [
        _kept(training, _Task(share, of_class, draw, fold))
        for draw in draws
        for fold in training.folds
    ]
    groups = [len(np.unique(training.groups[rows].astype(str))) for rows in kept]
    return Size(
        share,
        float(np.mean(groups)),
        float(np.mean([len(rows) for rows in kept])),
        [p[share, of_class, draw] for draw in draws],
    )
