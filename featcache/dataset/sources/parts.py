"""A split that a source brings: folders or a column named train, val and test."""

from collections.abc import Sequence
from dataclasses import replace

from featcache.core.text import some
from featcache.dataset.manifest import FOLDER, PART, PARTS
from featcache.dataset.sources.base import Listing, Tree, name_of
from featcache.dataset.sources.folders import holds_images, image_folders
from featcache.errors import DatasetError

_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_WAY_OUT = "`split_by={}` keeps this split, `pool=True` joins its parts"


def part_of(name: str) -> str:
    """The part that a name says: train, val or test; or empty."""
    return _NAMES.get(name.strip().lower(), "")


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


def refuse_parts(tree: Tree, parts: Sequence[str]) -> None:
    """Refuses to take the parts of a split for classes.

    Raises:
        DatasetError: Names the parts, the classes and the way out.
    """
    below = {name_of(inner) for part in parts for inner in _subfolders(tree, part)}
    raise DatasetError(
        f"one folder per class in {tree.root}",
        f"the parts of a split ({', '.join(map(name_of, parts))}) with the folders "
        f"{some(sorted(below))} in them",
        f"{_WAY_OUT.format(repr(FOLDER))}.",
    )


def same_subfolders(tree: Tree, folders: Sequence[str]) -> list[str]:
    """A warning if all classes hold the same folders, which may be the classes."""
    below = [{name_of(inner) for inner in _subfolders(tree, f)} for f in folders]
    if len(below) < 2 or len(below[0]) < 2 or any(one != below[0] for one in below):
        return []
    if len({*map(part_of, below[0])} - {""}) > 1:
        return []
    return [
        f"each class folder ({some([name_of(f) for f in folders])}) contains the same "
        f"folders ({some(sorted(below[0]))}); if those are the classes, list the "
        "images in a CSV with path,label"
    ]


def _subfolders(tree: Tree, folder: str) -> list[str]:
    inner = [f for f in image_folders(tree, folder) if name_of(f) != "images"]
    return [f for f in inner if holds_images(tree, f)]


def assign_parts(
    listing: Listing, at: str, *, split_by: str | None, pool: bool
) -> Listing:
    """Adds the part of each image as the column ``split``, where that is asked for.

    Args:
        listing: The files of a source.
        at: The folder in which its class folders or its table are.
        split_by: "folder", the first folder of each path that is called train, val or
            test; a column with these; or None.
        pool: A split that the source brings is not meant to be kept.

    Raises:
        DatasetError: There is no such column or folder, an image is in no part, there
            is nothing but train, or nothing to pool.
    """
    table, before = listing.table, f"{at}/" if at else ""
    by_path = [_part_in(path.removeprefix(before)) for path in table["path"]]
    if split_by in table.columns:
        parts = [part_of(value) for value in table[split_by]]
    elif split_by in (None, FOLDER):
        parts = by_path
    else:
        raise DatasetError(
            f"`split_by` with {FOLDER} or a column: {', '.join(table.columns)}",
            repr(split_by),
            "Choose one of them.",
        )
    if split_by:
        _check_parts(table["path"].tolist(), parts, split_by)
        if PART in table.columns and split_by != PART:
            table = table.rename(columns={PART: f"given_{PART}"})
        return replace(listing, table=table.assign(**{PART: parts}))
    brought = [FOLDER] * (len({*by_path} - {""}) > 1)
    values = table.get(PART, table["path"].str[:0])
    brought += [PART] * (len({*map(part_of, values)} - {""}) > 1)
    if pool and not brought:
        raise DatasetError(
            "parts of a split to join for `pool=True`",
            f"no folders and no column {PART} with train, val or test",
            "Leave it out.",
        )
    if pool or not brought:
        return listing
    where = "the folders" if brought[0] == FOLDER else f"column {PART}"
    warning = (
        f"{where} name the parts of a split, which is not used: "
        f"{_WAY_OUT.format(repr(brought[0]))} without this warning"
    )
    return replace(listing, warnings=[*listing.warnings, warning])


def _part_in(path: str) -> str:
    return next(filter(None, map(part_of, path.split("/")[:-1])), "")


def _check_parts(paths: list[str], parts: list[str], split_by: str) -> None:
    without = [path for path, part in zip(paths, parts, strict=True) if not part]
    if without:
        raise DatasetError(
            f"train, val or test for every image, for `split_by={split_by!r}`",
            f"none for {len(without)} of {len(paths)}: {some(without, 3)}",
            "Correct them, choose another column, or draw a split with "
            "`split_by='none'`.",
        )
    if {*parts} == {PARTS[0]}:
        raise DatasetError(
            f"a part test or val for `split_by={split_by!r}`",
            "train alone",
            "Draw a split with `split_by='none'`.",
        )
