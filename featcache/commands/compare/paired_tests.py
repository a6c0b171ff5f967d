"""Each run held against one: differences, tests, repeats, warnings."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from featcache.commands.compare.leaderboard import Comparison
from featcache.commands.compare.scored_run import ScoredRun
from featcache.core.text import some
from featcache.evaluation import metrics

LEVEL = 0.05

Repeats = Mapping[int, ScoredRun]  # by the number of the repeat, 0 included


def tests(
    runs: Sequence[ScoredRun], reference: ScoredRun, metric: str
) -> list[Comparison]:
    """Difference of each run to the reference, tests of it, and whether they are tied.

    The p-value is that of ``metrics.sign_flip`` for accuracy and of the paired
    bootstrap, ``metrics.difference``, for any other metric; Holm's correction is over
    all runs but the reference, whose fields are None.
    """
    others = [run for run in runs if run is not reference]
    comparisons = {run: _test(run, reference, metric) for run in others}
    corrected = metrics.holm([one.p or 0.0 for one in comparisons.values()])
    for run, p in zip(others, corrected, strict=True):
        comparisons[run] = replace(comparisons[run], p_holm=p, tied=p >= LEVEL)
    return [comparisons.get(run, Comparison()) for run in runs]


def _test(run: ScoredRun, reference: ScoredRun, metric: str) -> Comparison:
    value = run.scores[metric] - reference.scores[metric]
    draws = run.draws.scores[metric] - reference.draws.scores[metric]
    ends, p = metrics.difference(value, draws, groups=run.draws.basis(metric))
    if metric == "accuracy":
        p = metrics.sign_flip(run.right, reference.right, run.part.groups)
    return Comparison(
        difference=value,
        difference_low=ends[0],
        difference_high=ends[1],
        p=p,
        p_mcnemar=metrics.mcnemar(run.right, reference.right),
    )


def repeated(repeats: Repeats, reference: Repeats) -> dict[str, Any]:
    """Mean and spread of the accuracy over repeats, and the test over all folds.

    The corrected resampled t-test needs two repeats that both runs have; else None.
    """
    accuracies = [run.scores["accuracy"] for run in repeats.values()]
    return {
        "repeats": len(accuracies),
        "accuracy_mean": float(np.mean(accuracies)),
        "accuracy_sd": float(np.std(accuracies, ddof=1))
        if len(accuracies) > 1
        else None,
        "p_repeats": None if repeats is reference else _p_repeats(repeats, reference),
    }


def _p_repeats(repeats: Repeats, reference: Repeats) -> float | None:
    shared = [
        (run.accuracy_by_fold, reference[number].accuracy_by_fold)
        for number, run in repeats.items()
        if number in reference and np.array_equal(run.folds, reference[number].folds)
    ]
    if len(shared) < 2:
        return None
    change = np.concatenate([one - other for one, other in shared])
    folds = len(change) / len(shared)
    return metrics.corrected_t(change, test_to_train=1 / (folds - 1))


def by_repeat(first: ScoredRun, others: Sequence[ScoredRun]) -> Repeats:
    """A run's draws of the folds by their number."""
    return {0: first} | {run.run.record.split.repeat: run for run in others}


def warnings(ranked: Sequence[ScoredRun], metric: str) -> list[str]:
    """Says so when the best run is no better than baselines and controls.

    Args:
        ranked: The runs of a leaderboard, ranked.
        metric: What they are ranked by.
    """
    best = ranked[0]
    controls = [run for run in ranked if run.is_baseline and not run.sees_subject]
    if best in controls:
        return []
    rows = dict(zip(ranked, tests(ranked, best, metric), strict=True))
    better = 1 if metrics.METRICS[metric] else -1
    level = [
        f"{run.run.run_id} ({run.scores[metric]:.3f})"
        for run in controls
        if rows[run].tied or (rows[run].difference or 0) * better >= 0
    ]
    if not level:
        return []
    which = "a baseline or control" if len(level) == 1 else "baselines or controls"
    return [
        f"the best run, {best.run.run_id} ({metric} {best.scores[metric]:.3f}), is "
        f"tied with or no better than {which}: {some(level, 3)}. Such runs use no "
        "network, learn nothing or see only part of the image, so the best score "
        "proves no more than theirs"
    ]
