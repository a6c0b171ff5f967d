"""A dataset with its splits and runs, opened once for all checks."""

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from featcache import features
from featcache.commands.audit import detail
from featcache.commands.audit.similarity import PairTable
from featcache.core.command_lines import Folders
from featcache.core.progress import Reporter
from featcache.dataset import images
from featcache.dataset.manifest import Manifest
from featcache.dataset.near_duplicates import CORRELATION, unit
from featcache.dataset.similar_pairs import Pairs, pairs_above
from featcache.dataset.splits import read_folds
from featcache.dataset.thumbs import read_thumbs, resize_all
from featcache.errors import FeatcacheError
from featcache.evaluation import runs
from featcache.evaluation.external import ValidationRecord, read_validations
from featcache.evaluation.runs import Run

MOST_ROWS = 1_000_000  # of a check's file
PIXELS, METADATA = "pixels48", "metadata"
STATISTICS = ("width", "height", "aspect", "mean", "spread")


class NotApplicable(Exception):  # noqa: N818  (an answer, and no error)
    """A check does not apply here; the text says why, and what would help."""


@dataclass(frozen=True, eq=False)
class AuditContext:
    """A dataset, and what was made of it.

    Attributes:
        manifest: The dataset.
        reports: ``reports/<dataset>``.
        reporter: Hears of what takes time.
        split: Of the runs; None for the newest.
        rows: The folder for the rows of checks that may have many; None for none.
    """

    manifest: Manifest
    reports: Path
    reporter: Reporter
    split: str | None = None
    rows: Path | None = None

    @cached_property
    def images(self) -> pd.DataFrame:
        """The usable images, one row each."""
        return self.manifest.ok.reset_index(drop=True)

    @property
    def folders(self) -> Folders:
        """Where cache and reports are, for commands in messages."""
        return Folders(self.manifest.folder.parent, self.reports.parent)

    @property
    def train_command(self) -> str:
        """The command that trains heads on the dataset's features."""
        return f"featcache train-head --dataset {shlex.quote(self.manifest.dataset)}"

    @cached_property
    def splits(self) -> dict[str, dict[str, int]]:
        """Place of each image by image_id, a split file each; -1 is the test set."""
        paths = sorted(self.manifest.folder.glob("splits-*.json"))
        return {path.name: read_folds(path) for path in paths}

    @cached_property
    def every_run(self) -> list[Run]:
        """All runs that can be read, on any split."""
        return runs.list_runs(self.reports)[0]

    @cached_property
    def runs(self) -> list[Run]:
        """Runs of the newest evaluation that has more than controls, best first.

        By out-of-fold accuracy; failed and damaged runs, repeats, and runs on another
        split than the requested one are left out.
        """
        good = [
            run
            for run in self.every_run
            if not run.failed and not run.record.split.repeat
        ]
        if self.split:
            good = [run for run in good if run.record.split.name == self.split]
        good = runs.newest_first(good)
        results = [run for run in good if not run.record.is_baseline] or good
        for first in results:
            alike = [
                r for r in good if r.record.evaluation_id == first.record.evaluation_id
            ]
            scored = [(-accuracy(run), run.run_id, run) for run in alike]
            if ranked := [one for one in scored if not np.isnan(one[0])]:
                return [run for *_, run in sorted(ranked, key=lambda one: one[:2])]
        return []

    @cached_property
    def best(self) -> Run | None:
        """The best run that is no baseline or control."""
        return next((run for run in self.runs if not run.record.is_baseline), None)

    @cached_property
    def validations(self) -> list[ValidationRecord]:
        """External validations of the dataset's runs, the newest first."""
        kept, _ = read_validations(self.reports)
        return [one for one in kept if one.result.is_external]

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """The best run's out-of-fold images with the columns of the manifest.

        Label, group and fold are those of the run; empty without one.
        """
        if self.best is None:
            return pd.DataFrame()
        table = out_of_fold(self.best)
        mine = [*table.columns.difference(["image_id"])]
        columns = self.images.drop(columns=mine, errors="ignore")
        return table.merge(columns, on="image_id", how="left")

    @cached_property
    def thumbs(self) -> np.ndarray:
        """Grey 32x32 pictures (N, 1024) of `images`; zeros for one that is lost.

        From the store of ``pixels48`` where it is, else from the files.
        """
        thumbs = np.zeros((len(self.images), images.THUMB_SIDE**2), np.uint8)
        try:
            (block,) = self.baseline(PIXELS).blocks
            for rows, slab in block.slabs():
                thumbs[rows] = resize_all(slab.astype(np.uint8), images.THUMB_SIDE)
        except (FeatcacheError, ValueError):
            paths = self.images["path"].tolist()
            return read_thumbs(self.manifest.root, paths, reporter=self.reporter)
        return thumbs

    @cached_property
    def unreadable(self) -> int:
        """How many of `thumbs` cannot be read (or are black)."""
        return int((~self.thumbs.any(axis=1)).sum())

    @cached_property
    def near(self) -> PairTable:
        """Pairs of rows of `images` that are the same, small and in detail.

        Raises:
            NotApplicable: No picture can be read.
        """
        if self.unreadable == len(self.images):
            raise NotApplicable(
                f"No image in {self.manifest.root} can be read, and there is no store "
                f"of {PIXELS}. Scan the source at its current location."
            )
        return self.confirmed(pairs_above(self.thumbs, CORRELATION, scale=unit))

    def confirmed(self, candidates: Iterable[Pairs]) -> PairTable:
        """The pairs of rows of `images` that are the same in detail, of candidates."""
        paths = self.images["path"].tolist()
        return detail.confirmed(
            candidates, self.manifest.root, paths, reporter=self.reporter
        )

    @cached_property
    def statistics(self) -> pd.DataFrame:
        """Statistics of each of `images`: `STATISTICS` as far as they are known."""
        try:
            rows = self.baseline(METADATA).read()
            return pd.DataFrame(rows[:, : len(STATISTICS)], columns=[*STATISTICS])
        except (FeatcacheError, ValueError):
            table = self.images[["width", "height"]].astype(float)
            return table.assign(aspect=table["width"] / table["height"])

    def baseline(self, name: str) -> features.Selection:
        """The plain rows of a baseline's store in the order of `images`.

        Raises:
            FeatcacheError: There is no store, or it lacks images.
        """
        (feature_set,) = features.find_sets(self.manifest, [name])
        return feature_set.select(self.manifest, views=0)

    def write_rows(self, code: str, table: pd.DataFrame) -> None:
        """Appends rows to the file of a check, up to a million."""
        if self.rows is None:
            return
        path = self.rows / f"{code}.csv"
        left = MOST_ROWS - self._written.get(code, 0)
        self._written[code] = self._written.get(code, 0) + len(table)
        if left > 0 and len(table):
            header = not path.exists()
            table.head(left).to_csv(path, mode="a", header=header, index=False)

    @cached_property
    def _written(self) -> dict[str, int]:
        """Rows of each check."""
        return {}


