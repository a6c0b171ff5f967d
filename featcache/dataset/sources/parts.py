"""A split that a source brings: folders or a column named train, val and test."""

import re
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from featcache.core.text import some
from featcache.dataset.own_split import FOLDER, PART, PARTS, check_parts, part_of
from featcache.dataset.sources.base import Listing, Tree, name_of
from featcache.dataset.sources.folders import holds_images, image_folders
from featcache.errors import DatasetError


def part_folders(tree: Tree, folders: Sequence[str]) -> list[str]:
    """The folders that are parts of a split with classes below, train first.

    Args:
        tree: The files.
        folders: Those that would be classes.

    Returns:
        Two or more; or none.
    """
    parts = [f for f in folders if part_of(name_of(f)) and _subfolders(tree, f)]
    parts.sort(key=lambda folder: PARTS.index(part_of(name_of(folder))))
    return parts if len(parts) > 1 else []


def outer_folders(tree: Tree, folders: Sequence[str]) -> list[str]:
    """The folders that all hold folders of images, if these may be the classes.

    Returns:
        All of ``folders``; or none where one has no such folder, or where the inner
        ones are the parts of a split.
    """
    below = [{name_of(inner) for inner in _subfolders(tree, f)} for f in folders]
    inner = set().union(*below)
    parts = {*map(part_of, inner)} - {""}
    return [*folders] if len(folders) > 1 and all(below) and not parts else []


def uneven(tree: Tree, outer: Sequence[str]) -> list[str]:
    """A line on classes that only some of the outer folders have."""
    below = {name_of(f): {*map(name_of, _subfolders(tree, f))} for f in outer}
    classes = sorted(set().union(*below.values()))
    lacks = [
        f"{name} has no {some(missing)}"
        for name, inner in below.items()
        if (missing := [label for label in classes if label not in inner])
    ]
    text = "the folders in the parts of the split differ: "
    return [f"{text}{'; '.join(lacks)}"] if lacks else []


def same_subfolders(tree: Tree, folders: Sequence[str]) -> list[str]:
    """A warning if all classes hold the same folders, which may be the classes."""
    below = [{name_of(inner) for inner in _subfolders(tree, f)} for f in folders]
    if len(below) < 2 or len(below[0]) < 2 or any(one != below[0] for one in below):
        return []
    if len({*map(part_of, below[0])} - {""}) > 1:
        return []
    return [
        f"each class folder ({some([name_of(f) for f in folders])}) contains the same "
        f"folders ({some(sorted(below[0]))}); if those are the classes, `pool=True` "
        f"takes them, and the outer folders become the column {PART}"
    ]


def _subfolders(tree: Tree, folder: str) -> list[str]:
    inner = [f for f in image_folders(tree, folder) if name_of(f) != "images"]
    return [f for f in inner if holds_images(tree, f)]


def assign_parts(
    listing: Listing,
    at: str,
    *,
    split_by: str | None,
    pool: bool,
    outer: Sequence[str] = (),
) -> Listing:
    """Adds the part of each image as the column ``split``, where there are parts.

    Args:
        listing: The files of a source.
        at: The folder in which its class folders or its table are.
        split_by: "folder", the first folder of each path that is called train, val or
            test; a column with these; or None.
        pool: A split that the source brings is not meant to be kept.
        outer: The folders around those of the classes, if there are any.

    Raises:
        DatasetError: There is no such column or folder, an image is in no part, there
            is nothing but train, or nothing to pool.
    """
    table, before = listing.table, f"{at}/" if at else ""
    inside = table["path"].str.removeprefix(before)
    by_path = inside.map(_part_in)
    named = inside.str.partition("/")[0] if outer else by_path
    if split_by and split_by not in (*table.columns, FOLDER):
        raise DatasetError(
            f"`split_by` with {FOLDER} or a column: {', '.join(table.columns)}",
            repr(split_by),
            "Choose one of them.",
        )
    if split_by:
        values = table[split_by] if split_by in table.columns else named
        parts = values.map(part_of) if split_by in table.columns else by_path
        check_parts([*table["path"]], [*values], [*parts], split_by)
        if PART in table.columns and split_by != PART:
            table = table.rename(columns={PART: f"given_{PART}"})
        return replace(listing, table=table.assign(**{PART: parts}))
    is_split = {FOLDER: len({*by_path} - {""}) > 1}
    values = table.get(PART, inside.str[:0])
    is_split[PART] = len({*values.map(part_of)} - {""}) > 1
    brought = [name for name, has_parts in is_split.items() if has_parts]
    if PART not in table.columns and (outer or is_split[FOLDER]):
        parts = by_path if is_split[FOLDER] else named
        listing = replace(listing, table=table.assign(**{PART: parts}))
    if pool and not (brought or outer):
        raise DatasetError(
            "parts of a split to join for `pool=True`",
            f"no folders and no column {PART} with train, val or test",
            "Leave it out.",
        )
    if pool or not brought:
        return listing
    return replace(listing, warnings=[*listing.warnings, _notice(listing, brought[0])])


def with_parts(table: pd.DataFrame, files: Sequence[str]) -> pd.DataFrame:
    """Adds the column ``split`` where files of several parts hold the images.

    Args:
        table: Of the images.
        files: The file of each, such as ``data/train-00000-of-00003.parquet``.
    """
    parts = {file: _part_of_file(file) for file in {*files}}
    if len({*parts.values()} - {""}) < 2 or PART in table.columns:
        return table
    return table.assign(**{PART: [parts[file] for file in files]})


def _part_of_file(path: str) -> str:
    words = re.split(r"[\W_\d]+", name_of(path))
    return _part_in(path) or next(filter(None, map(part_of, words)), "")


def _notice(listing: Listing, by: str) -> str:
    """The line that says which split the source brings, and what becomes of it."""
    counts = listing.table[PART].map(part_of).value_counts()
    parts = ", ".join(f"{part} {counts[part]}" for part in PARTS if part in counts)
    where = f"the folders are the parts of a split, now column {PART}"
    if by == PART:
        where = f"column {PART} names the parts of a split"
    return (
        f"{where} ({parts} images). It is not used: keep it with `split_by={by!r}`, "
        "here or in training, or join the parts with `pool=True`, without this warning"
    )


def _part_in(path: str) -> str:
    return next(filter(None, map(part_of, path.split("/")[:-1])), "")
