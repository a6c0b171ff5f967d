"""What was not checked: computed from the records, so that no reader has to guess."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pandas as pd

from featcache.backbones import BASELINES
from featcache.commands.audit import FILE as AUDIT
from featcache.dataset.regions import MASK, OUTSIDE
from featcache.evaluation.runs import TEST
from featcache.report.html.context import Material, source_columns
from featcache.report.html.dataset_section import has_test
from featcache.report.html.explain_section import FOLDER

_FEW_GROUPS = 30
_MANY_IMAGES = 20
_WIDE = 0.1


@dataclass(frozen=True)
class Gap:
    """Something that the figures do not answer.

    Attributes:
        title: The gap in a few words.
        text: Why it matters here, with this dataset's numbers.
        way_out: What would close it; may be empty.
    """

    title: str
    text: str
    way_out: str = ""


def gaps(material: Material) -> list[Gap]:
    """All gaps that the records show, the gravest first."""
    return [gap for check in _CHECKS for gap in check(material)]


def _groups(material: Material) -> Iterator[Gap]:
    by = material.best.record.split.group_by
    if by == "image":
        yield Gap(
            "Patients were not kept together",
            "Each image is a group of its own, so pictures of one patient may stand "
            "on both sides of the split; the figures are then too high.",
            "featcache scan SOURCE --group-by COLUMN",
        )
    elif by == "near-duplicate":
        yield Gap(
            "Patients are not known",
            "Only pictures that look the same were kept together; two different "
            "pictures of one patient may stand on both sides of the split.",
            "featcache scan SOURCE --group-by COLUMN",
        )


def _sources(material: Material) -> Iterator[Gap]:
    images = material.images
    if material.manifest is None:
        return
    columns = source_columns(images)
    if not set(columns) - {"mode"}:
        yield Gap(
            "Where the images come from is not known",
            "The source has no column such as hospital, projection or sex, so a "
            "class that comes from a place of its own cannot be seen.",
            "Give a CSV with such columns.",
        )
    for name, values in columns.items():
        counts = pd.crosstab(values, images["label"])
        alone = counts[
            (counts > 0).sum(axis=1).eq(1) & counts.sum(axis=1).ge(_MANY_IMAGES)
        ]
        if len(alone):
            told = ", ".join(
                f"{v} ({int(n)} images)" for v, n in alone.sum(axis=1).items()
            )
            yield Gap(
                f"Whether {name} gives the class away",
                f"These values of {name} hold one class alone: {told}. A head may "
                "know the value and not the disease.",
                "Balance it, or leave these images out.",
            )


def _baselines(material: Material) -> Iterator[Gap]:
    shown = [block for run in material.runs for block in run.record.features]
    names = {block.backbone for block in shown if not block.region}
    lacking = [name for name in BASELINES if name not in names]
    if lacking:
        yield Gap(
            "How far one gets without a network",
            f"No run on {', '.join(lacking)}: size, brightness and borders alone may "
            "reach much of the best figure.",
            "featcache extract -b baselines && featcache train-head -b baselines",
        )
    if not any(run.record.head == "majority" for run in material.runs):
        yield Gap(
            "The floor",
            "The head majority was not run: how high one gets by always naming the "
            "largest class is not on the leaderboard.",
            "featcache train-head -H majority",
        )
    regions = {block.region for block in shown}
    if OUTSIDE not in regions and material.images.get(MASK, pd.Series("")).any():
        best = material.best.record.features[0].backbone
        yield Gap(
            "Whether it needs what the masks show",
            "There are masks, and no run on pictures in which that region is black.",
            f"featcache extract --region outside -b {best} && "
            f"featcache train-head --region outside -b {best}",
        )


def _test(material: Material) -> Iterator[Gap]:
    rows = material.board.rows
    if material.board.part == TEST and len(rows) > 1:
        yield Gap(
            "A test part that nothing was chosen by",
            f"The best of {len(rows)} runs was chosen by the figures of the test "
            "part, which are therefore a little too high.",
            "featcache compare --on train --html",
        )
    if not has_test(material.judged):
        chosen = f"The best of {len(rows)} runs was" if len(rows) > 1 else "The run was"
        yield Gap(
            "A test part",
            f"There is none. {chosen} chosen on the very figures that it is shown "
            "with, which are therefore a little too high.",
            "featcache train-head --test-size 0.2",
        )
        return
    low, high = rows[0].test_accuracy_low, rows[0].test_accuracy_high
    if low is not None and high is not None and high - low > _WIDE:
        yield Gap(
            "The test part is small",
            f"{rows[0].n_test} images: its interval is "
            f"{100 * (high - low):.0f} points wide.",
        )


def _repeats(material: Material) -> Iterator[Gap]:
    if material.board.rows[0].repeats <= 1:
        yield Gap(
            "Another draw of the "
            + ("test part" if material.board.part == TEST else "folds"),
            f"All figures rest on one split ({material.board.split}); another draw "
            "moves them, and may change the order of runs that are close.",
            "featcache train-head "
            + ("--seed 1" if material.board.part == TEST else "--repeats 3"),
        )


def _few_groups(material: Material) -> Iterator[Gap]:
    judged = material.judged
    if material.board.part == TEST:
        judged = judged[judged["split"] == TEST]
    counts = judged.groupby("label")["group"].nunique()
    counts = counts.reindex(material.best.classes, fill_value=0)
    few = counts[counts < _FEW_GROUPS]
    if len(few):
        told = ", ".join(f"{name} ({n})" for name, n in few.items())
        yield Gap(
            "Classes with few groups",
            f"Fewer than {_FEW_GROUPS} groups in: {told}. Their sensitivity is known "
            "only roughly.",
        )


def _several_classes(material: Material) -> Iterator[Gap]:
    mixed = int((material.judged.groupby("group")["label"].nunique() > 1).sum())
    if mixed:
        yield Gap(
            "Labels of groups in several classes",
            f"{mixed} groups hold images of more than one class. Nobody looked "
            "whether the patient changed or a label is wrong.",
        )


def _content(material: Material) -> Iterator[Gap]:
    if not (material.reports / AUDIT).is_file():
        yield Gap(
            "What in the images decides",
            "Text markers, borders and devices were not searched for; a run may "
            "read these and not the lungs.",
            f"featcache audit --dataset {material.board.dataset}",
        )
    # An ensemble has no maps of its own.
    names = material.best.record.members or [material.best.run_id]
    if not any((material.reports / FOLDER / name).is_dir() for name in names):
        yield Gap(
            "Where the best run looks",
            "No heatmap of it was drawn, so nobody saw whether it looks at the lungs.",
            f"featcache explain {names[0]} --errors 12",
        )


def _weights(material: Material) -> Iterator[Gap]:
    names = {
        block.backbone
        for run in material.runs
        for block in run.record.features
        if block.weights == "random"
    }
    if names:
        yield Gap(
            "Pretrained weights",
            f"Random weights stand in for: {', '.join(sorted(names))}. What these "
            "networks can do with their own weights is not known from this page.",
            "featcache extract -b NAME --weights imagenet",
        )


def _int8(material: Material) -> Iterator[Gap]:
    for name, one in material.stores.items():
        if one.header.contract.precision != "int8":
            continue
        drift = one.header.notes.get("drift", {})
        told = ", ".join(f"{k} {v:.4g}" for k, v in drift.items())
        yield Gap(
            "int8 against float32",
            f"{name} was computed with int8. Its features were compared with float32 "
            f"on a few images ({told or 'no figures'}); the accuracy was not.",
            "featcache extract -b NAME --precision float32",
        )


def _versions(material: Material) -> Iterator[Gap]:
    seen: dict[str, set[str]] = {}
    for run in material.runs:
        for name, version in run.record.versions.items():
            seen.setdefault(name, set()).add(str(version))
    mixed = {name: sorted(v) for name, v in seen.items() if len(v) > 1}
    if mixed:
        told = "; ".join(f"{name} {' and '.join(v)}" for name, v in mixed.items())
        yield Gap(
            "Whether versions change the figures",
            f"The runs were made with different libraries: {told}.",
            "featcache train-head --force",
        )


def _left_out(material: Material) -> Iterator[Gap]:
    for line in material.lacking:
        yield Gap("What could not be opened", f"Not at hand: {line}.")


_CHECKS: tuple[Callable[[Material], Iterator[Gap]], ...] = (
    *(_groups, _sources, _baselines, _test, _repeats, _few_groups, _several_classes),
    *(_content, _weights, _int8, _versions, _left_out),
)
