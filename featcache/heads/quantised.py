"""XGBoost on rows that are kept as bins of one byte, and read block by block."""

from typing import Any

import numpy as np

from featcache.heads.rows import Matrix, Rows, blocks


def quantised(X: Matrix, codes: np.ndarray, *, max_bin: int, like: Any = None) -> Any:
    """The bins of features (N, D), which take a quarter of their memory.

    Args:
        X: The features.
        codes: (N,) class codes.
        max_bin: Bins a column.
        like: Another such matrix, whose bins to use; for held-out rows.
    """
    import xgboost

    settings: dict[str, Any] = {"max_bin": max_bin, "ref": like, "nthread": 1}
    if not isinstance(X, Rows):
        return xgboost.QuantileDMatrix(X, codes, **settings)

    class Blocks(xgboost.DataIter):  # type: ignore[misc]
        def reset(self) -> None:
            self.waiting, self.start = blocks(X), 0

        def next(self, input_data: Any) -> bool:
            block = next(self.waiting, None)
            if block is None:
                return False
            end = self.start + len(block)
            input_data(data=block, label=codes[self.start : end])
            self.start = end
            return True

    source = Blocks()
    source.reset()
    return xgboost.QuantileDMatrix(source, **settings)


def boosted(
    classifier: Any, n_classes: int, train: Any, held_out: Any = None
) -> tuple[Any, int]:
    """Trains the trees of a classifier's settings on `quantised` rows.

    Args:
        classifier: An ``xgboost.XGBClassifier``, not fitted.
        n_classes: Classes of the codes.
        train: Rows to train on.
        held_out: Rows that stop the training, if the classifier has
            ``early_stopping_rounds``.

    Returns:
        The booster, and the number of trees of each class to use.
    """
    import xgboost

    params = classifier.get_xgb_params()
    several = {"objective": "multi:softprob", "num_class": n_classes}
    params |= several if n_classes > 2 else {"objective": "binary:logistic"}
    booster = xgboost.train(
        params,
        train,
        classifier.n_estimators,
        evals=[] if held_out is None else [(held_out, "held_out")],
        early_stopping_rounds=classifier.early_stopping_rounds,
        verbose_eval=False,
    )
    if held_out is None:
        return booster, classifier.n_estimators
    return booster, booster.best_iteration + 1


def held_out_proba(booster: Any, trees: int, held_out: Any) -> np.ndarray:
    """What the first ``trees`` of a booster give for `quantised` rows, (N, n)."""
    p = np.asarray(booster.predict(held_out, iteration_range=(0, trees)))
    return p if p.ndim == 2 else np.stack([1 - p, p], axis=1)
