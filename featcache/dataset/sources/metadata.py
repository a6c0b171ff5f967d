"""The tables beside images: ``metadata.csv``, ``.jsonl`` or ``.parquet``."""

from collections.abc import Sequence

from featcache.dataset.own_split import part_of
from featcache.dataset.sources.base import TableFile, Tree, name_of
from featcache.dataset.sources.folders import holds_images, image_folders

_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


def metadata_in(tree: Tree, at: str) -> TableFile | None:
    """The table in a folder, if there is one."""
    files = (TableFile(at, name) for name in _NAMES)
    return next((file for file in files if tree.has(file.path)), None)


def tables_of(
    tree: Tree, at: str, classes: Sequence[str], parts: Sequence[str]
) -> list[TableFile]:
    """The tables that say what the images are; none beside classes.

    Args:
        tree: The files.
        at: The folder of the source.
        classes: Its folders with images.
        parts: Those of them that are parts of a split with classes below.

    Returns:
        The table of the folder; or else those of the parts of a split, as Hugging Face
        keeps them.
    """
    are_parts = all(part_of(name_of(folder)) for folder in classes)
    below = [f for p in parts for f in image_folders(tree, p) if holds_images(tree, f)]
    if len(classes) > 1 and (not are_parts or len(below) > len(parts)):
        return []
    if file := metadata_in(tree, at):
        return [file]
    files = [metadata_in(tree, folder) for folder in classes]
    return [file for file in files if file] if are_parts else []
