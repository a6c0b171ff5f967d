"""Gradient-boosted trees (XGBoost)."""

from pathlib import Path
from typing import Any

import numpy as np

from featcache.heads.base import Head


class XGBoost(Head):
    """Boosted trees on the raw features; trees need no scaling.

    Few columns a node and coarse histograms make wide features quick to fit and
    cost no accuracy.

    Args:
        trees: Boosting rounds.
        depth: Deepest level of a tree.
        learning_rate: Weight of each tree.
        subsample: Share of the rows a tree sees.
        columns: Share of the columns a node chooses from.
        max_bin: Histogram bins a column.
        seed: Decides which rows and columns.

    Attributes:
        model_: The fitted ``xgboost.XGBClassifier``; ``model_.get_booster()`` gives
            SHAP values with ``predict(matrix, pred_contribs=True)``.
    """

    name = "xgboost"
    file = "model.ubj"
    model_: Any

    def __init__(
        self,
        *,
        trees: int = 300,
        depth: int = 4,
        learning_rate: float = 0.1,
        subsample: float = 0.8,
        columns: float = 0.1,
        max_bin: int = 64,
        seed: int = 0,
    ) -> None:
        super().__init__(seed=seed)
        self.trees = trees
        self.depth = depth
        self.learning_rate = learning_rate
        self.subsample = subsample
        self.columns = columns
        self.max_bin = max_bin

    def _fit(self, X: np.ndarray, codes: np.ndarray, groups: np.ndarray) -> None:
        from xgboost import XGBClassifier

        self.model_ = XGBClassifier(
            n_estimators=self.trees,
            max_depth=self.depth,
            learning_rate=self.learning_rate,
            subsample=self.subsample,
            colsample_bynode=self.columns,
            max_bin=self.max_bin,
            tree_method="hist",
            n_jobs=1,  # folds run side by side; threads would fight
            random_state=self.seed,
        ).fit(X, codes)

    def _proba(self, X: np.ndarray) -> np.ndarray:
        return np.asarray(self.model_.predict_proba(X))

    def _write(self, path: Path) -> None:
        self.model_.save_model(path)

    def _read(self, path: Path) -> None:
        from xgboost import XGBClassifier

        self.model_ = XGBClassifier(n_jobs=1)
        self.model_.load_model(path)
