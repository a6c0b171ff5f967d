"""Runs: the record of one trained and evaluated model, one folder each."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from featcache._io import atomic_folder, digest, write_json
from featcache.errors import RunError

SCHEMA = 1
TRAIN, TEST = "train", "test"  # the column `split` of predictions.csv
_PROBABILITY = "p_"


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
        record: The content of run.json.
    """

    folder: Path
    record: dict[str, Any]

    @property
    def run_id(self) -> str:
        """Names the run: head, backbone and the digest of its inputs."""
        return self.folder.name

    @property
    def failed(self) -> bool:
        """Whether the head could not be fitted; the record says why."""
        return bool(self.record["status"] == "failed")

    @property
    def classes(self) -> list[str]:
        """Labels in class order."""
        return list(self.record["classes"])

    @cached_property
    def table(self) -> pd.DataFrame:
        """predictions.csv: one row an image.

        Raises:
            RunError: The file is missing or not as the record says.
        """
        path = self.folder / "predictions.csv"
        try:
            table = pd.read_csv(
                path,
                dtype={"image_id": str, "group": str, "label": str, "split": str},
                keep_default_na=False,
            )
            expected = [*_KEYS, *(_PROBABILITY + name for name in self.classes)]
            if list(table.columns) != expected:
                raise ValueError(f"columns {', '.join(table.columns)}")
            if not np.isfinite(table[expected[len(_KEYS) :]].to_numpy(float)).all():
                raise ValueError("probabilities that are not finite")
            if not table["label"].isin(self.classes).all():
                raise ValueError("labels that are none of its classes")
        except (OSError, ValueError, TypeError) as error:
            raise RunError(
                f"the predictions of run {self.run_id} in {path}",
                str(error).splitlines()[0],
                "Train it again with --force, or delete the run's folder.",
            ) from error
        return table

    def predictions(self, split: str = TRAIN) -> Predictions:
        """Out-of-fold predictions (``TRAIN``) or those on the test part."""
        part = self.table[self.table["split"] == split]
        index = {name: i for i, name in enumerate(self.classes)}
        p = part[[_PROBABILITY + name for name in self.classes]].to_numpy(float)
        return Predictions(
            part["label"].map(index).to_numpy(int), p, part["group"].to_numpy()
        )


_KEYS = ("image_id", "group", "label", "fold", "split")


def make_id(head: str, backbone: str, inputs: dict[str, Any]) -> str:
    """A run's id: readable words, then 10 digits of the digest of all its inputs."""
    words = "".join(c if c.isalnum() or c in "-._" else "-" for c in head)
    return f"{words}-{backbone}-{digest(inputs)[:10]}"


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
        table[_PROBABILITY + name] = p[:, column]
    return table


@contextmanager
def saving(folder: Path, record: dict[str, Any]) -> Iterator[Path]:
    """Yields a folder for a run's files; publishes it whole, run.json last."""
    with atomic_folder(folder) as temp:
        yield temp
        write_json(temp / "run.json", {"schema": SCHEMA, **record})


def load(folder: Path) -> Run:
    """Opens a run.

    Raises:
        RunError: It is broken, or of another schema.
    """
    path = folder / "run.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["schema"] != SCHEMA:
            raise ValueError(f"schema {record['schema']}")
        lacking = [k for k in _REQUIRED if k not in record]
        if lacking:
            raise ValueError(f"no {', '.join(lacking)}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"a run of featcache in {folder}",
            f"run.json that cannot be used ({error})",
            "Train it again with --force, or delete the folder.",
        ) from error
    return Run(folder, record)


_REQUIRED = (
    "status", "created", "classes", "head", "backbone", "weights", "views", "split",
    "evaluation_id",
)  # fmt: skip


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


def find(reports: Path, reference: str) -> Run:
    """Finds a run by its id or by any part of it that is unique.

    Raises:
        RunError: No run, or several, have that in their id.
    """
    names = sorted(p.name for p in (reports / "runs").glob("[!.]*") if p.is_dir())
    matches = [n for n in names if n == reference] or [
        n for n in names if reference in n
    ]
    if len(matches) == 1:
        return load(reports / "runs" / matches[0])
    raise RunError(
        "the id of one run, or a part that only one has",
        f"{reference!r}, which {len(matches) or 'none'} of {len(names)} runs have"
        + (f": {', '.join(matches[:5])}" if matches else ""),
        "featcache compare lists the ids.",
    )
