"""How long fits will take, by what fits of the same kind took before."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import NamedTuple

from featcache.core.text import duration
from featcache.evaluation import runs
from featcache.evaluation.record import HeadIdentity, RunRecord

# Roughly what a fit takes for its size beside that of a quick head: for the order.
_COSTS = {"xgboost": 20, "mlp-dropout": 14, "mlp": 12, "svm": 6, "logreg": 5}
_LOADING = 30  # seconds that the first fit of a process may spend on libraries
_TELLING = 10  # seconds; to know that there is less than this left is no help
_CLOSE = 2  # bounds that differ by less are one number


class Effort(NamedTuple):
    """What the time of a fit depends on.

    Attributes:
        kind: The head and what multiplies its work; only the same is comparable.
        size: Rows times columns.
    """

    kind: tuple[str, ...]
    size: float

    @classmethod
    def of(cls, head: HeadIdentity, rows: int, columns: int) -> "Effort":
        """Of a head on features with these rows, views included, and columns."""
        embedding = head.embedding
        changes = (embedding.transform, str(embedding.pca)) if embedding else ()
        return cls((head.head, str(head.params.get("tune")), *changes), rows * columns)

    @property
    def is_tuned(self) -> bool:
        """Whether the head chooses its settings itself."""
        return self.kind[1] == "True"

    @property
    def order(self) -> float:
        """Sorts the quick fits first, roughly."""
        return _COSTS.get(self.kind[0], 1) * self.size


class Bounds(NamedTuple):
    """Seconds between which a time is expected.

    Attributes:
        low: At least.
        high: At most; infinite where something was never timed.
    """

    low: float
    high: float

    @property
    def text(self) -> str:
        """In words: ``about 5 min``, ``2 min to 9 min``; empty if nothing is known."""
        if self.high == float("inf"):
            return f"more than {duration(self.low)}" if self.low >= _TELLING else ""
        if self.high <= _CLOSE * max(self.low, 1):
            return f"about {duration((self.low + self.high) / 2)}"
        return f"{duration(self.low)} to {duration(self.high)}"


class Timings:
    """The seconds of fits that have ended, in this call and in earlier runs.

    Args:
        records: Of earlier runs.
        jobs: Fits at the same time; as many fits of a kind may be the first of their
            process.
    """

    def __init__(self, records: Iterable[RunRecord] = (), jobs: int = 1) -> None:
        self._jobs = jobs
        self._earlier: dict[tuple[str, ...], dict[float, list[float]]] = {}
        self._measured: dict[tuple[str, ...], dict[float, list[float]]] = {}
        for record in (one for one in records if not one.trainings):
            _put(self._earlier, effort_of(record), _seconds(record))

    def add(self, effort: Effort, seconds: float) -> None:
        """Adds a fit of this call."""
        _put(self._measured, effort, [seconds])

    def bounds(self, effort: Effort) -> Bounds:
        """What a fit will take.

        That is the least and the median of what others took: of the same size, or of
        the next smaller and larger; beyond all that were timed, the time grows or
        shrinks at most in proportion.
        """
        measured = self._measured.get(effort.kind, {})
        sizes = self._earlier.get(effort.kind, {}) | measured
        if not sizes:
            return Bounds(0.0, float("inf"))
        ends = [max((s for s in sizes if s <= effort.size), default=min(sizes))]
        ends.append(min((s for s in sizes if s >= effort.size), default=max(sizes)))
        low = [min(sizes[end]) for end in ends]
        high = [median(sizes[end]) for end in ends]
        if not ends[0] < effort.size < ends[1]:
            growth = effort.size / ends[0]
            low, high = [low[0] * min(growth, 1)], [high[0] * max(growth, 1)]
        n_measured = sum(map(len, measured.values()))
        if n_measured <= self._jobs and measured.keys() & {*ends}:
            low = [one - _LOADING for one in low]
        return Bounds(max(min(low), 0.0), max(high))


def past_records(homes: Iterable[Path]) -> Iterator[RunRecord]:
    """The runs that were trained and can be read, of ``reports/<dataset>`` folders."""
    for home in homes:
        for run in runs.list_runs(home)[0]:
            if not run.failed and not run.record.members:
                yield run.record


def effort_of(record: RunRecord) -> Effort:
    """What each fit of a run depended on."""
    columns = sum(block.dim for block in record.features)
    return Effort.of(record.head_is, record.n_images * (record.views + 1), columns)


def _seconds(record: RunRecord) -> list[float]:
    """Of each fit of a run, its predictions included."""
    fits = [record.fit_seconds, *record.fold_seconds]
    return [seconds + record.predict_seconds / len(fits) for seconds in fits]


def _put(
    table: dict[tuple[str, ...], dict[float, list[float]]],
    effort: Effort,
    seconds: list[float],
) -> None:
    table.setdefault(effort.kind, {}).setdefault(effort.size, []).extend(seconds)


def together(each: Iterable[Bounds], jobs: int) -> Bounds:
    """Bounds of several fits, some of them at the same time."""
    low, high = zip(*each, strict=True)
    return Bounds(*(max(sum(side) / jobs, *side, 0.0) for side in (low, high)))


@dataclass
class Forecast:
    """The fits of a call, which start in their order, and how long they will take.

    Attributes:
        efforts: Of each fit.
        jobs: Fits at the same time.
        timings: What fits took before; those of this call are added.
        clock: Tells the time in seconds.
        running: By number, when a fit was started.
    """

    efforts: Sequence[Effort]
    jobs: int
    timings: Timings
    clock: Callable[[], float] = time.monotonic
    running: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._waiting = iter(range(len(self.efforts)))
        self._ended: set[int] = set()
        for _ in range(self.jobs):
            self._start()

    def _start(self) -> None:
        for number in self._waiting:
            self.running[number] = self.clock()
            return

    def end(self, number: int, seconds: float | None) -> None:
        """Hears that a fit has ended; without its seconds if it failed."""
        self._ended.add(number)
        self.running.pop(number, None)
        self._start()
        if seconds is not None:
            self.timings.add(self.efforts[number], seconds)

    @property
    def following(self) -> int | None:
        """The first fit that has not ended."""
        left = {*range(len(self.efforts))} - self._ended
        return min(left, default=None)

    def remaining(self) -> Bounds:
        """Until all fits have ended."""
        now, each = self.clock(), []
        bounds = {effort: self.timings.bounds(effort) for effort in {*self.efforts}}
        for number in {*range(len(self.efforts))} - self._ended:
            low, high = bounds[self.efforts[number]]
            spent = now - self.running.get(number, now)
            each.append(Bounds(max(low - spent, 0.0), max(high - spent, 0.0)))
        return together(each, self.jobs) if each else Bounds(0.0, 0.0)

    def after(self, text: str) -> str:
        """The text, and behind it what is left."""
        left = self.remaining().text if self.following is not None else ""
        return f"{text}; {left} left" if left else text
