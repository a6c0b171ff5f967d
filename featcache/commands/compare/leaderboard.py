"""What comparing gives."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from featcache.commands.compare.scored_run import Judged


@dataclass(frozen=True)
class Leaderboard:
    """Runs that were judged on the same images, best first.

    Attributes:
        dataset: Its name.
        split: Name of the split that all rows share.
        metric: What they are ranked by.
        rows: One dictionary a run; figures are out-of-fold on the training part,
            ``test_...`` on the test set (None without one). Baselines and controls
            (``below_line``) come last, whatever their figures.
        left_out: Why other runs are not in the table, one line each.
        against: The run that differences and tests refer to: the best, if no other
            was asked for.
        warnings: What makes the best figure doubtful, one line each.
        part: What the figures are of: "train" (out-of-fold) or "test".
        scored: The runs of the rows with their predictions and bootstrap draws, in the
            same order.
    """

    dataset: str
    split: str
    metric: str
    rows: list[dict[str, Any]]
    left_out: list[str]
    against: str = ""
    warnings: list[str] = field(default_factory=list)
    part: str = "train"
    scored: list[Judged] = field(default_factory=list, repr=False, compare=False)


@dataclass(frozen=True)
class Confusion:
    """A run's confusion matrices: rows are true classes, columns predicted.

    Attributes:
        run: Short id of the run.
        run_id: Its id.
        classes: C labels in class order.
        train: (C, C) counts, out-of-fold; None for a run without.
        test: (C, C) counts on the test set; None without one.
        scores: For each part, "train" and "test", sensitivity, specificity and auc of
            each class; None for what a class without images does not have.
    """

    run: str
    run_id: str
    classes: list[str]
    train: np.ndarray | None
    test: np.ndarray | None
    scores: dict[str, dict[str, list[float | None]]]
