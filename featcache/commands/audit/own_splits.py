"""Splits that a source brings, whether or not a run keeps them."""

from collections.abc import Iterator

import pandas as pd

from featcache.commands.audit.base import Row
from featcache.commands.audit.context import AuditContext
from featcache.core.text import counted, some
from featcache.dataset.manifest import COLUMNS, DUPLICATE, OK, UNREADABLE
from featcache.dataset.own_split import FOLDER, PART, PARTS, is_split, part_of

BETWEEN = " and "  # parts in words


def own_splits(context: AuditContext) -> dict[str, pd.Series]:
    """The part of each readable file, by the name of the split; empty for none.

    The column ``split``, those that runs or the scan kept, ``COLUMN=VALUE`` of
    ``test_where``, and columns whose values are parts, such as train and test. Of
    columns that say the same only the first.
    """
    table = context.manifest.table
    table = table[table["status"] != UNREADABLE]
    by_name: dict[str, pd.Series] = {}
    for name in dict.fromkeys([PART, *_kept(context), *_alike(table)]):
        column, _, value = name.partition("=")
        if column not in table:
            continue
        values = table[column].astype(str).str.strip()
        if value:
            parts = (values == value).map({True: PARTS[2], False: PARTS[0]})
        else:
            parts = values.map(lambda text: part_of(text) or text)
        if not any(parts.equals(other) for other in by_name.values()):
            by_name[name] = parts
    return by_name


def _kept(context: AuditContext) -> Iterator[str]:
    """Splits that the scan or a run kept."""
    kept = [run.record.split.split_by for run in context.every_run]
    for name in (context.manifest.settings.split_by, *kept):
        if name and name != FOLDER:
            yield name


def _alike(table: pd.DataFrame) -> Iterator[str]:
    """Columns that say of each image, or of most, that it is in train, val or test."""
    for name in table.columns.difference([*COLUMNS], sort=False):
        if is_split(name, table[name].astype(str)):
            yield str(name)


def in_words(name: str) -> str:
    """What a split is called in a sentence."""
    return "the source's split" if name == PART else f"the split by {name}"


def parts_of(parts: pd.Series, by: pd.Series) -> pd.Series:
    """For each row, all parts that rows of the same image or group are in, in words."""
    pairs = pd.DataFrame({"by": by, "part": parts}).drop_duplicates()
    pairs = pairs[pairs["part"] != ""]
    several = pairs["by"].duplicated(keep=False)
    joined = pairs[several].sort_values("part").groupby("by")["part"]
    of_one = pairs[~several].set_index("by")["part"]
    return by.map(pd.concat([of_one, joined.agg(BETWEEN.join)])).fillna("")


def crossing_copies(copies: pd.DataFrame, name: str, parts: pd.Series) -> str:
    """A sentence on images with copies in several parts; empty without any.

    Args:
        copies: Files of the manifest that are copies of others.
        name: Of the split.
        parts: All parts of each copy's image, in words.
    """
    across = copies[parts.str.contains(BETWEEN)]
    if across.empty:
        return ""
    pairs = [f"{row.path} ({row.reason})" for row in across.itertuples()]
    return (
        f" {counted(across['image_id'].nunique(), 'image')} stood on both sides of "
        f"{in_words(name)}, such as {some(pairs, 3)}."
    )


def crossing_groups(context: AuditContext) -> tuple[str, list[Row]]:
    """Groups with different images in several parts: in sentences, and a row each."""
    text, rows = "", []
    table = context.manifest.table
    for name, parts in own_splits(context).items():
        images = table.loc[parts.index].assign(part=parts)
        images = images[images["status"] == OK]
        images["parts"] = parts_of(images["part"], images["group"])
        across = images[images["parts"].str.contains(BETWEEN)]
        groups = [
            {
                "split": name,
                "group": str(group),
                "parts": of["parts"].iloc[0].split(BETWEEN),
                "images": len(of),
                "paths": of["path"].head(6).tolist(),
            }
            for group, of in across.groupby("group", sort=False)
        ]
        rows += groups
        if groups:
            by = context.manifest.settings.group_by
            have = counted(len(groups), "group has", "groups have")
            names = some([str(row["group"])[:40] for row in groups], 3)
            text += (
                f" {have} images on both sides of {in_words(name)} (groups by {by}), "
                f"such as {names}; training that keeps it leaves them out."
            )
    return text, rows


def sorted_copies(context: AuditContext) -> tuple[pd.DataFrame, str]:
    """Files that are copies of others, those in several parts first, and sentences.

    Returns:
        Columns path, label, reason, and ``parts`` where there is a split; and what
        stands in several parts, in words.
    """
    table = context.manifest.table
    is_copy = table["status"] == DUPLICATE
    copies, text = table[is_copy], ""
    lines: list[pd.Series] = []
    for name, parts in own_splits(context).items():
        of_image = parts_of(parts, table.loc[parts.index, "image_id"])[is_copy]
        text += crossing_copies(copies, name, of_image)
        lines.append(of_image if name == PART else of_image.radd(f"{name}: "))
    columns = ["path", "label", "reason"]
    if lines and len(copies):
        joined = pd.concat(lines, axis=1).agg("; ".join, axis=1)
        order = (~joined.str.contains(BETWEEN)).sort_values(kind="stable").index
        copies = copies.assign(parts=joined).loc[order]
        columns.append("parts")
    return copies[columns], text
