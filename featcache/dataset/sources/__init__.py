"""Sources: which images a folder, a table or an archive names, before any is opened."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from featcache.core.text import counted, some
from featcache.dataset.own_split import PART
from featcache.dataset.sources.base import SUFFIXES, Listing, TableFile, Tree, name_of
from featcache.dataset.sources.folders import holds_images, image_folders, list_classes
from featcache.dataset.sources.masks import Masks, find_masks
from featcache.dataset.sources.metadata import metadata_in, tables_of
from featcache.dataset.sources.packs import list_packed, list_packed_tree, several
from featcache.dataset.sources.parts import (
    assign_parts,
    outer_folders,
    part_folders,
    same_subfolders,
    uneven,
)
from featcache.dataset.sources.reading import (
    is_zip,
    loaded,
    read_bytes,
    read_scanned,
    stamp,
)
from featcache.dataset.sources.tables import STRIPPED, TABLES, list_table
from featcache.dataset.sources.trees import Archive, Folder, Unlisted, open_tree
from featcache.dataset.urls import Location, Url, is_gone
from featcache.errors import DatasetError

__all__ = [
    "SUFFIXES",
    "Listing",
    "Masks",
    "find_masks",
    "is_zip",
    "list_source",
    "loaded",
    "read_bytes",
    "read_scanned",
    "stamp",
]


def list_source(
    source: Location,
    *,
    per_class: int | None = None,
    split_by: str | None = None,
    pool: bool = False,
    fewest_classes: int = 2,
) -> Listing:
    """Lists the images of a folder, of an archive, of a table, or of rows.

    Args:
        source: A folder with one sub-folder a class, or of images and a metadata.csv;
            a zip of one; a CSV, JSON lines or Parquet file with path and label; a tar,
            several in braces, or a folder of them; or a Parquet file or a folder of
            Hugging Face with rows of images. Each may be a URL.
        per_class: Keep only the first so many of each class, and of each part of a
            split that is kept, in natural order.
        split_by: Keep the split that the source brings: "folder", or a column.
        pool: Join the parts of a split that the source brings, or other folders
            around those of the classes.
        fewest_classes: How many there must be; 1 for images that are only scored.

    Raises:
        DatasetError: The source is missing, empty, broken, or not of these forms; or
            it does not bring such a split.
    """
    if is_gone(source) and not several(source):
        raise DatasetError(
            "a folder with one sub-folder per class, a zip of one, or a CSV",
            f"no such path: {source}",
            "Check the path.",
        )
    try:
        listing, at, outer = _list(source, pool=pool)
    except OSError as error:
        raise DatasetError(
            f"a readable source in {source}",
            f"{error.strerror}: {error.filename}",
            "Make it readable, or download it again.",
        ) from error
    if isinstance(source, Url) and source.stripped:
        listing.warnings.append(STRIPPED)
    labels = listing.table["label"].unique()
    if len(labels) < fewest_classes:
        raise DatasetError(
            f"at least two classes in {source}",
            f"one: {labels[0]}",
            "Give the folder that contains one sub-folder per class, or a CSV that "
            "lists all classes.",
        )
    listing = assign_parts(listing, at, split_by=split_by, pool=pool, outer=outer)
    if not per_class:
        return listing
    return _first_of_each(listing, per_class, parted=bool(split_by))


def _list(source: Location, *, pool: bool) -> tuple[Listing, str, list[str]]:
    """The images, the folder that all are in, and folders around the classes."""
    if listing := list_packed(source):
        return listing, "", []
    is_table = source.suffix.lower() in TABLES
    file = TableFile("", source.name)
    if isinstance(source, Url):
        if is_table:
            return (
                list_table(Unlisted(source.parent), file),
                "",
                [],
            )
    elif not source.is_dir() and not is_zip(source):
        return list_table(Folder(source.parent), file), "", []
    tree = open_tree(source)
    if listing := list_packed_tree(tree):
        return listing, "", []
    at = _top(tree) if isinstance(tree, Archive) else ""
    classes = [f for f in image_folders(tree, at) if holds_images(tree, f)]
    parts = part_folders(tree, classes)
    table = metadata_in(tree, at)
    if tables := tables_of(tree, at, classes, parts):
        listings = [list_table(tree, one) for one in tables]
        if tables[0].folder == at:
            return listings[0], at, []
        return _join(listings, classes, [one.folder for one in tables]), at, []
    if pool and not parts:
        parts = outer_folders(tree, classes)
    if parts:
        listing = _join([list_classes(tree, part) for part in parts], classes, parts)
        listing.warnings.extend(uneven(tree, parts))
        return listing, at, parts
    listing = list_classes(tree, at)
    listing.warnings.extend(same_subfolders(tree, classes))
    if table:
        listing.warnings.append(
            f"{table.name} is not used, because there are class folders beside it; to "
            f"use it, scan {'it unpacked' if is_zip(source) else source / table.path} "
            "and give it a dataset name of its own"
        )
    return listing, at, []


def _join(
    listings: list[Listing], folders: Sequence[str], parts: Sequence[str]
) -> Listing:
    """One listing of the parts of a split; other folders beside them are left out."""
    table = pd.concat([one.table for one in listings], ignore_index=True).fillna("")
    others = [name_of(folder) for folder in folders if folder not in parts]
    notes = [
        f"{name_of(part)}: {note}"
        for part, one in zip(parts, listings, strict=True)
        for note in one.warnings
    ]
    if others:
        notes.append(f"left out because they are no part of the split: {some(others)}")
    refused = {path: why for one in listings for path, why in one.refused.items()}
    return Listing(listings[0].root, table, notes, refused, listings[0].stamps)


def _top(tree: Tree) -> str:
    """The one folder in which most programs pack everything, if there is one."""
    folders = image_folders(tree, "")
    if len(folders) != 1 or metadata_in(tree, ""):
        return ""
    has_inner = tree.folders(folders[0]) or metadata_in(tree, folders[0])
    return folders[0] if has_inner else ""


def _first_of_each(listing: Listing, per_class: int, *, parted: bool) -> Listing:
    counts = Counter(listing.table["label"])
    fewer = [
        f"class {label} has {counted(counts[label], 'image')}, "
        f"fewer than `per_class={per_class}`"
        for label in sorted(counts)
        if counts[label] < per_class
    ]
    columns = [name for name in ("label", PART) if name == "label" or parted]
    table = listing.table.groupby(columns, sort=False).head(per_class)
    return replace(
        listing,
        table=table.reset_index(drop=True),
        warnings=listing.warnings + fewer,
    )
