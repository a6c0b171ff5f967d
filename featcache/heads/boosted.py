"""Gradient-boosted trees (XGBoost)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone

from featcache.heads.base import Head
from featcache.heads.files import damaged
from featcache.heads.quantised import boosted, held_out_proba, quantised
from featcache.heads.rows import Matrix, Rows
from featcache.heads.tuning import Fold, grid, held_out_rows, scores, summary

MOST_TREES = 1000
PATIENCE = 30  # trees without a better log-loss of the held-out groups
_STOPPING = {"n_estimators": MOST_TREES, "early_stopping_rounds": PATIENCE}


@dataclass(kw_only=True, eq=False, repr=False)
class XGBoost(Head):
    """Boosted trees on the raw features; trees need no scaling.

    Few columns a node and coarse histograms make wide features quick to fit and
    cost no accuracy.

    Args:
        tune: Choose depth, steps and trees inside the training rows.
        trees: Boosting rounds.
        depth: Deepest level of a tree.
        learning_rate: Weight of each tree.
        min_child_weight: Least weight of the rows in a leaf.
        subsample: Share of the rows a tree sees.
        columns: Share of the columns a node chooses from.
        max_bin: Histogram bins a column.
        seed: Decides which rows and columns, and the inner folds.

    Attributes:
        model_: The fitted ``xgboost.XGBClassifier``; ``model_.get_booster()`` gives
            SHAP values with ``predict(matrix, pred_contribs=True)``.
    """

    tune: bool = False
    trees: int = 300
    depth: int = 4
    learning_rate: float = 0.1
    min_child_weight: float = 1.0
    subsample: float = 0.8
    columns: float = 0.1
    max_bin: int = 64
    seed: int = 0

    name = "xgboost"
    file = "model.ubj"
    streams = True
    candidates = grid(depth=(2, 4), min_child_weight=(1.0, 5.0), columns=(0.1, 0.03))

    def _classifier(self, **settings: Any) -> Any:
        from xgboost import XGBClassifier

        return XGBClassifier(
            max_depth=self.depth,
            learning_rate=self.learning_rate,
            min_child_weight=self.min_child_weight,
            subsample=self.subsample,
            colsample_bynode=self.columns,
            max_bin=self.max_bin,
            tree_method="hist",
            n_jobs=1,  # folds run side by side; threads would fight
            random_state=self.seed,
            **settings,
        )

    def _fit(self, X: Matrix, codes: np.ndarray, groups: np.ndarray) -> None:
        self.model_ = self._classifier(n_estimators=self.trees)
        if isinstance(X, Rows):
            rows = quantised(X, codes, max_bin=self.max_bin)
            booster, _ = boosted(self.model_, int(codes.max()) + 1, rows)
            self.model_.load_model(bytearray(booster.save_raw()))
        else:
            self.model_.fit(X, codes)

    def _search(
        self, X: Matrix, codes: np.ndarray, groups: np.ndarray, folds: list[Fold]
    ) -> dict[str, Any]:
        # The bins of a fold's rows are made once for all candidates.
        heads = [clone(self).set_params(**settings) for settings in self.candidates]
        trees: list[list[int]] = [[] for _ in heads]
        parts: list[list[np.ndarray]] = [[] for _ in heads]
        for rows in folds:
            kept, held_out = rows
            bins = quantised(X[kept], codes[kept], max_bin=self.max_bin)
            others = quantised(
                X[held_out], codes[held_out], max_bin=self.max_bin, like=bins
            )
            for number, head in enumerate(heads):
                classifier = head._classifier(**_STOPPING)
                booster, best = boosted(classifier, codes.max() + 1, bins, others)
                trees[number].append(best)
                parts[number].append(held_out_proba(booster, best, others))
        held_out = codes[held_out_rows(folds)]
        return summary(
            [
                settings
                | {"trees": round(np.mean(trees[number]))}
                | scores(held_out, np.concatenate(parts[number]))
                for number, settings in enumerate(self.candidates)
            ],
            len(folds),
        )

    def _proba(self, X: np.ndarray) -> np.ndarray:
        return np.asarray(self.model_.predict_proba(X))

    def _write(self, path: Path) -> None:
        self.model_.save_model(path)

    def _read(self, path: Path) -> None:
        from xgboost import XGBClassifier
        from xgboost.core import XGBoostError

        self.model_ = XGBClassifier(n_jobs=1)
        try:
            self.model_.load_model(path)
        except (XGBoostError, ValueError, TypeError) as error:
            raise damaged(path, error) from error
