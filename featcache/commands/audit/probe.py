"""A linear probe on cached features: logreg, untuned, plain views."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from featcache import heads
from featcache.commands.audit.base import NotApplicable
from featcache.commands.audit.context import AuditContext
from featcache.evaluation import fitting
from featcache.evaluation.runs import Run
from featcache.features import FeatureSet, store


@dataclass(frozen=True, eq=False)
class LinearProbe:
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
    def of(cls, context: AuditContext) -> "LinearProbe":
        """Reads the features.

        Raises:
            NotApplicable: There is no such run.
            StoreError: A store is damaged.
        """
        run = next((r for r in context.runs if _stores(context, r)), None)
        if context.best is None or run is None:
            raise NotApplicable(
                "There is no run whose feature stores are all in the cache."
            )
        feature_set = FeatureSet(tuple(map(store.open_store, _stores(context, run))))
        selection = feature_set.select(context.manifest, views=0, taps=run.record.taps)
        row = {image: i for i, image in enumerate(selection.meta["image_id"])}
        table = context.predictions[
            context.predictions["image_id"].isin(row)
        ].reset_index(drop=True)
        return cls(run, selection.read()[[row[i] for i in table["image_id"]]], table)

    def of_images(self, values: pd.Series) -> pd.Series:
        """Looks up the value of each image; the index of ``values`` is image_id."""
        return self.table["image_id"].map(values)

    def predict_held_out(self, y: np.ndarray, parts: np.ndarray) -> np.ndarray:
        """The class (N,) that a head fitted on all other parts gives each image.

        Images of a group that is in several parts are trained on in none.

        Args:
            y: (N,) class indices from 0; images with -1 are left out and get -1.
            parts: (N,) numbers.
        """
        groups = self.table["group"].to_numpy(str)
        predicted = np.full(len(y), -1)
        for part in np.unique(parts[y >= 0]):
            held_out = np.flatnonzero((parts == part) & (y >= 0))
            free = (parts != part) & (y >= 0) & ~np.isin(groups, groups[held_out])
            predicted[held_out] = self.predict(y, np.flatnonzero(free), held_out)
        return predicted

    def predict(
        self, y: np.ndarray, train: np.ndarray, held_out: np.ndarray
    ) -> np.ndarray:
        """The classes (M,) that a head fitted on some rows gives others.

        Args:
            y: (N,) class indices from 0.
            train: Rows to fit; where they are of one class, all get -1.
            held_out: (M,) rows to predict.
        """
        if len(np.unique(y[train])) < 2:
            return np.full(len(held_out), -1)
        fit = fitting.fit_predict(
            heads.make("logreg", tune=False),
            self.X[:, None],
            y=y,
            groups=self.table["group"].to_numpy(str),
            train=train,
            held_out=held_out,
            n_classes=int(y.max()) + 1,
        )
        return np.asarray(fit.p.argmax(axis=1))


def _stores(context: AuditContext, run: Run) -> list[Path]:
    """The stores of a run on whole pictures; none if one is not in the cache."""
    blocks = run.record.features
    if any(block.region for block in blocks):
        return []
    names = dict.fromkeys(str(block.store) for block in blocks)
    paths = [context.manifest.folder / "features" / name for name in names]
    return paths if all(path.is_file() for path in paths) else []
