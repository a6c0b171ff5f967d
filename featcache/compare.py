"""``featcache compare``: rank runs, and refuse to rank what cannot be compared."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featcache import metrics, runs
from featcache.errors import RunError, UsageError
from featcache.manifest import some
from featcache.runs import TEST, TRAIN, Run

# Metric to whether more is better.
METRICS = {
    "accuracy": True,
    "balanced_accuracy": True,
    "macro_f1": True,
    "auc": True,
    "log_loss": False,
    "brier": False,
    "ece": False,
}


@dataclass(frozen=True)
class Leaderboard:
    """Runs that were judged on the same images, best first.

    Attributes:
        dataset: Its name.
        split: Name of the split that all rows share.
        metric: What they are ranked by.
        rows: One dictionary a run; figures are out-of-fold on the training part,
            ``test_...`` on the test part (None without one).
        left_out: Why other runs are not in the table, one line each.
    """

    dataset: str
    split: str
    metric: str
    rows: list[dict[str, Any]]
    left_out: list[str]


@dataclass(frozen=True)
class Confusion:
    """A run's confusion matrices: rows are true classes, columns predicted.

    Attributes:
        run_id: The run.
        classes: C labels in class order.
        train: (C, C) counts, out-of-fold.
        test: (C, C) counts on the test part; None without one.
    """

    run_id: str
    classes: list[str]
    train: np.ndarray
    test: np.ndarray | None


def compare(
    reports: Path,
    *,
    metric: str = "accuracy",
    split: str | None = None,
) -> Leaderboard:
    """Ranks the runs below ``reports/<dataset>``.

    Only runs judged on the same images, labels, groups and folds are ranked
    together: those of the named split, else those of the newest run. The others
    are named in ``left_out``.

    Args:
        reports: ``reports/<dataset>``.
        metric: One of ``METRICS``.
        split: Name of a split.

    Raises:
        RunError: There is nothing to rank.
        UsageError: No such metric.
    """
    if metric not in METRICS:
        raise UsageError(f"--metric {', '.join(METRICS)}", repr(metric), "Take one.")
    found, broken = runs.list_runs(reports)
    left_out = [str(error) for error in broken]
    left_out += [
        f"run {run.run_id} failed: {run.record.get('reason')}"
        for run in found
        if run.failed
    ]
    chosen, others = _comparable([run for run in found if not run.failed], split)
    if not chosen:
        raise RunError(
            f"runs to compare in {reports}" + (f" on split {split}" if split else ""),
            "; ".join(left_out + others) or "none",
            "Run: featcache train-head -H all"
            + ("" if not split else ", or another --split"),
        )
    rows = []
    for run in chosen:
        try:
            rows.append(_row(run))
        except RunError as error:
            left_out.append(str(error))
    sign = -1 if METRICS[metric] else 1
    rows.sort(key=lambda row: (sign * row[metric], row["run_id"]))
    ranked = [{"rank": rank, **row} for rank, row in enumerate(rows, 1)]
    name = chosen[0].record["split"]["name"]
    return Leaderboard(reports.name, name, metric, ranked, left_out + others)


def _comparable(found: list[Run], split: str | None) -> tuple[list[Run], list[str]]:
    """Parts the runs that are judged alike from all others."""
    alike: dict[str, list[Run]] = defaultdict(list)
    for run in sorted(found, key=lambda run: run.record["created"], reverse=True):
        alike[run.record["evaluation_id"]].append(run)
    named = [
        group
        for group in alike.values()
        if split in (None, group[0].record["split"]["name"])
    ]
    chosen = named[0] if named else []
    others = [
        f"{len(group)} runs cannot be compared with these "
        f"({_difference(group[0], chosen[0])}): "
        + some([run.run_id for run in group], 3)
        for group in alike.values()
        if chosen and group is not chosen
    ]
    return chosen, others


def _difference(run: Run, chosen: Run) -> str:
    split = run.record["split"]["name"]
    way = f"see them with --split {split}"
    if split == chosen.record["split"]["name"]:
        way = "made before images, labels or groups changed: train them again"
    return (
        f"split {split}, {run.record.get('n_images')} images of "
        f"{run.record.get('n_groups')} groups, {len(run.classes)} classes; {way}"
    )


def _row(run: Run) -> dict[str, Any]:
    record = run.record
    train, test = run.predictions(TRAIN), run.predictions(TEST)
    scores = metrics.scores(train.y, train.p)
    low, high = _interval(train)
    row = {
        "run_id": run.run_id,
        "backbone": record["backbone"],
        "weights": record["weights"],
        "input_size": record.get("input_size"),
        "head": record["head"],
        "views": record["views"],
        "taps": ",".join(record.get("taps", [])),
        "tta": record.get("tta"),
        "split": record["split"]["name"],
        "n": len(train.y),
        "n_groups": len(np.unique(train.groups)),
        "accuracy": scores.pop("accuracy"),
        "accuracy_low": low,
        "accuracy_high": high,
        **scores,
        "n_test": len(test.y),
        "test_accuracy": None,
        "test_accuracy_low": None,
        "test_accuracy_high": None,
        "fit_seconds": record.get("fit_seconds"),
        "predict_seconds": record.get("predict_seconds"),
    }
    if len(test.y):
        low, high = _interval(test)
        row["test_accuracy"] = metrics.accuracy(test.y, test.p)
        row["test_accuracy_low"], row["test_accuracy_high"] = low, high
    return row


def _interval(part: runs.Predictions) -> tuple[float, float]:
    return metrics.group_bootstrap(part.p.argmax(axis=1) == part.y, part.groups)


def confusion(run: Run) -> Confusion:
    """Counts a run's predictions against the truth."""
    train, test = run.predictions(TRAIN), run.predictions(TEST)
    return Confusion(
        run.run_id,
        run.classes,
        metrics.confusion(train.y, train.p),
        metrics.confusion(test.y, test.p) if len(test.y) else None,
    )