def out_of_fold(run: Run) -> pd.DataFrame:
    """The out-of-fold rows of a run, in the order of their ids."""
    table = run.table[run.table["split"] == runs.TRAIN]
    return table.sort_values("image_id").reset_index(drop=True)


def probabilities(table: pd.DataFrame, classes: list[str]) -> np.ndarray:
    """The probabilities (N, C) of rows of predictions."""
    return table[[runs.PROBABILITY + name for name in classes]].to_numpy(float)


def codes(table: pd.DataFrame, classes: list[str]) -> np.ndarray:
    """The class indices (N,) of a table's labels."""
    return table["label"].map({c: i for i, c in enumerate(classes)}).to_numpy(int)


def usual(values: pd.Series, groups: pd.Series) -> pd.Series:
    """The most frequent value of each group, the first of those that are level."""
    table = pd.DataFrame({"group": groups.to_numpy(), "value": values.to_numpy()})
    counts = table.value_counts().rename("count").reset_index()
    counts = counts.sort_values(["count", "value"], ascending=[False, True])
    return counts.drop_duplicates("group").set_index("group")["value"].sort_index()


def right(run: Run) -> np.ndarray:
    """Whether each out-of-fold image is predicted right, in the order of the ids."""
    table = out_of_fold(run)
    top = probabilities(table, run.classes).argmax(axis=1)
    return np.asarray(top == codes(table, run.classes))


def accuracy(run: Run) -> float:
    """Out-of-fold accuracy; NaN without such predictions."""
    try:
        hits = right(run)
    except FeatcacheError:
        return float("nan")
    return float(hits.mean()) if len(hits) else float("nan")
