"""What was not checked: computed from the records, so that no reader has to guess."""

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from featcache.backbones import BASELINES
from featcache.commands.audit import FILE as AUDIT
from featcache.commands.compare.unproven import unproven
from featcache.commands.explain.explained_images import (
    evaluated_rows,
    surest_errors,
)
from featcache.dataset.regions import MASK, OUTSIDE
from featcache.evaluation.external import read_validations
from featcache.evaluation.runs import TEST
from featcache.features.extractions import network_words
from featcache.features.store import network_options
from featcache.report.html.context import ReportContext, without_folders
from featcache.report.html.dataset_section import has_test
from featcache.report.html.explain_section import FOLDER

_NEW_PATIENTS = "Whether the scores hold for new patients"
_FEW_GROUPS = 30
_WIDE = 0.1


@dataclass(frozen=True)
class Gap:
    """Something that the figures do not answer.

    Attributes:
        title: The gap in a few words.
        text: Why it matters here, with this dataset's numbers.
        hint: What would close it; may be empty.
    """

    title: str
    text: str
    hint: str = ""


def gaps(context: ReportContext) -> list[Gap]:
    """All gaps that the records show, the gravest first."""
    every = [gap for check in _CHECKS for gap in check(context)]
    return [
        replace(gap, text=without_folders(gap.text), hint=context.complete(gap.hint))
        for gap in every
    ]


def _command(context: ReportContext, name: str, *words: str) -> str:
    return shlex.join(["featcache", name, "--dataset", context.board.dataset, *words])


def _train(context: ReportContext, *words: str) -> str:
    """The command that trains heads that are evaluated as the best run is."""
    settings = context.manifest.settings if context.manifest else None
    split = context.best.record.split_options(settings)
    return _command(context, "train-head", *words, *split)


def _scan(context: ReportContext) -> str:
    if context.manifest:
        return context.manifest.scan_by_group()
    return _command(context, "scan", "SOURCE", "--group-by", "COLUMN")


def _region(context: ReportContext) -> str:
    """What images are of, in words: a column of masks may be named for it."""
    columns = [str(name).lower() for name in context.images]
    has_lungs = any(re.fullmatch(r"lungs?([_ -]masks?)?", name) for name in columns)
    return "the lungs" if has_lungs else "the region of interest"


def _groups(context: ReportContext) -> Iterator[Gap]:
    by = context.best.record.split.group_by
    if by == "image":
        yield Gap(
            _NEW_PATIENTS,
            "Each image is a group of its own, so images of one patient may be in both "
            "training and evaluation, which inflates the scores.",
            _scan(context),
        )
    elif by == "near-duplicate":
        yield Gap(
            _NEW_PATIENTS,
            "Only near-identical images were kept together; two different images of "
            "one patient may be in both training and evaluation.",
            _scan(context),
        )


def _sources(context: ReportContext) -> Iterator[Gap]:
    if context.manifest is not None and not set(context.sources) - {"mode"}:
        yield Gap(
            "Where the images come from",
            "The source has no column such as hospital, projection or sex, so nobody "
            "can tell whether a class comes from a single origin.",
            "Scan a CSV with such columns.",
        )


def _baselines(context: ReportContext) -> Iterator[Gap]:
    blocks = [block for run in context.runs for block in run.record.features]
    names = {block.backbone for block in blocks if not block.region}
    missing = [name for name in BASELINES if name not in names]
    if missing:
        yield Gap(
            "What baselines without a network reach",
            f"No run on {', '.join(missing)}: size, brightness and borders alone may "
            "explain much of the best score.",
            " && ".join(
                [
                    _command(context, "extract", "-b", "baselines"),
                    _train(context, "-b", "metadata", "-b", "pixels48", "-b", "border"),
                ]
            ),
        )
    if not any(run.record.head == "majority" for run in context.runs):
        yield Gap(
            "What the majority baseline reaches",
            "The head majority was not run, so the leaderboard lacks the score of "
            "always predicting the largest class.",
            _train(context, "-H", "majority"),
        )
    regions = {block.region for block in blocks}
    if OUTSIDE not in regions and context.images.get(MASK, pd.Series("")).any():
        block = context.best.record.features[0]
        store = Path(block.store).stem if block.store else block.backbone
        file = context.best.record.network_file
        network = network_words(
            block.backbone, block.weights, context.extracts, file=file
        )
        network += network_options(block, block.weights)
        region = ["--region", OUTSIDE]
        yield Gap(
            f"Whether the best run needs {_region(context)}",
            "There are masks, but no run on images in which the masked region is "
            "blacked out.",
            f"{_command(context, 'extract', *network, *region)} && "
            f"{_train(context, '-b', store, *region)}",
        )


def _test(context: ReportContext) -> Iterator[Gap]:
    rows = context.board.rows
    if context.board.part == TEST and len(rows) > 1:
        yield Gap(
            "An untouched test set",
            f"The winner of {len(rows)} runs was selected on its test scores, so its "
            "score is optimistic.",
            _command(context, "compare", "--on", "train", "--html"),
        )
    if not has_test(context.evaluated):
        winner = f"The winner of {len(rows)} runs" if len(rows) > 1 else "The run"
        yield Gap(
            "A test set",
            f"There is none. {winner} was selected on these same scores, so its score "
            "is optimistic.",
            _command(context, "train-head", "--test-size", "0.2"),
        )
        return
    low, high = rows[0].test_accuracy_low, rows[0].test_accuracy_high
    if low is not None and high is not None and high - low > _WIDE:
        yield Gap(
            "How accurate the best run is, to within 10 points",
            f"The test set has {rows[0].n_test} images: the 95 % interval of the "
            f"accuracy is {100 * (high - low):.0f} points wide.",
        )


