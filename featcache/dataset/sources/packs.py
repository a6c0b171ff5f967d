"""Sources whose images stay packed: tars, and files with rows of images."""

import os
from collections.abc import Sequence
from pathlib import Path

from featcache.core.text import some
from featcache.dataset.sources import braces, remote
from featcache.dataset.sources.base import Listing, Tree, refuse
from featcache.dataset.sources.cells import PARQUET
from featcache.dataset.sources.huggingface import row_files
from featcache.dataset.sources.reading import is_zip
from featcache.dataset.sources.rows import has_images, list_rows
from featcache.dataset.sources.samples import list_shards, tars_of
from featcache.dataset.sources.shards import ENDING, check_plain, is_compressed, is_tar
from featcache.dataset.urls import Location, Url, is_gone
from featcache.errors import DatasetError


def several(source: Location) -> bool:
    """Whether a source names several files, as ``shards/{000..009}.tar``."""
    is_here = isinstance(source, Path) and os.path.exists(source)
    return braces.has_braces(str(source)) and not is_here


def list_packed(source: Location, *, labelled: bool = True) -> Listing | None:
    """Lists a tar, tars named by braces, or a Parquet file with images; else None.

    Args:
        source: The file, or the files.
        labelled: Refuse images without a label.

    Raises:
        OSError: One cannot be read.
        DatasetError: One is missing, broken, compressed, or has no images or labels.
    """
    many = several(source)
    packs = is_tar(source) or is_compressed(source) or _ending(source) == PARQUET
    is_file = isinstance(source, Url) or os.path.isfile(source)
    if not many and not (packs and is_file):
        return None
    remote.known_facts.cache_clear()  # a file at a URL may be another one by now
    root, names = _files_of(source) if many else (source.parent, [source.name])
    if _ending(source) != PARQUET:
        return _list_tars(root, names, labelled)
    if many or has_images(root, names[0]):
        return list_rows(root, names, {}, labelled=labelled)
    return None


def list_packed_tree(tree: Tree, *, labelled: bool = True) -> Listing | None:
    """Lists a folder of tars, or one of Hugging Face with rows; None of others.

    Args:
        tree: The folder.
        labelled: Refuse images without a label.

    Raises:
        OSError: A file cannot be read.
        DatasetError: One is broken, compressed, or has no images or labels.
    """
    if is_zip(tree.root):
        return None
    remote.known_facts.cache_clear()
    if tars := tars_of(tree):
        return _list_tars(tree.root, tars, labelled)
    if rows := row_files(tree):
        return list_rows(tree.root, rows.files, rows.features, labelled=labelled)
    return None


def _list_tars(root: Location, names: Sequence[str], labelled: bool) -> Listing:
    for name in names:
        if is_compressed(root / name):
            check_plain(root / name)
            raise DatasetError(
                f"a tar in {root / name}", "no compressed one", "Let it end in .tar."
            )
    return list_shards(root, names, labelled=labelled)


def _files_of(source: Location) -> tuple[Location, list[str]]:
    """The folder of files that braces name, and their paths in it."""
    text = source.as_posix() if isinstance(source, Path) else str(source)
    cut = text.rfind("/", 0, text.index("{")) + 1
    is_far = isinstance(source, Url)
    root = Url.of(text[:cut]) if is_far else Path(text[:cut])
    names = braces.expand(text[cut:])
    endings = {_ending(root / name) for name in names}
    if endings not in ({ENDING}, {PARQUET}):
        rule = f"tars or Parquet files for the braces in {source}"
        raise DatasetError(rule, some(sorted(endings)), "Name one folder or file.")
    missing = [name for name in names if is_gone(root / name)]
    fix = "Download them, or correct the numbers."
    refuse(text, "all files that the braces name", "missing", missing, fix)
    return root, names


def _ending(place: Location) -> str:
    return place.suffix.lower()
