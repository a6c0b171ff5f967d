"""What may be said of a run's place: its possible ranks, and the chance of an error."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from featcache.commands.compare.paired_tests import Repeats
from featcache.commands.compare.scored_run import ScoredRun
from featcache.core.text import counted
from featcache.evaluation import metrics
from featcache.evaluation.runs import TRAIN

_BY_CLASS = ("balanced_accuracy", "macro_f1")  # of the predicted classes alone


@dataclass(frozen=True, kw_only=True)
class Claim:
    """How sure the place of a run is; all None for baselines and controls.

    Attributes:
        p_not_better: Posterior probability that the run which the others are held
            against is not better than this one; None for that run itself.
        rank_low: The first of the ranks that the run may have; those of all runs hold
            with 95 % at once.
        rank_high: The last of them.
        claim: All of it in a sentence.
    """

    p_not_better: float | None = None
    rank_low: int | None = None
    rank_high: int | None = None
    claim: str | None = None


def claims(
    repeats: Mapping[ScoredRun, Repeats], reference: ScoredRun, metric: str
) -> dict[ScoredRun, Claim]:
    """The claims of each run of a leaderboard that is no baseline or control.

    A run that was repeated on several draws of the folds counts with its mean score
    over them. They share their images, so they are no further evidence; but the draws
    take the repeats at random too, and so have the spread between them.

    Args:
        repeats: The runs, ranked, each with its repeats.
        reference: The run that the others are held against.
        metric: What they are ranked by.
    """
    runs = [run for run in repeats if not run.is_baseline]
    if not runs:
        return {}
    apart = _differing(runs, metric)
    ranks = metrics.rank_intervals(
        [
            np.mean([one.scores[metric] for one in repeats[run].values()])
            for run in runs
        ],
        [
            _mean([one.draws.scores[metric] for one in repeats[run].values()])
            for run in runs
        ],
        apart,
        groups=min(run.draws.basis(metric) for run in runs),
        larger_is_better=metrics.METRICS[metric],
    )
    chances = _chances(runs, repeats, reference, metric, apart)
    return {
        run: Claim(
            p_not_better=chances.get(run),
            rank_low=low,
            rank_high=high,
            claim=_sentence(run, (low, high, len(runs)), chances, reference, metric),
        )
        for run, (low, high) in zip(runs, ranks, strict=True)
    }


def _chances(
    runs: Sequence[ScoredRun],
    repeats: Mapping[ScoredRun, Repeats],
    reference: ScoredRun,
    metric: str,
    apart: np.ndarray,
) -> dict[ScoredRun, float]:
    """P(at least as good as the reference) of each other run."""
    if reference not in runs:
        return {}
    posterior = [
        _mean([one.posterior(metric) for one in repeats[run].values()]) for run in runs
    ]
    own = runs.index(reference)
    return {
        run: metrics.at_least_as_good(
            posterior[row] - posterior[own],
            differing=int(apart[row, own]),
            larger_is_better=metrics.METRICS[metric],
        )
        for row, run in enumerate(runs)
        if run is not reference
    }


def _mean(draws: Sequence[np.ndarray]) -> np.ndarray:
    """The draws of a run's score; of several repeats, of a mean over some of them."""
    if len(draws) == 1:
        return draws[0]
    scores = np.stack(draws)
    picks = np.random.default_rng(0).integers(len(scores), size=scores.shape)
    return np.asarray(np.take_along_axis(scores, picks, axis=0).mean(axis=0))


def _differing(runs: Sequence[ScoredRun], metric: str) -> np.ndarray:
    """Groups in which the predictions of two runs differ for a metric, (K, K)."""
    names, codes = np.unique(runs[0].part.groups.astype(str), return_inverse=True)
    count = np.zeros((len(runs), len(runs)), int)
    rows = [_compared(run, metric, codes) for run in runs]
    for i, one in enumerate(rows):
        for j, other in enumerate(rows[:i]):
            changed = (one != other).any(axis=1)
            if metric != "accuracy":  # an image each, and not yet a group each
                changed = np.bincount(codes, changed, len(names)) > 0
            count[i, j] = count[j, i] = changed.sum()
    return count


def _compared(run: ScoredRun, metric: str, codes: np.ndarray) -> np.ndarray:
    """What a metric sees of a run, a row for each image; for accuracy, each group."""
    if metric == "accuracy":
        return np.bincount(codes, run.right)[:, None]
    if metric in _BY_CLASS:
        return np.asarray(run.part.p.argmax(axis=1)[:, None])
    return run.part.p


def _sentence(
    run: ScoredRun,
    ranks: tuple[int, int, int],
    chances: Mapping[ScoredRun, float],
    reference: ScoredRun,
    metric: str,
) -> str:
    low, high, of = ranks
    place = f"ranks {low}-{high}" if low < high else f"ranks {low}"
    text = f"{_name(run)} {place} of {of} by {metric.replace('_', ' ')}"
    if run is reference and chances:
        rival = max(chances, key=lambda one: chances[one])
        text += f"; the probability that {_name(rival)} is at least as good is "
        text += _probability(chances[rival])
    elif run in chances:
        text += f"; the probability that it is at least as good as {_name(reference)} "
        text += f"is {_probability(chances[run])}"
    return f"{text}; {_basis(run)}."


def _name(run: ScoredRun) -> str:
    record = run.run.record
    return f"{record.head} on {record.backbone} (run {run.run.short_id})"


def _probability(value: float) -> str:
    if np.isnan(value):
        return "unknown"
    return (
        f"{value:.2f}"
        if 0.005 <= value < 0.995
        else "< 0.01"
        if value < 0.5
        else "> 0.99"
    )


def _basis(run: ScoredRun) -> str:
    """What the figures rest on."""
    images = counted(len(run.right), "image")
    basis = f"{images} of {counted(run.draws.groups, 'group')}"
    if run.of_part != TRAIN:
        return f"{basis}, test set"
    return f"{basis}, {len(np.unique(run.folds))}-fold out-of-fold"