def _elsewhere(context: ReportContext) -> Iterator[Gap]:
    kept, _ = read_validations(context.reports)
    own = [one.result for one in kept if one.run_id == context.best.run_id]
    if not any(one.is_external for one in own):
        but = ", but only on images of its own dataset" if own else ""
        yield Gap(
            "Images from elsewhere",
            f"The best run was not validated on an external dataset{but}. Most models "
            "lose accuracy at another hospital.",
            _command(context, "validate", context.best.short_id, "SOURCE"),
        )


def _repeats(context: ReportContext) -> Iterator[Gap]:
    if context.board.rows[0].repeats <= 1:
        yield Gap(
            "Another random draw of the "
            + ("test set" if context.board.part == TEST else "folds"),
            f"All scores come from one split ({context.board.split}); another draw "
            "changes them, and may reorder runs that are close.",
            _command(context, "train-head", "--seed", "1")
            if context.board.part == TEST
            else _train(context, "--repeats", "3"),
        )


def _few_groups(context: ReportContext) -> Iterator[Gap]:
    evaluated = context.evaluated
    if context.board.part == TEST:
        evaluated = evaluated[evaluated["split"] == TEST]
    counts = evaluated.groupby("label")["group"].nunique()
    counts = counts.reindex(context.best.classes, fill_value=0)
    few = counts[counts < _FEW_GROUPS]
    if len(few):
        counted = ", ".join(f"{name} ({n})" for name, n in few.items())
        yield Gap(
            "How well the small classes are recognised",
            f"Fewer than {_FEW_GROUPS} groups in: {counted}. Their sensitivity is "
            "imprecise.",
        )


def _several_classes(context: ReportContext) -> Iterator[Gap]:
    mixed = int((context.evaluated.groupby("group")["label"].nunique() > 1).sum())
    if mixed:
        yield Gap(
            "Which labels are right in groups with several",
            f"{mixed} groups contain images of more than one class. It was not checked "
            "whether the patient's condition changed or a label is wrong.",
        )


def _audit(context: ReportContext) -> Iterator[Gap]:
    if not (context.reports / AUDIT).is_file():
        yield Gap(
            "Shortcuts in the images",
            "The images were not audited for text markers, borders and devices; a run "
            f"may use these instead of {_region(context)}.",
            _command(context, "audit"),
        )


def _looking(context: ReportContext) -> Iterator[Gap]:
    # An ensemble has no maps of its own.
    names = context.best.record.members or [context.best.run_id]
    table = evaluated_rows(context.best)
    is_alone = not context.best.record.members
    has_errors = is_alone and bool(surest_errors(table, context.best.classes, 12))
    is_drawn = any((context.reports / FOLDER / name).is_dir() for name in names)
    if not is_drawn and not context.best.record.is_baseline:
        yield Gap(
            "Where the best run looks",
            "No heat maps of it were drawn, so it is unknown whether it looks at "
            f"{_region(context)}.",
            _command(context, "explain", names[0], *("--errors", "12") * has_errors),
        )


def _weights(context: ReportContext) -> Iterator[Gap]:
    names = {
        block.backbone
        for run in context.runs
        for block in run.record.features
        if block.weights == "random"
    }
    if names:
        yield Gap(
            "Pretrained weights",
            f"These networks have random weights: {', '.join(sorted(names))}. This "
            "page does not show what they reach with pretrained weights.",
            _command(
                context, "extract", *(w for n in sorted(names) for w in ("-b", n))
            ),
        )


def _canaries(context: ReportContext) -> Iterator[Gap]:
    names = {name for run in context.runs for name in unproven(run.record)}
    if names:
        yield Gap(
            "Whether networks are shown images as in training",
            f"These networks come from files without a canary: "
            f"{', '.join(sorted(names))}. A wrong scaling, order of channels or "
            "resizing would lower their scores without an error.",
            'Put a "canary" into the JSON beside each file: see the page '
            "“Descriptors and canaries” of the documentation.",
        )


def _int8(context: ReportContext) -> Iterator[Gap]:
    for name, one in context.stores.items():
        if one.header.contract.precision != "int8":
            continue
        drift = one.header.notes.get("drift", {})
        drift_text = ", ".join(f"{k} {v:.4g}" for k, v in drift.items())
        header = one.header
        words = network_words(
            header.contract.backbone, header.weights, context.extracts
        )
        words += network_options(
            replace(header.contract, precision=None), header.weights
        )
        yield Gap(
            "int8 against float32",
            f"{name} was computed with int8. Its features were compared with float32 "
            f"on a few images ({drift_text or 'no figures'}), its accuracy was not.",
            _command(context, "extract", *words),
        )


def _versions(context: ReportContext) -> Iterator[Gap]:
    seen: dict[str, set[str]] = {}
    for run in context.runs:
        for name, version in run.record.versions.items():
            seen.setdefault(name, set()).add(str(version))
    mixed = {name: sorted(v) for name, v in seen.items() if len(v) > 1}
    if mixed:
        versions = "; ".join(f"{name} {' and '.join(v)}" for name, v in mixed.items())
        yield Gap(
            "Whether library versions change the scores",
            f"The runs were made with different library versions: {versions}.",
            _train(context, "--force"),
        )


def _unavailable(context: ReportContext) -> Iterator[Gap]:
    for line in context.missing:
        yield Gap("What could not be opened", f"Not available: {line}.")


_CHECKS: tuple[Callable[[ReportContext], Iterator[Gap]], ...] = (
    *(_groups, _sources, _baselines, _test, _elsewhere, _repeats, _few_groups),
    *(_several_classes, _audit, _looking, _weights, _canaries, _int8),
    *(_versions, _unavailable),
)
