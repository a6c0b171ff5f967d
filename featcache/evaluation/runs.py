"""Runs: the record of one trained and evaluated model, one folder each."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd

from featcache.core import checked
from featcache.core.io import atomic_folder, lock, write_json
from featcache.core.text import first_line
from featcache.core.times import instant
from featcache.dataset import splits
from featcache.errors import RunError
from featcache.evaluation.identity import evaluation_id, short_id
from featcache.evaluation.record import FAILED, RunRecord

TRAIN, TEST = "train", "test"  # the column `split` of predictions.csv
PREDICTIONS = "predictions.csv"
PROBABILITY = "p_"  # and the label: a column of predictions.csv
_LIBRARIES = ("featcache", "scikit-learn", "xgboost", "keras", "numpy")


@dataclass(frozen=True)
class Predictions:
    """A run's predictions on one part of the data.

    Attributes:
        y: (N,) class indices.
        p: (N, C) probabilities, columns in class order.
        groups: (N,) groups.
    """

    y: np.ndarray
    p: np.ndarray
    groups: np.ndarray


@dataclass(frozen=True)
class Run:
    """One run on disk.

    Attributes:
        folder: ``reports/<dataset>/runs/<run_id>``.
        record: What run.json says.
    """

    folder: Path
    record: RunRecord

    @property
    def run_id(self) -> str:
        """Names the run: head, backbone and the digest of its inputs."""
        return self.folder.name

    @property
    def short_id(self) -> str:
        """The first digits of that digest, six or as many as no other run here has."""
        return short_id(self.folder)

    @property
    def failed(self) -> bool:
        """Whether the head could not be fitted; the record says why."""
        return self.record.status == FAILED

    @property
    def classes(self) -> list[str]:
        """Labels in class order."""
        return self.record.classes

    @property
    def contracts(self) -> set[str]:
        """The contract_id of every store that its features come from."""
        ids = (block.contract_id for block in self.record.features)
        return {one for one in ids if one}  # what is fine-tuned has no contract

    def file(self, name: str) -> Path:
        """The path of one of its files, as it was written.

        Raises:
            RunError: It is missing, was changed, or the record does not name it.
        """
        try:
            checked.refuse_changed_file(self.folder / name, self.record.files)
        except (OSError, ValueError) as error:
            raise self._unusable(error) from error
        return self.folder / name

    def _unusable(self, error: Exception) -> RunError:
        got = first_line(error)
        if isinstance(error, FileNotFoundError):
            got = f"no {error.filename}"
        return RunError(
            f"the files of run {self.run_id} in {self.folder}",
            got,
            "Train it again with `force=True`, or delete the run's folder.",
        )

    @cached_property
    def table(self) -> pd.DataFrame:
        """predictions.csv: one row an image.

        Raises:
            RunError: The file is missing or not as the record says.
        """
        path = self.file(PREDICTIONS)
        try:
            table = pd.read_csv(
                path,
                dtype={"image_id": str, "group": str, "label": str, "split": str},
                keep_default_na=False,
            )
            expected = [*_KEYS, *(PROBABILITY + name for name in self.classes)]
            if list(table.columns) != expected:
                raise ValueError(f"columns {', '.join(table.columns)}")
            _refuse_edited(table, expected[len(_KEYS) :], self.classes)
            self._refuse_others(table)
        except (OSError, ValueError, TypeError) as error:
            raise self._unusable(error) from error
        return table

    def _refuse_others(self, table: pd.DataFrame) -> None:
        """Raises ValueError for predictions that are not those of the record."""
        from featcache.evaluation import metrics  # here: scipy.stats loads slowly

        wrong_images = "its predictions are not of the images that its record says"
        # A network evaluated on the test set alone has no predictions of the others.
        is_whole = TRAIN in self.record.scores or (table["split"] == TRAIN).any()
        actual_id = evaluation_id(table, table["fold"].to_numpy(int))
        if is_whole and actual_id != self.record.evaluation_id:
            raise ValueError(wrong_images)
        for name, recorded in self.record.scores.items():
            part = self._part(table, name)
            if not len(part.y):
                raise ValueError(wrong_images)
            for score, value in metrics.scores(part.y, part.p).items():
                expected = recorded.get(score, np.nan)
                if not np.isclose(value, expected, rtol=0, atol=1e-6, equal_nan=True):
                    raise ValueError(
                        f"its predictions do not give the {score} of its record"
                    )

    def predictions(self, split: str = TRAIN) -> Predictions:
        """Out-of-fold predictions (``TRAIN``) or those on the test part."""
        return self._part(self.table, split)

    def _part(self, table: pd.DataFrame, split: str) -> Predictions:
        part = table[table["split"] == split]
        index = {name: i for i, name in enumerate(self.classes)}
        p = part[[PROBABILITY + name for name in self.classes]].to_numpy(float)
        return Predictions(
            part["label"].map(index).to_numpy(int), p, part["group"].to_numpy()
        )


_KEYS = ("image_id", "group", "label", "fold", "split")


def _refuse_edited(
    table: pd.DataFrame, probabilities: list[str], classes: list[str]
) -> None:
    """Raises ValueError for what `predictions_table` never writes."""
    p = table[probabilities].to_numpy(float)
    if not np.isfinite(p).all():
        raise ValueError("probabilities that are not finite")
    if (p < 0).any() or np.abs(p.sum(axis=1) - 1).max(initial=0) > 1e-6:
        raise ValueError("probabilities that do not sum to 1")
    if not table["label"].isin(classes).all():
        raise ValueError("labels that are not among its classes")
    if table["image_id"].duplicated().any():
        raise ValueError("repeated images")
    parts = np.where(table["fold"].to_numpy(int) < 0, TEST, TRAIN)
    if (table["split"] != parts).any():
        raise ValueError("folds that do not match the split")


def predictions_table(
    meta: pd.DataFrame, folds: np.ndarray, p: np.ndarray, classes: list[str]
) -> pd.DataFrame:
    """Builds predictions.csv.

    Args:
        meta: N rows with image_id, group, label.
        folds: (N,) fold numbers; -1 is the test part.
        p: (N, C) probabilities.
        classes: C labels in class order.
    """
    table = meta[["image_id", "group", "label"]].reset_index(drop=True)
    table["fold"] = folds
    table["split"] = np.where(folds < 0, TEST, TRAIN)
    for column, name in enumerate(classes):
        table[PROBABILITY + name] = p[:, column]
    return table


def scores(
    p: np.ndarray, *, y: np.ndarray, groups: np.ndarray, folds: np.ndarray
) -> dict[str, dict[str, float]]:
    """Scores of the training part and of the test part, where there are any.

    Args:
        p: (N, C) predictions, out-of-fold in train.
        y: (N,) class indices.
        groups: (N,) groups.
        folds: (N,) folds, or `splits.TEST`.
    """
    from featcache.evaluation import metrics  # here: scipy.stats loads slowly

    test = folds == splits.TEST
    by_part = {}
    for name, part in ((TRAIN, ~test), (TEST, test)):
        if not part.any():
            continue
        right = p[part].argmax(axis=1) == y[part]
        low, high = metrics.group_bootstrap(right, groups[part])
        interval = {"accuracy_low": low, "accuracy_high": high}
        by_part[name] = metrics.scores(y[part], p[part]) | interval
    return by_part


def stamped(record: RunRecord) -> RunRecord:
    """The record of a run that is made now, with the libraries that are installed."""
    return replace(
        record,
        created=datetime.now().astimezone().isoformat(timespec="milliseconds"),
        versions={name: metadata.version(name) for name in _LIBRARIES},
    )


def is_done(folder: Path) -> bool:
    """Whether a run is there and did not fail.

    Raises:
        RunError: It is broken.
    """
    return (folder / "run.json").is_file() and not load(folder).failed


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Holds the lock of a run, so that two processes publish it in turn.

    Raises:
        LockedError: Another process has been writing it for a minute.
    """
    guard = folder.with_name(f".{folder.name}.lock")
    with lock(guard, f"run {folder.name}", timeout=60):
        yield


