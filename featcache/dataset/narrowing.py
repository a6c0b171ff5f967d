"""One evaluation's images: which are left out, how they group, which are tested on."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pandas as pd

from featcache.core.text import counted, some
from featcache.dataset.manifest import (
    DUPLICATE,
    EXCLUDED,
    IMAGE,
    OK,
    Manifest,
    Settings,
)
from featcache.dataset.own_split import (
    FOLDER,
    NO_SPLIT,
    PART,
    PARTS,
    check_parts,
    part_of,
)
from featcache.errors import DatasetError, UsageError

FILE_PART = "file_part"  # column of a narrowed table: the part a file itself is in
CROSSING = "its group is in the source's test set"
TRUE = ("1", "true", "yes")
JOIN, FOLD = "join", "fold"
VAL_PARTS = (JOIN, FOLD)
_READABLE = (OK, DUPLICATE, EXCLUDED)


def narrow(
    manifest: Manifest,
    *,
    exclude: Sequence[str] = (),
    group_by: str | None = None,
    split_by: str | None = None,
    test_where: str | None = None,
    val_part: str = JOIN,
) -> Manifest:
    """The same dataset with fewer images, other groups or another test set.

    Its rows are in the order of their image_id, so that no figure depends on the order
    in which a folder or a table lists them.
    Training images whose group is also in the source's own test set are left out.

    Args:
        manifest: The dataset as it was scanned.
        exclude: Each a column whose value is 1, true or yes in the images to leave
            out, or COLUMN=VALUE.
        group_by: A column, or "image" for every image alone; None keeps the groups.
            An image with an empty value is a group of its own.
        split_by: "folder", or the column whose values are train, val and test; "none"
            for splits that are drawn; None for what the scan says.
        test_where: COLUMN=VALUE: the images to test on, in place of a split's.
        val_part: "join" the source's val with train, or keep it as one "fold".

    Raises:
        DatasetError: No such column, no image has the value, or an image is in no
            part.
        UsageError: Arguments that exclude each other, or no val to keep.
    """
    table = manifest.table.copy()
    out = pd.Series(False, index=table.index)
    for text in exclude:
        out |= _matches(manifest, text, "exclude")
    table.loc[out & (table["status"] == OK), "status"] = EXCLUDED
    settings = manifest.settings
    if group_by not in (None, settings.group_by):
        table["group"] = _groups(manifest, str(group_by))
        settings = replace(settings, group_by=str(group_by))
    settings = _assign_parts(manifest, table, settings, split_by, test_where)
    table = table.sort_values("image_id", kind="stable", ignore_index=True)
    narrowed = replace(
        manifest,
        settings=settings,
        table=table,
        exclude=tuple(sorted({*exclude})),
        own_val=val_part == FOLD,
    )
    _check_val(narrowed, val_part)
    table.loc[narrowed.crossing.index, ["status", "reason"]] = EXCLUDED, CROSSING
    return narrowed


def _assign_parts(
    manifest: Manifest,
    table: pd.DataFrame,
    settings: Settings,
    split_by: str | None,
    test_where: str | None,
) -> Settings:
    """Writes the part of each image to the table; a content is in one part alone."""
    if split_by not in (None, NO_SPLIT) and test_where:
        hint = "Keep the source's split, or hold out one value."
        raise UsageError("`split_by` or `test_where`", "both", hint)
    by = test_where or split_by or settings.split_by
    if by in (None, NO_SPLIT):
        return replace(settings, split_by=None)
    readable = table["status"].isin(_READABLE)
    if test_where:
        _check_test_where(test_where)
        tested = _matches(manifest, test_where, "test_where")
        parts = tested.map({True: PARTS[2], False: PARTS[0]})
    else:
        if by == FOLDER and PART not in table:
            raise DatasetError(
                f"folders train, val and test in the source of {manifest.dataset}",
                "none",
                "Name a column with `split_by`, or omit it.",
            )
        values = _column(manifest, PART if by == FOLDER else str(by), "split_by")
        parts = values.map(part_of)
        rows = table["status"] == OK
        paths = table.loc[rows, "path"].tolist()
        check_parts(paths, values[rows].tolist(), parts[rows].tolist(), str(by))
    # Of copies in several parts that in test counts, else that in val.
    rank = parts[readable].map(lambda part: PARTS.index(part) if part else 0)
    highest = rank.groupby(table.loc[readable, "image_id"]).transform("max")
    table[PART] = table[FILE_PART] = parts
    table.loc[readable, PART] = highest.map(lambda index: PARTS[index])
    return replace(settings, split_by=by)


def _check_test_where(text: str) -> None:
    if "=" not in text:
        raise UsageError(
            "COLUMN=VALUE as `test_where`", repr(text), "Such as site=Hospital B."
        )


def _check_val(manifest: Manifest, val_part: str) -> None:
    if val_part == JOIN:
        return
    parts = {*manifest.ok[PART]} if manifest.settings.split_by else set()
    if not parts >= {*PARTS[1:]}:
        raise UsageError(
            "a split of the source with val and test, for `val_part='fold'`",
            " and ".join(sorted(parts)) or "a split that is drawn",
            "Omit it, or name the split with `split_by`.",
        )


def straddling(manifest: Manifest, *, brief: bool = False) -> list[str]:
    """What is on both sides of a test set that the source brings, a line each.

    Args:
        manifest: As `narrow` returns it.
        brief: Only how many, in one line: the split was drawn before.
    """
    if not (by := manifest.settings.split_by):
        return []
    table = manifest.table
    moved = table[(table[PART] != table[FILE_PART]) & table["status"].isin(_READABLE)]
    out = table[(table["status"] == EXCLUDED) & (table["reason"] == CROSSING)]
    if brief:
        return _numbers(moved, out, by)
    return [*_copies(moved, by), *_in_groups(out, manifest)]


def _numbers(moved: pd.DataFrame, out: pd.DataFrame, by: str) -> list[str]:
    texts = []
    if n := moved["image_id"].nunique():
        texts.append(f"{counted(n, 'image')} in several parts counted once")
    if n := len(out):
        texts.append(f"{counted(n, 'image')} left out of training")
    return [f"Split by {by}, as before: {', '.join(texts)}."] if texts else []


def _copies(moved: pd.DataFrame, by: str) -> Iterator[str]:
    if len(moved):
        counts = moved.groupby("image_id")[PART].first().value_counts()
        parts = " and ".join(f"{n} in {part}" for part, n in counts.items())
        yield (
            f"Split by {by}: {counted(len({*moved['image_id']}), 'image')} with "
            f"byte-identical copies in several parts counted once, {parts}. "
            f"Not used: {some([*moved['path']], 3)}."
        )


def _in_groups(out: pd.DataFrame, manifest: Manifest) -> Iterator[str]:
    if len(out):
        sides = "the test set or in val" if manifest.own_val else "the test set"
        yield (
            f"Split by {manifest.settings.split_by}: "
            f"{counted(len(out), 'image is', 'images are')} left out of "
            "training, because images of the same group (by "
            f"{manifest.settings.group_by}) are in {sides}: {some([*out['path']], 3)}."
        )


def _matches(manifest: Manifest, text: str, option: str) -> pd.Series:
    column, _, value = text.partition("=")
    values = _column(manifest, column, option)
    accepted = [value.strip()] if "=" in text else TRUE
    matches = (values if "=" in text else values.str.lower()).isin(accepted)
    present = [value or "empty" for value in sorted(values.unique())]
    if not matches[manifest.table["status"] == OK].any():
        raise DatasetError(
            f"`{option}={text!r}` matches no image: none has {' or '.join(accepted)} "
            f"in column {column}, whose values are {some(present)}",
            f"Use `{option}='{column}=VALUE'`, or omit it.",
        )
    return matches


def _groups(manifest: Manifest, group_by: str) -> pd.Series:
    alone = manifest.table["image_id"]
    if group_by == IMAGE:
        return alone
    values = _column(manifest, group_by, "group_by")
    if (values == "").all():
        raise DatasetError(
            f"the column of `group_by={group_by!r}` is empty",
            "Choose another column, or image.",
        )
    return values.where(values != "", alone)


def _column(manifest: Manifest, name: str, option: str) -> pd.Series:
    table = manifest.table
    if name not in table:
        raise DatasetError(
            f"`{option}` to name a column of the manifest: {', '.join(table.columns)}",
            repr(name),
            "Choose one of them.",
        )
    return table[name].astype(str).str.strip()
