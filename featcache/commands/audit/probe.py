"""A quick head on cached features: logreg, untuned, plain views."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from featcache import heads
from featcache.commands.audit.base import NotApplicable
from featcache.commands.audit.context import Case
from featcache.evaluation import fitting
from featcache.evaluation.runs import Run
from featcache.features import FeatureSet, store


@dataclass(frozen=True, eq=False)
class Quick:
    """The features of a run's out-of-fold images.

    Attributes:
        run: The best run whose feature stores are all in the cache.
        X: (N, D) embeddings.
        table: N rows of predictions with the manifest's columns, in the same order.
    """

    run: Run
    X: np.ndarray
    table: pd.DataFrame

    @classmethod
    def of(cls, case: Case) -> "Quick":
        """Reads the features.

        Raises:
            NotApplicable: There is no such run.
            StoreError: A store is damaged.
        """
        run = next((r for r in case.runs if _stores(case, r)), None)
        if case.best is None or run is None:
            raise NotApplicable("No run whose feature stores are all in the cache.")
        found = FeatureSet(tuple(map(store.open_store, _stores(case, run))))
        chosen = found.select(case.manifest, views=0, taps=run.record.taps)
        row = {image: i for i, image in enumerate(chosen.meta["image_id"])}
        table = case.judged[case.judged["image_id"].isin(row)].reset_index(drop=True)
        return cls(run, chosen.read()[[row[i] for i in table["image_id"]]], table)

    def of_images(self, values: pd.Series) -> pd.Series:
        """Looks up the value of each image; the index of ``values`` is image_id."""
        return self.table["image_id"].map(values)

    def held_out(self, y: np.ndarray, parts: np.ndarray) -> np.ndarray:
        """The class (N,) that a head fitted on all other parts gives each image.

        Images of a group that stands in several parts are trained on in none.

        Args:
            y: (N,) class indices from 0; images with -1 are left out and get -1.
            parts: (N,) numbers.
        """
        groups = self.table["group"].to_numpy(str)
        said = np.full(len(y), -1)
        for part in np.unique(parts[y >= 0]):
            held = np.flatnonzero((parts == part) & (y >= 0))
            free = (parts != part) & (y >= 0) & ~np.isin(groups, groups[held])
            train = np.flatnonzero(free)
            if len(np.unique(y[train])) > 1:
                fit = fitting.fit_predict(
                    heads.make("logreg", tune=False),
                    self.X[:, None],
                    y=y,
                    groups=groups,
                    train=train,
                    held=held,
                    n_classes=int(y.max()) + 1,
                )
                said[held] = fit.p.argmax(axis=1)
        return said


def _stores(case: Case, run: Run) -> list[Path]:
    """The stores of a run on whole pictures; none if one is not in the cache."""
    blocks = run.record.features
    if any(block.region for block in blocks):
        return []
    names = dict.fromkeys(str(block.store) for block in blocks)
    paths = [case.manifest.folder / "features" / name for name in names]
    return paths if all(path.is_file() for path in paths) else []
