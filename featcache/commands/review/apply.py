"""``featcache review apply``: from answers to a new manifest."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from featcache.commands.review import decisions as log
from featcache.commands.review import rules
from featcache.commands.review.base import ReviewContext
from featcache.commands.review.rules import Verdict
from featcache.core.io import lock
from featcache.core.text import counted, some
from featcache.dataset import corrections, manifest
from featcache.dataset.corrections import Change
from featcache.dataset.manifest import Manifest
from featcache.errors import DatasetError, RunError

_WAIT = 60.0  # seconds for a scan of the dataset
_LISTED = 3


@dataclass(frozen=True)
class Open:
    """An answered image whose label stays as it is.

    Attributes:
        image_id: The image.
        path: Its file.
        label: Its label.
        why: Why the rule does not decide, in words.
    """

    image_id: str
    path: str
    label: str
    why: str


@dataclass(frozen=True)
class Applied:
    """What became of answers.

    Attributes:
        dataset: Its name.
        rule: By which they were applied.
        changes: Labels that were changed (or would be).
        confirmed: How many images keep their label because the rule says so.
        open: Images on which the rule does not decide; they keep their label.
        gone: Reviewed images that the dataset does not have any more.
        version: Number of the manifest that was replaced; None where none was.
        run_id: The best run on the old labels; None without one.
        warnings: Lines of ``reviews.csv`` that cannot be read.
    """

    dataset: str
    rule: str
    changes: list[Change]
    confirmed: int
    open: list[Open]
    gone: list[str]
    version: int | None
    run_id: str | None
    warnings: list[str]


def apply(
    dataset: Manifest,
    reports: Path,
    *,
    rule: str,
    dry_run: bool = False,
    ignore_gone: bool = False,
) -> Applied:
    """Makes labels out of answers: a new manifest, beside which the old one is kept.

    Images are never touched, and no feature is computed again: labels are in the
    manifest alone. A label that the rule does not decide stays, and is listed.

    Args:
        dataset: The dataset.
        reports: The folder of runs of all datasets.
        rule: "agree", "majority" or "reader:NAME"; see ``rules.verdicts``.
        dry_run: Change nothing; say what would be changed.
        ignore_gone: Apply the answers to images that are there, though others that were
            reviewed are not.

    Raises:
        UsageError: No such rule, or no such reader.
        DatasetError: Reviewed images are gone; or a class would have no image left but
            one; or ``reviews.csv`` is not ours.
        LockedError: A scan has been writing the manifest for a minute.
    """
    what = f"the manifest of {dataset.dataset}"
    with lock(dataset.folder / ".manifest.lock", what, timeout=_WAIT):
        current = manifest.load(dataset.folder)
        decisions = log.read(current.folder)
        verdicts = rules.verdicts(rule, decisions)
        images = current.ok.set_index("image_id")
        gone = sorted(verdicts.keys() - {*images.index})
        if gone and not ignore_gone:
            raise _rescanned(current, gone, len(verdicts))
        decided, undecided = _sorted_out(current, images, verdicts)
        changes = [one for one in decided if one.before != one.after]
        _refuse_one_class(current, changes)
        best = _best(ReviewContext(current, reports / current.dataset))
        version = None
        if changes and not dry_run:
            version = corrections.write(current, changes, rule, best)[1].number
    return Applied(
        dataset=current.dataset,
        rule=rule,
        changes=changes,
        confirmed=len(decided) - len(changes),
        open=undecided,
        gone=gone,
        version=version,
        run_id=best,
        warnings=[*decisions.warnings],
    )


def _sorted_out(
    current: Manifest, images: pd.DataFrame, verdicts: Mapping[str, Verdict]
) -> tuple[list[Change], list[Open]]:
    """The images on which a rule decides, and those on which it does not."""
    decided, undecided = [], []
    for image_id in images.index[images.index.isin(verdicts.keys())]:
        verdict = verdicts[image_id]
        path, label = (str(images.at[image_id, name]) for name in ("path", "label"))
        why = verdict.why
        if verdict.label is not None and verdict.label not in current.classes:
            why = f"the answer {verdict.label!r} is no class of {current.dataset}"
        if verdict.label is None or why:
            undecided.append(Open(image_id, path, label, why))
        else:
            names = verdict.readers
            decided.append(Change(image_id, path, label, verdict.label, names))
    return decided, undecided


def _rescanned(current: Manifest, gone: list[str], reviewed: int) -> DatasetError:
    return DatasetError(
        f"all {counted(reviewed, 'reviewed image')} in {current.dataset}",
        f"{len(gone)} that are gone ({some([one[:12] for one in gone], _LISTED)}): the "
        "dataset was scanned again since, from other files",
        "Scan the files that were reviewed, or use `ignore_gone=True` to apply the "
        "answers to the images that are there.",
    )


def _refuse_one_class(current: Manifest, changes: list[Change]) -> None:
    after = {change.image_id: change.after for change in changes}
    labels = {*corrections.relabelled(current.ok, after)}
    if len(current.classes) > 1 and len(labels) < 2:
        raise DatasetError(
            f"two classes in {current.dataset} once the answers are applied",
            f"one: {labels.pop()}",
            "Choose another `rule`.",
        )


def _best(context: ReviewContext) -> str | None:
    """The id of the best run; None where there is none that can be read."""
    try:
        return context.best.run_id if context.best else None
    except RunError:
        return None