@contextmanager
def saving(folder: Path, record: RunRecord) -> Iterator[Path]:
    """Yields a folder for a run's files; publishes it whole, run.json last.

    The record gets the digest of each file.
    """
    with atomic_folder(folder) as temp:
        yield temp
        record = replace(record, files=checked.file_digests(temp.iterdir()))
        write_json(temp / "run.json", record.to_json())


def load(folder: Path) -> Run:
    """Opens a run.

    Its dataset is the one that it lies with: a dataset that was renamed keeps its runs.

    Raises:
        RunError: It is broken, or of another schema.
    """
    path = folder / "run.json"
    try:
        record = RunRecord.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(
            f"the run in {folder} has an unusable run.json ({error})",
            "Retrain it with `force=True`, or delete the folder.",
        ) from error
    return Run(folder, replace(record, dataset=folder.parent.parent.name))


def list_runs(reports: Path) -> tuple[list[Run], list[RunError]]:
    """Opens every run below ``reports/<dataset>``; broken ones are told apart."""
    good, broken = [], []
    for folder in sorted((reports / "runs").glob("[!.]*")):
        if folder.is_dir():
            try:
                good.append(load(folder))
            except RunError as error:
                broken.append(error)
    return good, broken


def newest_first(some: Iterable[Run]) -> list[Run]:
    """Runs by when they were trained, in whatever time zones."""
    return sorted(some, key=lambda run: instant(run.record.created), reverse=True)
