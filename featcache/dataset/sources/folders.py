"""Folder-per-class: which images the folders of a tree name, and their masks."""

from collections import Counter
from collections.abc import Iterator

import pandas as pd

from featcache.core.text import counted
from featcache.dataset.manifest import ODD
from featcache.dataset.sources.base import (
    SUFFIXES,
    Listing,
    Tree,
    check_labels,
    is_image,
    kinds,
    name_of,
    suffix,
)
from featcache.dataset.sources.sheets import add_columns
from featcache.errors import DatasetError

_MASK_FOLDERS = ("masks", "mask")
_ODD_NAME = "a name with control characters or not in UTF-8: rename it"


def list_classes(tree: Tree, at: str = "") -> Listing:
    """Lists the images of each class folder in the folder ``at``.

    Raises:
        DatasetError: There are none.
    """
    rows: list[dict[str, str]] = []
    refused: dict[str, str] = {}
    skipped: Counter[str] = Counter()
    notes = []
    for folder in image_folders(tree, at):
        label, before = name_of(folder), len(rows)
        for path in images_under(tree, folder, skipped):
            spelled = path
            if ODD.search(path):
                spelled = ascii(path)[1:-1]
                refused[spelled] = _ODD_NAME
            mask = "" if spelled in refused else _mask_of(tree, path)
            rows.append({"path": spelled, "label": label, "mask": mask})
        if len(rows) == before:
            notes.append(f"folder {label} contains no images, so it is not a class")
    check_labels(str(tree.root), [row["label"] for row in rows])
    loose = _loose(tree, at)
    if not rows:
        raise DatasetError(
            f"images in one sub-folder per class under {tree.root}",
            _what_is_there(loose, skipped),
            "Sort the images into one sub-folder per class, or give a CSV with columns "
            f"path,label. Images end in {', '.join(sorted(SUFFIXES))}.",
        )
    if loose:
        notes.append(
            f"left out because they are not inside a class folder: "
            f"{counted(loose, 'image')}"
        )
    if skipped:
        notes.append(f"left out because they are not images: {kinds(skipped)}")
    table = pd.DataFrame(rows)
    if not table["mask"].any():
        table = table.drop(columns="mask")
    table = add_columns(tree, at, table, notes)
    return Listing(tree.root, table, notes, refused, tree.stamps)


def image_folders(tree: Tree, at: str) -> list[str]:
    """Folders that may hold images; masks do not."""
    return [p for p in tree.folders(at) if name_of(p).lower() not in _MASK_FOLDERS]


def holds_images(tree: Tree, folder: str) -> bool:
    """Whether a folder would be a class."""
    return any(images_under(tree, folder, Counter()))


def images_under(tree: Tree, folder: str, skipped: Counter[str]) -> Iterator[str]:
    """The images in a folder and below it, in natural order.

    Args:
        tree: The files.
        folder: Where; the root is ``""``.
        skipped: Other files are counted here by their kind.
    """
    # The later release of the radiography database keeps images/ and masks/ in
    # each class folder; where there is an images/, only that holds images.
    if f"{folder}/images" in tree.folders(folder):
        if loose := _loose(tree, folder):
            skipped["beside images/"] += loose
        folder = f"{folder}/images"
    for path in tree.files(folder):
        if is_image(tree, path):
            yield path
        else:
            skipped[suffix(path) or "(no suffix)"] += 1
    for inner in image_folders(tree, folder):
        yield from images_under(tree, inner, skipped)


def _mask_of(tree: Tree, path: str) -> str:
    home, _, name = path.rpartition("/")
    home = home.removesuffix("/images")
    masks = (f"{home}/{folder}/{name}" for folder in _MASK_FOLDERS)
    return next((mask for mask in masks if tree.has(mask)), "")


def _loose(tree: Tree, at: str) -> int:
    """Counts the images directly in a folder."""
    return sum(is_image(tree, path) for path in tree.files(at))


def _what_is_there(loose: int, skipped: Counter[str]) -> str:
    if loose:
        return f"{loose} images directly in the folder and none in sub-folders"
    return f"{kinds(skipped)} files" if skipped else "no files in sub-folders"
