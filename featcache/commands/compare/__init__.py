"""``featcache compare``: rank runs, and refuse to rank what cannot be compared."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from featcache.commands.compare import advantage, unproven
from featcache.commands.compare import paired_tests as paired
from featcache.commands.compare.against import reference
from featcache.commands.compare.claims import Claim, claims
from featcache.commands.compare.leaderboard import (
    Comparison,
    Confusion,
    Leaderboard,
    LeaderboardRow,
)
from featcache.commands.compare.sample_size import SampleSize, sample_size
from featcache.commands.compare.scored_run import (
    ScoredRun,
    described,
    scored,
    tested,
    unscored,
)
from featcache.dataset.manifest import Manifest
from featcache.errors import UsageError
from featcache.evaluation import metrics
from featcache.evaluation.metrics import METRICS
from featcache.evaluation.run_labels import read_labels
from featcache.evaluation.runs import TEST, TRAIN, Run
from featcache.evaluation.selection import Selection, changed_labels, choose

__all__ = [
    "METRICS",
    "Confusion",
    "Leaderboard",
    "LeaderboardRow",
    "SampleSize",
    "compare",
    "confusion",
    "sample_size",
]


def compare(
    reports: Path,
    *,
    metric: str = "accuracy",
    split: str | None = None,
    against: str | None = None,
    part: str = TRAIN,
    manifest: Manifest | None = None,
) -> Leaderboard:
    """Ranks the runs below ``reports/<dataset>``, with intervals and tests.

    Only runs judged on the same images, labels, groups and folds are ranked
    together: those of the named split, else those of the newest run. The others
    are named in ``excluded``; those judged on the test set alone are in ``test_only``.
    Repeats of a run stand in its row. What each figure is:
    docs/explanations/compare.md.

    Args:
        reports: ``reports/<dataset>``.
        metric: One of ``METRICS``.
        split: Name of a split.
        against: The run that all others are tested against, by its rank by accuracy,
            its short id or any unique part of its id; the best if left out.
        part: Rank by what: "train" for out-of-fold predictions, "test" for those on
            the test set. If you pick the winner by it, it is no longer a test set.
        manifest: Of the dataset: labels that have changed since are warned of.

    Raises:
        RunError: There is nothing to rank, or ``against`` cannot be compared.
        UsageError: No such metric or part.
    """
    if part not in (TRAIN, TEST):
        raise UsageError(f"`part` to be {TRAIN} or {TEST}", repr(part), "Choose one.")
    metric = metric.lower()
    if metric not in METRICS:
        raise UsageError(
            f"`metric` to be one of {', '.join(METRICS)}", repr(metric), "Choose one."
        )
    selection = choose(reports, split, part)
    named = reference(reports, against, selection, split).run_id if against else None
    repeats = {}
    for entry in selection.entries:
        first = ScoredRun.of(entry.run, part)
        others = [ScoredRun.of(run, part) for run in entry.repeats]
        repeats[first] = paired.by_repeat(first, others)
    ranked = sorted(repeats, key=lambda run: run.rank_key(metric))
    reference_run = next((one for one in ranked if one.run.run_id == named), ranked[0])
    labels = read_labels(reports)
    claimed = claims({one: repeats[one] for one in ranked}, reference_run, metric)
    rows = [
        LeaderboardRow(
            rank=rank,
            label=labels.get(one.run.run_id),
            **described(one),
            **scored(one),
            **vars(comparison),
            **vars(claimed.get(one, Claim())),
            **paired.repeated(repeats[one], repeats[reference_run]),
            **tested(one),
            is_test_only=False,
        )
        for rank, (one, comparison) in enumerate(
            zip(ranked, paired.tests(ranked, reference_run, metric), strict=True), 1
        )
    ]
    return Leaderboard(
        dataset=reports.name,
        split=reference_run.run.record.split.name,
        metric=metric,
        rows=rows,
        excluded=selection.excluded,
        against=reference_run.run.run_id,
        warnings=[
            *changed_labels(reference_run.run, manifest),
            *unproven.warnings(run.record for run in _every(selection)),
            *advantage.warnings(ranked, metric),
            *paired.warnings(ranked, metric),
        ],
        part=part,
        test_only=_test_only(selection.test_only, len(rows), labels),
        scored=ranked,
    )


def _every(selection: Selection) -> list[Run]:
    """The runs of all rows."""
    return [*(entry.run for entry in selection.entries), *selection.test_only]


def _test_only(
    several: Sequence[Run], ranked: int, labels: Mapping[str, str]
) -> list[LeaderboardRow]:
    """Rows of runs with predictions on the test set alone, numbered behind others."""
    scored_runs = sorted(
        (ScoredRun.of(run, TEST) for run in several),
        key=lambda one: one.rank_key("accuracy"),
    )
    return [
        LeaderboardRow(
            rank=rank,
            label=labels.get(one.run.run_id),
            **described(one),
            **unscored(),
            **vars(Comparison()),
            **vars(Claim()),
            **tested(one),
            is_test_only=True,
        )
        for rank, one in enumerate(scored_runs, ranked + 1)
    ]


def confusion(run: Run) -> Confusion:
    """Counts a run's predictions against the truth."""
    parts = {name: run.predictions(name) for name in (TRAIN, TEST)}
    parts = {name: part for name, part in parts.items() if len(part.y)}
    counts = {name: metrics.confusion(part.y, part.p) for name, part in parts.items()}
    scores = {
        name: {
            score: [None if np.isnan(value) else float(value) for value in values]
            for score, values in metrics.per_class(part.y, part.p).items()
        }
        for name, part in parts.items()
    }
    return Confusion(
        run.short_id,
        run.run_id,
        run.classes,
        counts.get(TRAIN),
        counts.get(TEST),
        scores,
    )
