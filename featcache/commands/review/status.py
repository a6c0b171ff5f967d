"""``featcache review status``: who has answered what, and how far readers agree."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from featcache.commands.review import decisions as log
from featcache.commands.review.decisions import Decisions, Reading
from featcache.dataset import corrections
from featcache.dataset.manifest import Manifest
from featcache.evaluation.metrics import Kappa, cohen_kappa


@dataclass(frozen=True)
class Count:
    """What a reader has answered in a queue.

    Attributes:
        reader: Who.
        queue: The queue.
        answered: Images with an answer.
        skipped: Images without one.
        changed: Answers that were changed after the model was shown.
        contradicted: Answers other than the label was at that time.
    """

    reader: str
    queue: str
    answered: int
    skipped: int
    changed: int
    contradicted: int


@dataclass(frozen=True)
class Agreement:
    """How far two readers agree, by their answers before the model was shown.

    Attributes:
        readers: Their names.
        kappa: Cohen's kappa with its interval over groups; None without an image that
            both have answered.
    """

    readers: tuple[str, str]
    kappa: Kappa | None


@dataclass(frozen=True)
class ReviewStatus:
    """What ``reviews.csv`` comes to.

    Attributes:
        dataset: Its name.
        counts: By reader and queue.
        agreements: Of each two readers.
        gone: Answered images that the dataset does not have any more.
        versions: How often answers were applied.
        warnings: Lines that cannot be read.
    """

    dataset: str
    counts: list[Count]
    agreements: list[Agreement]
    gone: int
    versions: int
    warnings: Sequence[str]


def status(dataset: Manifest) -> ReviewStatus:
    """Counts answers by reader and queue, and says how far readers agree.

    Agreement is of the answers before the model was shown, which nothing but the image
    has influenced.

    Raises:
        DatasetError: ``reviews.csv`` is not ours.
    """
    decisions = log.read(dataset.folder)
    by_reader = {name: decisions.readings(name) for name in decisions.readers}
    group_of = dict(zip(dataset.ok["image_id"], dataset.ok["group"], strict=True))
    answered = {
        image
        for readings in by_reader.values()
        for image, reading in readings.items()
        if reading.answer
    }
    return ReviewStatus(
        dataset=dataset.dataset,
        counts=_counts(decisions, by_reader),
        agreements=[
            Agreement((a, b), _kappa(by_reader[a], by_reader[b], group_of))
            for a, b in combinations(by_reader, 2)
        ],
        gone=len(answered - group_of.keys()),
        versions=len(corrections.versions(dataset.folder)),
        warnings=decisions.warnings,
    )


def _counts(
    decisions: Decisions, by_reader: Mapping[str, Mapping[str, Reading]]
) -> list[Count]:
    totals: dict[tuple[str, str], Counter[str]] = {
        (line.reader, line.queue): Counter() for line in decisions.lines
    }
    for reader, readings in by_reader.items():
        for last in (one.last for one in readings.values()):
            if last is None:
                continue
            answer = last.after or last.before
            counter = totals[reader, last.queue]
            counter["answered" if answer else "skipped"] += 1
            counter["changed"] += bool(last.before and answer != last.before)
            counter["contradicted"] += bool(answer and answer != last.label)
    return [
        Count(
            reader, queue, n["answered"], n["skipped"], n["changed"], n["contradicted"]
        )
        for (reader, queue), n in totals.items()
    ]


def _kappa(
    one: Mapping[str, Reading],
    other: Mapping[str, Reading],
    group_of: Mapping[str, str],
) -> Kappa | None:
    both = sorted(
        image
        for image in one.keys() & other.keys() & group_of.keys()
        if one[image].before and other[image].before
    )
    if not both:
        return None
    return cohen_kappa(
        [one[image].before for image in both],
        [other[image].before for image in both],
        [group_of[image] for image in both],
    )
