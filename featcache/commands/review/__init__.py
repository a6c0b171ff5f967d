"""``featcache review``: people put labels right.

No feature knows a label, so that a corrected label costs seconds.
"""

from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from featcache.commands.review.apply import Applied, apply
from featcache.commands.review.base import Item, ReviewContext
from featcache.commands.review.decisions import check_reader
from featcache.commands.review.queues import QUEUES
from featcache.commands.review.session import (
    Card,
    Reveal,
    Session,
    StaleError,
    stamp_of,
)
from featcache.commands.review.status import ReviewStatus, status
from featcache.core.progress import SILENT, Reporter
from featcache.dataset.manifest import Manifest
from featcache.errors import DatasetError, RunError, UsageError

__all__ = [
    "QUEUES",
    "Applied",
    "Card",
    "Item",
    "Queue",
    "Reveal",
    "ReviewStatus",
    "Session",
    "StaleError",
    "apply",
    "open_session",
    "queue_of",
    "status",
]


@dataclass(frozen=True)
class Queue:
    """Images to look at, the first to look at first.

    Attributes:
        name: Its purpose.
        items: Its images, up to the limit.
        total: How many there would be without a limit.
    """

    name: str
    items: list[Item]
    total: int


def queue_of(
    dataset: Manifest,
    reports: Path,
    *,
    queue: str = "labels",
    limit: int = 100,
    seed: int = 0,
    reporter: Reporter = SILENT,
) -> Queue:
    """Which images a queue holds, in which order, and why.

    What a model has a say in holds out-of-fold images alone: the labels of a test set
    that a model contradicts are not put right selectively, which would favour it.

    Args:
        dataset: The dataset.
        reports: The folder of runs of all datasets.
        queue: "labels", "duplicates", "errors", "refused", "informative" or "random".
        limit: The most images.
        seed: Of what is drawn.
        reporter: Hears of what takes time.

    Raises:
        UnknownNameError: No such queue.
        UsageError: A limit below 1, or a negative seed.
        RunError: It needs an audit, a run or features that are not there; or there is
            no image in it.
        DatasetError: The dataset has one class, so that nothing can be answered.
    """
    context = ReviewContext(dataset, reports / dataset.dataset, seed, reporter)
    return _queue(context, queue, limit)


def open_session(
    dataset: Manifest,
    reports: Path,
    *,
    reader: str,
    queue: str = "labels",
    limit: int = 100,
    seed: int = 0,
    reporter: Reporter = SILENT,
) -> Session:
    """Lets a reader answer the images of a queue; see `queue_of`.

    Args:
        dataset: The dataset.
        reports: The folder of runs of all datasets.
        reader: Who answers.
        queue: Which images.
        limit: The most images.
        seed: Of what is drawn.
        reporter: Hears of what takes time.

    Raises:
        FeatcacheError: As `queue_of`; or ``reader`` is no name.
    """
    check_reader(reader)
    context = ReviewContext(dataset, reports / dataset.dataset, seed, reporter)
    stamp = stamp_of(dataset)
    items = _queue(context, queue, limit).items
    return Session(context, reader, queue, items, stamp)


def _queue(context: ReviewContext, queue: str, limit: int) -> Queue:
    kind = QUEUES[queue]
    if limit < 1:
        raise UsageError("`limit` of 1 or more", str(limit), "Use `limit=100`.")
    if context.seed < 0:
        raise UsageError("a seed of 0 or above", str(context.seed), "Use `seed=0`.")
    classes, name = context.manifest.classes, context.manifest.dataset
    if len(classes) < 2:
        raise DatasetError(
            f"at least two classes in {name}, to choose between",
            f"one: {classes[0]}",
            "Scan a source with more classes.",
        )
    items = kind.build(context, limit)
    if not items:
        raise RunError(
            f"queue {queue} of {name} is empty: there are no {kind.about}",
            f"Choose another `queue`: featcache review --dataset {quote(name)} "
            "--queue random",
        )
    return Queue(queue, items[:limit], len(items))
