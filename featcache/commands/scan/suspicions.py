"""What looks wrong in a manifest: each thing in one line, with what mends it."""

from collections.abc import Iterable, Iterator

import pandas as pd

from featcache.core.text import counted, percent, some, spelling_key
from featcache.dataset.grouping import DICOM, MISSING, NEAR_DUPLICATE
from featcache.dataset.manifest import IMAGE, Manifest
from featcache.dataset.own_split import part_of

_LARGE = 1 / 3  # of all images in one group
_FEW = 4  # images that are no large group yet


def suspicions(result: Manifest) -> list[str]:
    """Warnings about the labels, the groups and the own split of a manifest."""
    ok = result.ok
    counts = ok["label"].value_counts()
    lines = [*_labels(counts), *_several_findings(counts)]
    if result.settings.group_by != IMAGE:
        lines += _groups(ok["group"], result.settings.group_by)
    return [*lines, *_crossing(result)]


def _labels(counts: "pd.Series[int]") -> Iterator[str]:
    labels = sorted(counts.index)
    if alike := _alike(labels):
        yield (
            f"labels that differ only in their spelling are classes of their own: "
            f"{some(alike)}; write them alike in the source"
        )
    if empty := [label for label in labels if label.lower() in MISSING]:
        yield (
            f"class {some(empty)} looks like a missing label; correct the source, or "
            f"leave it out of training with `exclude='label={empty[0]}'`"
        )
    if single := [label for label in labels if counts[label] == 1]:
        yield (
            f"only one image of class {some(single)}: no split can be made; leave it "
            f"out of training with `exclude='label={single[0]}'`"
        )
    if len({*map(part_of, labels)} - {""}) > 1:
        yield (
            f"classes {some(labels)} look like the parts of a split; give the labels "
            "in a CSV with path,label,split and `split_by='split'`"
        )


def _alike(names: Iterable[str]) -> list[str]:
    """Names that only differ in their spelling, as texts such as "'A' and 'a'"."""
    spellings: dict[str, list[str]] = {}
    for name in names:
        spellings.setdefault(spelling_key(name), []).append(name)
    several = [same for same in spellings.values() if len(same) > 1]
    return [" and ".join(map(_visible, same)) for same in several]


def _visible(name: str) -> str:
    """A name in quotes; letters that may look alike are spelled out."""
    return repr(name) if name.isascii() else f"{name!r} ({ascii(name)[1:-1]})"


def _several_findings(counts: "pd.Series[int]") -> Iterator[str]:
    for mark in "|;,":
        split = {label: label.split(mark) for label in sorted(counts.index)}
        several = {k: sorted(map(str.strip, v)) for k, v in split.items() if len(v) > 1}
        shared = [part for parts in several.values() for part in parts]
        shared += [label for label in split if label not in several]
        if not several or (mark != "|" and len({*shared}) == len(shared)):
            continue
        same: dict[tuple[str, ...], list[str]] = {}
        for label, parts in several.items():
            same.setdefault(tuple(parts), []).append(label)
        twice = [" and ".join(names) for names in same.values() if len(names) > 1]
        more = f", even {some(twice, 2)}" if twice else ""
        yield (
            f"{counted(len(several), 'label holds', 'labels hold')} several findings, "
            f"joined by {mark} (such as "
            f"{next(iter(several))}): each combination is a class of its own{more}; "
            "write one finding per image into column label"
        )


def _groups(groups: "pd.Series[str]", by: str) -> Iterator[str]:
    counts = groups.value_counts()
    name, most, total = counts.index[0], int(counts.iloc[0]), len(groups)
    named = f"group {name}" if len(name) <= 40 else "one group"
    finer = "`group_by='image'` (each image alone)"
    if by.startswith(DICOM):
        finer = f"`group_by='dicom:StudyInstanceUID'` or {finer}"
    if by == NEAR_DUPLICATE:
        finer = f"`group_by` with a column or an expression, or {finer}"
    if len(counts) == 1:
        yield (
            f"all {total} images are one group (by {by}: {named}), so no split can be "
            f"made; group otherwise: {finer}"
        )
    elif most > total * _LARGE and most >= _FEW:
        yield (
            f"{named} has {most} of {total} images ({percent(most / total)}); if it is "
            f"not one patient, group otherwise: {finer}"
        )
    if by == NEAR_DUPLICATE or by.startswith(DICOM):
        return
    if alike := _alike(sorted(counts.index)):
        yield (
            f"{counted(len(alike), 'group is', 'groups are')} spelled in several ways, "
            f"each of which is a group of its own: {some(alike, 3)}; write them "
            "alike in the source"
        )


def _crossing(result: Manifest) -> Iterator[str]:
    crossing = result.crossing
    if len(crossing):
        by, images = result.settings.group_by, crossing["path"].tolist()
        names = crossing["group"].unique().tolist()
        named = "" if by in (IMAGE, NEAR_DUPLICATE) else f" ({some(names)})"
        yield (
            f"{counted(len(names), 'group')} (by {by}) in the source's test set and in "
            f"its other parts{named}: {counted(len(images), 'image')} outside the test "
            f"set left out of training: {some(images, 3)}"
        )
