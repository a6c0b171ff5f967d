"""The first screen: the answer in plain words, and one picture of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from featcache.commands.compare import LeaderboardRow
from featcache.commands.compare.scored_run import ScoredRun
from featcache.core.text import counted
from featcache.evaluation import metrics
from featcache.report.html import scoring
from featcache.report.html.gaps_section import Gap
from featcache.report.html.svg import STYLES, Svg, key, mark

_OF = 100  # images that a picture stands for
_COLUMNS, _SIDE = 20, 15
_MOST = 8  # classes in the picture
_NAMED = 3  # open questions
_LETTERS = 40  # of a name


@dataclass(frozen=True)
class Summary:
    """What the page says first.

    Attributes:
        sentences: The answer, its interval, and what is known of each class.
        pictures: For each class, its name and of 100 of its images how many the model
            names as which class.
        legend: The classes.
        open_questions: Titles of the first of what was not checked, within a sentence.
        more: How many there are beside these.
    """

    sentences: list[str]
    pictures: list[tuple[str, Svg]]
    legend: list[tuple[Svg, str]]
    open_questions: list[str]
    more: int


def summary(scored: ScoredRun, row: LeaderboardRow, gaps: Sequence[Gap]) -> Summary:
    """Says what the best run can do, as frequencies among 100 images.

    Args:
        scored: The best run.
        row: Its row of the leaderboard.
        gaps: What was not checked.
    """
    classes = [_short(name) for name in scored.run.classes]
    counts = metrics.confusion(scored.part.y, scored.part.p)
    with_images = [c for c in range(len(classes)) if counts[c].sum()][:_MOST]
    return Summary(
        sentences=[*_accuracy(scored, row), *_recognised(scored, classes)],
        pictures=[(classes[c], _picture(counts[c], c, classes)) for c in with_images],
        legend=[(key(c, line=False), name) for c, name in enumerate(classes)][:STYLES],
        open_questions=[_inside(gap.title) for gap in gaps[:_NAMED]],
        more=max(len(gaps) - _NAMED, 0),
    )


def _accuracy(scored: ScoredRun, row: LeaderboardRow) -> list[str]:
    right = _frequency(row.accuracy, row.interval("accuracy"))
    unit = scored.run.record.split.unit.removesuffix("s")
    text = (
        f"Of 100 images that it was not trained on, {_short(row.head)} on "
        f"{row.backbone} classifies {right} correctly; measured on "
        f"{counted(row.n, 'image')} of {counted(scored.draws.groups, unit)}. No model "
        f"was tested on images of a {unit} that it was trained on."
    )
    return [text, row.claim] if row.claim else [text]


def _recognised(scored: ScoredRun, names: Sequence[str]) -> list[str]:
    every = scoring.per_class(scored.part, scored.run.classes, scored.draws)
    return [
        f"Of 100 {name} images it recognises {_frequency(rate.value, rate.ends)}."
        for name, one in zip(names, every, strict=True)
        if one.n and (rate := one.scores["sensitivity"])
    ]


def _short(name: str) -> str:
    """A name as the first screen has room for it."""
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"


def _inside(title: str) -> str:
    """A title within a sentence: with a small letter, unless its first word is not."""
    return title[:1].lower() + title[1:] if title[1:2].islower() else title


def _frequency(value: float, ends: tuple[float, float] | None) -> str:
    of_100 = f"{100 * value:.0f}"
    if not ends:
        return f"{of_100} (with a single group there is no interval)"
    return f"{of_100} (95\u00a0%: {100 * ends[0]:.0f} to {100 * ends[1]:.0f})"


def _picture(counts: np.ndarray, true: int, classes: Sequence[str]) -> Svg:
    """One mark for each of 100 images, in the shape of the class that is named."""
    of_100 = _hundred(counts)
    order = sorted(range(len(classes)), key=lambda c: (c != true, c))
    named = [c for c in order for _ in range(of_100[c])]
    rows = -(-_OF // _COLUMNS)
    text = ", ".join(f"{of_100[c]} as {classes[c]}" for c in order if of_100[c])
    marks = "".join(
        f'<path class="s{c % STYLES} dot" transform="translate('
        f'{_SIDE * (i % _COLUMNS + 0.5)} {_SIDE * (i // _COLUMNS + 0.5)})" '
        f'd="{mark(c, 5)}"/>'
        for i, c in enumerate(named)
    )
    return Svg(
        f'<svg class="hundred" viewBox="0 0 {_SIDE * _COLUMNS} {_SIDE * rows}" '
        f'role="img" aria-label="Of 100 images of {escape(classes[true])}: '
        f'{escape(text)}">{marks}</svg>'
    )


def _hundred(counts: np.ndarray) -> list[int]:
    """Shares of 100 that sum to 100: the largest remainders are rounded up."""
    exact = _OF * counts / counts.sum()
    whole = np.floor(exact).astype(int)
    for c in np.argsort(whole - exact, kind="stable")[: _OF - whole.sum()]:
        whole[c] += 1
    return [int(count) for count in whole]
