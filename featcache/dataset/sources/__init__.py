"""Sources: which files a folder, a zip or a CSV names, before any is opened."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from featcache.dataset.sources.base import SUFFIXES, Listing
from featcache.dataset.sources.folders import holds_images, image_folders, list_classes
from featcache.dataset.sources.masks import Masks, find_masks
from featcache.dataset.sources.reading import is_zip, read_bytes, read_scanned
from featcache.dataset.sources.tables import list_table
from featcache.dataset.sources.trees import Archive, Folder
from featcache.errors import DatasetError

__all__ = [
    "SUFFIXES",
    "Listing",
    "Masks",
    "find_masks",
    "is_zip",
    "list_source",
    "read_bytes",
    "read_scanned",
]
_TABLE = "metadata.csv"


def list_source(source: Path, *, per_class: int | None = None) -> Listing:
    """Lists the images of a folder-per-class, of a zip, or of a CSV.

    Args:
        source: A folder with one sub-folder a class; a zip of one, or of images and
            a metadata.csv; or a CSV with path and label.
        per_class: Keep only the first so many of each class in natural order.

    Raises:
        DatasetError: The source is missing, empty, broken, or not of these forms.
    """
    if not source.exists():
        raise DatasetError(
            "a folder with one sub-folder per class, a zip of one, or a CSV",
            f"no such path: {source}",
            "Check the path.",
        )
    try:
        listing = _list(source)
    except OSError as error:
        raise DatasetError(
            f"a readable source in {source}",
            f"{error.strerror}: {error.filename}",
            "Make it readable, or download it again.",
        ) from error
    labels = listing.table["label"].unique()
    if len(labels) < 2:
        raise DatasetError(
            f"at least two classes in {source}",
            f"one: {labels[0]}",
            "Give the folder that contains one sub-folder per class, or a CSV that "
            "lists all classes.",
        )
    return _first_of_each(listing, per_class) if per_class else listing


def _list(source: Path) -> Listing:
    if source.is_dir():
        return list_classes(Folder(source))
    if not is_zip(source):
        return list_table(Folder(source.parent), "", source.name)
    tree = Archive(source)
    at = _top(tree)
    classes = [f for f in image_folders(tree, at) if holds_images(tree, f)]
    if len(classes) < 2 and tree.has(f"{at}/{_TABLE}" if at else _TABLE):
        return list_table(tree, at, _TABLE)
    return list_classes(tree, at)


def _top(tree: Archive) -> str:
    """The one folder in which most programs pack everything, if there is one."""
    folders = image_folders(tree, "")
    if len(folders) != 1:
        return ""
    inner = tree.folders(folders[0]) or tree.has(f"{folders[0]}/{_TABLE}")
    return folders[0] if inner else ""


def _first_of_each(listing: Listing, per_class: int) -> Listing:
    counts = Counter(listing.table["label"])
    fewer = [
        f"class {label} has {counts[label]} images, fewer than `per_class={per_class}`"
        for label in sorted(counts)
        if counts[label] < per_class
    ]
    table = listing.table.groupby("label", sort=False).head(per_class)
    return replace(
        listing,
        table=table.reset_index(drop=True),
        warnings=listing.warnings + fewer,
    )
