"""A dataset with its best run, as queues need them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from shlex import quote

import numpy as np
import pandas as pd

from featcache.core.progress import SILENT, Reporter
from featcache.dataset.manifest import Manifest
from featcache.errors import RunError
from featcache.evaluation import references, runs
from featcache.evaluation.runs import Run
from featcache.features import FeatureSet, store


@dataclass(frozen=True)
class Item:
    """An image of a queue.

    Attributes:
        image_id: The image.
        reason: Why it is in the queue; for after the answer.
    """

    image_id: str
    reason: str


@dataclass(frozen=True)
class QueueKind:
    """A purpose for which images are looked at.

    Attributes:
        about: What it holds, for lists.
        build: From a dataset with its runs to all of its images, the first to look at
            first; with how many are wanted.
    """

    about: str
    build: Callable[["ReviewContext", int], list[Item]]


@dataclass(frozen=True, eq=False)
class ReviewContext:
    """A dataset, and what its runs say of it.

    Attributes:
        manifest: The dataset.
        reports: ``reports/<dataset>``.
        seed: Of what is drawn.
        reporter: Hears of what takes time.
    """

    manifest: Manifest
    reports: Path
    seed: int = 0
    reporter: Reporter = SILENT

    @property
    def train_command(self) -> str:
        """The command that trains heads on the dataset's features."""
        return f"featcache train-head --dataset {quote(self.manifest.dataset)}"

    @cached_property
    def images(self) -> pd.DataFrame:
        """The usable images, by image_id."""
        return self.manifest.ok.set_index("image_id")

    @cached_property
    def best(self) -> Run | None:
        """The run that `compare` ranks first, unless that is a baseline or control."""
        ranked = references.by_rank(self.reports)
        run = runs.load(self.reports / "runs" / ranked[0]) if ranked else None
        return None if run is None or run.record.is_baseline else run

    def label(self, image_id: str) -> str:
        """The label of an image by now; "" where it is no usable image any more."""
        return str(self.images["label"].get(image_id, ""))

    def run(self) -> Run:
        """The best run.

        Raises:
            RunError: There is none.
        """
        if self.best is None:
            raise RunError(
                f"a run of a network on {self.manifest.dataset}, for its predictions",
                "none",
                f"Run: {self.train_command}, or choose another `queue`.",
            )
        return self.best

    def out_of_fold(self) -> tuple[pd.DataFrame, np.ndarray]:
        """The best run's out-of-fold images that are still there.

        Returns:
            N rows with image_id, label (as it is now), group and fold, in the order of
            the ids; and probabilities (N, C).

        Raises:
            RunError: There is no run.
        """
        run = self.run()
        table = run.table[run.table["split"] == runs.TRAIN]
        table = table[table["image_id"].isin(self.images.index)]
        table = table.sort_values("image_id", ignore_index=True)
        p = table[[runs.PROBABILITY + name for name in run.classes]].to_numpy(float)
        label = self.images["label"].reindex(table["image_id"]).to_numpy()
        return table[["image_id", "group", "fold"]].assign(label=label), p

    def embeddings(self, image_ids: list[str]) -> np.ndarray:
        """What the best run's network makes of images, plain views: (N, D).

        Raises:
            RunError: The run has no cached features of whole images.
            StoreError: They are gone or damaged.
        """
        run = self.run()
        blocks = run.record.features
        names = dict.fromkeys(str(block.store) for block in blocks if block.store)
        paths = [self.manifest.folder / "features" / name for name in names]
        is_whole = names and not any(block.region for block in blocks)
        if not is_whole or not all(path.is_file() for path in paths):
            raise RunError(
                f"cached features of the best run, {run.run_id}",
                "none in the cache",
                f"Run: featcache extract --dataset {quote(self.manifest.dataset)} "
                f"-b {quote(blocks[0].backbone)}, or choose another `queue`.",
            )
        feature_set = FeatureSet(tuple(map(store.open_store, paths)))
        selection = feature_set.select(self.manifest, taps=run.record.taps, views=0)
        row = {image: n for n, image in enumerate(selection.meta["image_id"])}
        return np.asarray(selection.read()[[row[image] for image in image_ids]])

    def predicted(self, image_id: str) -> dict[str, float]:
        """The best run's probabilities for an image; none where it has none."""
        return self._predictions.get(image_id, {})

    @cached_property
    def _predictions(self) -> dict[str, dict[str, float]]:
        if self.best is None:
            return {}
        columns = {runs.PROBABILITY + name: name for name in self.best.classes}
        table = self.best.table.set_index("image_id")[list(columns)]
        rows = table.rename(columns=columns).to_dict("records")
        return dict(zip(table.index, rows, strict=True))
