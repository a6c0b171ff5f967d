"""Figures of one run that the leaderboard has no room for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from featcache.evaluation import metrics
from featcache.evaluation.runs import Predictions

FEWEST = 5  # images in a bin of the reliability diagram


@dataclass(frozen=True)
class Estimate:
    """A figure with the ends of its 95 % interval over groups; NaN where unknown."""

    value: float
    low: float = float("nan")
    high: float = float("nan")

    @property
    def ends(self) -> tuple[float, float] | None:
        """The interval, if there is one."""
        return None if np.isnan(self.low) else (self.low, self.high)


@dataclass(frozen=True)
class ClassScores:
    """One class against the rest.

    Attributes:
        name: The class.
        n: Its images.
        groups: Its groups.
        scores: sensitivity, specificity and auc.
    """

    name: str
    n: int
    groups: int
    scores: dict[str, Estimate]


@dataclass(frozen=True)
class Bin:
    """Five or more images whose highest probability is in one fifteenth of 0 to 1."""

    confidence: float
    accuracy: float
    n: int


def per_class(
    part: Predictions, classes: Sequence[str], draws: metrics.Draws
) -> list[ClassScores]:
    """Sensitivity, specificity and AUC of each class, with intervals over groups."""
    values = metrics.per_class(part.y, part.p)
    ends = metrics.class_intervals(part.y, part.p, part.groups, draws=draws)
    return [
        ClassScores(
            name,
            int((part.y == c).sum()),
            len(np.unique(part.groups[part.y == c])),
            {key: Estimate(float(values[key][c]), *ends[key][c]) for key in values},
        )
        for c, name in enumerate(classes)
    ]


def accuracy(part: Predictions, selected: np.ndarray) -> Estimate:
    """Accuracy on the chosen images (N,) bool, with its interval."""
    right = (part.p.argmax(axis=1) == part.y)[selected]
    ends = metrics.group_bootstrap(right, part.groups[selected])
    return Estimate(float(right.mean()), *ends)


def bins(part: Predictions) -> list[Bin]:
    """Those bins of ``metrics.ece`` that hold enough images to be drawn."""
    top, right = part.p.max(axis=1), part.p.argmax(axis=1) == part.y
    bin_of = np.clip(np.ceil(top * metrics.ECE_BINS) - 1, 0, metrics.ECE_BINS - 1)
    return [
        Bin(
            float(top[selected].mean()),
            float(right[selected].mean()),
            int(selected.sum()),
        )
        for number in np.unique(bin_of)
        if (selected := bin_of == number).sum() >= FEWEST
    ]


def roc(true: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates, (K,) each."""
    from sklearn.metrics import roc_curve

    false_rate, true_rate, _ = roc_curve(true, score)
    return false_rate, true_rate


def precision_recall(
    true: np.ndarray, score: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Recall and precision (K,), and the average precision."""
    from sklearn.metrics import average_precision_score, precision_recall_curve

    precision, recall, _ = precision_recall_curve(true, score, drop_intermediate=True)
    return recall, precision, float(average_precision_score(true, score))


def worst_errors(table: pd.DataFrame, classes: Sequence[str], most: int) -> list[Any]:
    """Rows of predictions.csv that are wrong, the most certain errors first.

    Returns:
        (row, predicted class, probabilities (C,)) of each.
    """
    p = table[[f"p_{name}" for name in classes]].to_numpy(float)
    true = table["label"].map({name: i for i, name in enumerate(classes)}).to_numpy(int)
    true_probability = p[np.arange(len(p)), true]
    wrong = np.flatnonzero(p.argmax(axis=1) != true)
    wrong = wrong[np.argsort(true_probability[wrong], kind="stable")][:most]
    return [(table.iloc[i], classes[int(p[i].argmax())], p[i]) for i in wrong]
