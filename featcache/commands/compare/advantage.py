"""How much of what the best run gains over guessing can be had without the subject."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from featcache.commands.compare.scored_run import ScoredRun
from featcache.core.text import percent
from featcache.dataset.regions import OUTSIDE, RING
from featcache.evaluation import metrics
from featcache.evaluation.record import UNTRAINED
from featcache.evaluation.runs import Predictions

_SOURCES = {
    "metadata": "the properties of the file",
    "border": "the border",
    "pixels48": "48x48 pixels",
    OUTSIDE: "the image without the masked region",
    RING: "the outer ring",
}


@dataclass(frozen=True)
class Advantage:
    """The share of the best run's gain over guessing that a control reaches.

    Attributes:
        control: The best control of its kind.
        source: What the control sees, in words.
        share: (control - guessing) / (best - guessing) in the ranking metric.
        ends: Its 95 % interval over groups; NaN where guessing may be as good as the
            best run.
        guess: The score of guessing: the class frequencies for every image.
    """

    control: ScoredRun
    source: str
    share: float
    ends: tuple[float, float]
    guess: float

    @property
    def is_large(self) -> bool:
        """Whether the share is above a quarter for sure, and below the whole."""
        return self.ends[0] > metrics.LARGE_SHARE and self.share < 1


def advantages(ranked: Sequence[ScoredRun], metric: str) -> list[Advantage]:
    """The shares of the best control of each kind, the largest first.

    Controls are trained heads on features that do not show the whole image to a
    network; the masked region alone is none of them.

    Args:
        ranked: The runs of a leaderboard, ranked.
        metric: What they are ranked by; accuracy takes the place of ECE, in which
            guessing is perfect.
    """
    metric = "accuracy" if metric == "ece" else metric
    best, guess = ranked[0], _guessing(ranked[0])
    by_source: dict[str, ScoredRun] = {}
    for run in ranked:
        untrained = run.run.record.head in UNTRAINED
        if run.is_baseline and not run.sees_subject and not untrained:
            by_source.setdefault(_source(run), run)
    if best.is_baseline or not by_source:
        return []
    shared = []
    for source, control in by_source.items():
        three = (control, best, guess)
        values = [run.scores[metric] for run in three]
        draws = [run.draws.scores[metric] for run in three]
        share, ends = metrics.share_of_gain(values[0], values[1], values[2], draws)
        shared.append(Advantage(control, source, share, ends, values[2]))
    return sorted(shared, key=lambda one: -one.share)


def _guessing(scored: ScoredRun) -> ScoredRun:
    """The same images, each predicted as the frequencies of the classes."""
    y, p, groups = scored.part.y, scored.part.p, scored.part.groups
    shares = np.bincount(y, minlength=p.shape[1]) / len(y)
    constant = Predictions(y, np.tile(shares, (len(y), 1)), groups)
    return ScoredRun(scored.run, constant, scored.folds, scored.of_part)


def _source(scored: ScoredRun) -> str:
    """What a control sees, in words; several feature sets are named."""
    record = scored.run.record
    names = {block.region or block.backbone for block in record.features}
    return _SOURCES.get(names.pop() if len(names) == 1 else "", record.backbone)


def warnings(ranked: Sequence[ScoredRun], metric: str) -> Iterator[str]:
    """Says of each large share how large it is, whether or not the runs are tied.

    Args:
        ranked: The runs of a leaderboard, ranked.
        metric: What they are ranked by.
    """
    name = "accuracy" if metric == "ece" else metric
    best = ranked[0].scores[name]
    for one in advantages(ranked, metric):
        if one.is_large:
            low, high = (100 * end for end in one.ends)
            yield (
                f"{percent(one.share)} of what the network gains over guessing can be "
                f"had from {one.source} alone (95 %: {low:.0f} to {high:.0f} %; "
                f"{name.replace('_', ' ')}: network {best:.3f}, {one.source} "
                f"{one.control.scores[name]:.3f}, guessing {one.guess:.3f})"
            )
