"""What comparing gives."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from featcache.commands.compare.scored_run import ScoredRun
from featcache.core import records


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A run against the reference; all None for the reference itself.

    Attributes:
        difference: In the ranking metric.
        difference_low: Lower end of its 95 % interval.
        difference_high: Upper end.
        p: Of the paired test over groups.
        p_holm: The same after Holm's correction over all runs.
        p_mcnemar: Of McNemar's test.
        tied: Whether ``p_holm`` is 0.05 or more.
    """

    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    p_mcnemar: float | None = None
    tied: bool | None = None


@dataclass(frozen=True, kw_only=True)
class LeaderboardRow:
    """A run of the leaderboard; docs/reference/commands/compare.md has the fields.

    Scores are out-of-fold, or on the test set where the leaderboard is of that;
    ``test_...`` is None for a run without a test set. A score without a value is NaN,
    as are all but the test accuracy of a run that ``is_test_only``.
    """

    rank: int
    run: str
    run_id: str
    label: str | None
    backbone: str
    weights: str
    input_size: int | None
    preprocess: str | None
    unproven: bool
    head: str
    views: int
    policy: str | None
    taps: str
    tta: bool
    options: str
    split: str
    n: int
    n_groups: int
    accuracy: float
    accuracy_low: float | None
    accuracy_high: float | None
    balanced_accuracy: float
    balanced_accuracy_low: float | None
    balanced_accuracy_high: float | None
    macro_f1: float
    macro_f1_low: float | None
    macro_f1_high: float | None
    auc: float
    auc_low: float | None
    auc_high: float | None
    log_loss: float
    log_loss_low: float | None
    log_loss_high: float | None
    brier: float
    brier_low: float | None
    brier_high: float | None
    ece: float
    ece_low: float | None
    ece_high: float | None
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    p: float | None
    p_holm: float | None
    p_mcnemar: float | None
    tied: bool | None
    p_not_better: float | None
    rank_low: int | None
    rank_high: int | None
    claim: str | None
    repeats: int
    accuracy_mean: float
    accuracy_sd: float | None
    p_repeats: float | None
    n_test: int
    test_accuracy: float | None
    test_accuracy_low: float | None
    test_accuracy_high: float | None
    fit_seconds: float
    predict_seconds: float
    is_baseline: bool
    is_test_only: bool
    trainable_parameters: int | None

    def score(self, name: str) -> float:
        """A score by its name, a metric or "test_accuracy"; NaN without a value."""
        value: float | None = getattr(self, name)
        return math.nan if value is None else value

    def interval(self, name: str) -> tuple[float, float] | None:
        """The 95 % interval of a score, where it has one."""
        low, high = self.score(f"{name}_low"), self.score(f"{name}_high")
        return None if math.isnan(low) or math.isnan(high) else (low, high)

    def to_json(self) -> dict[str, Any]:
        """All fields in the order of docs/reference/commands/compare.md, or null."""
        return {name: records.plain(value) for name, value in vars(self).items()}


@dataclass(frozen=True)
class Leaderboard:
    """Runs that were judged on the same images, best first.

    Attributes:
        dataset: Its name.
        split: Name of the split that all rows share.
        metric: What they are ranked by.
        rows: One a run; baselines and controls (``is_baseline``) come last, whatever
            their scores.
        excluded: Why other runs are not in the table, one line each.
        against: The run that differences and tests refer to: the best, if no other
            was asked for.
        warnings: What makes the best figure doubtful, one line each.
        part: What the figures are of: "train" (out-of-fold) or "test".
        test_only: Runs on the same images that were judged on the test set alone,
            best there first; they are not ranked with the others.
        scored: The runs of the rows with their predictions and bootstrap draws, in the
            same order.
    """

    dataset: str
    split: str
    metric: str
    rows: list[LeaderboardRow]
    excluded: list[str]
    against: str = ""
    warnings: list[str] = field(default_factory=list)
    part: str = "train"
    test_only: list[LeaderboardRow] = field(default_factory=list)
    scored: list[ScoredRun] = field(default_factory=list, repr=False, compare=False)

    @property
    def all_rows(self) -> list[LeaderboardRow]:
        """The ranked rows, and behind them those of the test set alone."""
        return [*self.rows, *self.test_only]


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
