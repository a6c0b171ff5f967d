"""Inputs: the images that files, folders, zips and tables name, without labels."""

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from featcache.core.text import some
from featcache.dataset.manifest import ODD
from featcache.dataset.sources.base import SUFFIXES, Listing, Tree, kinds, refuse
from featcache.dataset.sources.folders import images_under
from featcache.dataset.sources.packs import list_packed, list_packed_tree
from featcache.dataset.sources.pictures import image_source
from featcache.dataset.sources.reading import is_zip, read_bytes, read_file
from featcache.dataset.sources.tables import STRIPPED, TABLES, path_here, read_table
from featcache.dataset.sources.trees import Archive, Bucket, Folder, Unlisted
from featcache.dataset.urls import Location, Url, absolute, is_url
from featcache.errors import DatasetError

STDIN = "-"
_NO_TABLE = "Give a CSV with a column path, or name the images themselves."


@dataclass(frozen=True)
class InputImage:
    """An image that is not read yet.

    Attributes:
        path: As it is named by the user, the table or standard input; below a folder
            or in a zip, behind the name of that; empty for a picture in memory.
        read: Reads the bytes of its file; raises OSError, or UnreadableImageError.
        columns: Its further columns, where a table names it.
        below: Its path below the folder or in the zip that was named, or as the table
            has it; else its file's name.
    """

    path: str
    read: Callable[[], bytes]
    columns: dict[str, str] = field(default_factory=dict)
    below: str = ""

    @property
    def printed_path(self) -> str:
        """The path as tables have it, see `escaped`."""
        return escaped(self.path)


@dataclass(frozen=True)
class Inputs:
    """Images in the order in which they are named, listed while they are taken.

    Attributes:
        parts: Each lists the images of one input.
        columns: Further columns of the tables among them, each once.
        total: How many images there are; None with standard input, which ends where
            it ends, and can be taken once.
        notes: What the user should know.
    """

    parts: tuple[Callable[[], Iterator[InputImage]], ...]
    columns: tuple[str, ...] = ()
    total: int | None = None
    notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[InputImage]:
        return chain.from_iterable(part() for part in self.parts)


def escaped(text: str) -> str:
    r"""The text with control characters and bytes that are not UTF-8 escaped.

    Those are ``\n``, ``\x1b``, ``\udcff`` and so on: no table keeps them.
    """
    return ODD.sub(lambda odd: ascii(odd[0])[1:-1], text)


def open_inputs(items: Iterable[Any], stdin: Iterable[bytes] | None = None) -> Inputs:
    """Checks what was named, and counts its images; none of them is opened.

    A folder is searched like a class folder of `list_source`: hidden files, masks and
    what is no image by its name are left out. A file is taken for an image whatever
    its name, unless it ends like a table (``.csv``, ``.jsonl``, ``.parquet``), a zip or
    a tar. An image that is named twice is there twice.

    Args:
        items: Paths or URLs of images, folders, zips, tars, Parquet files with images,
            and of tables with a column ``path`` (relative to the table, or URLs);
            pictures of Pillow; or uint8 arrays of pixels.
        stdin: Lines with a path each, which stand for the item ``-``.

    Raises:
        DatasetError: There is no such file, a folder or zip without images, a zip that
            is broken, a CSV without rows or without paths, no line, or a server that
            does not answer.
        UsageError: An item is none of these.
    """
    parts = [_open(item, number, stdin) for number, item in enumerate(items)]
    if not parts:
        raise DatasetError("at least one image", "no inputs", "Name some files.")
    totals = [part.total for part in parts]
    return Inputs(
        tuple(images for part in parts for images in part.parts),
        tuple(dict.fromkeys(name for part in parts for name in part.columns)),
        None if None in totals else sum(total or 0 for total in totals),
        tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )


def _open(item: Any, number: int, stdin: Iterable[bytes] | None) -> Inputs:
    if not isinstance(item, str | Path | Url):
        picture = InputImage("", image_source(item, number).read)
        return Inputs((lambda: iter([picture]),), total=1)
    if item == STDIN and stdin is not None:
        return _of_lines(stdin)
    place = absolute(item)
    if isinstance(place, Url):
        return _of_url(place)
    name, path = str(item), place
    try:
        if name and (listing := list_packed(path, labelled=False)):
            return _of_listing(name, os.path.dirname(name.partition("{")[0]), listing)
        if not name or not os.path.exists(path):
            raise DatasetError(
                "an image, a folder, an archive or a table",
                f"no such file: {escaped(name)}",
                "Check the path.",
            )
        if path.is_dir():
            if listing := list_packed_tree(Folder(path), labelled=False):
                return _of_listing(name, name, listing)
            return _of_tree(name, lambda: Folder(path))
        if is_zip(path):
            return _of_tree(name, lambda: Archive(path))
        if path.suffix.lower() in TABLES:
            return _of_table(name, path)
    except OSError as error:
        raise DatasetError(
            f"a readable input {escaped(name)}",
            f"{error.strerror}: {escaped(os.fsdecode(error.filename or name))}",
            "Make it readable, or leave it out.",
        ) from error
    image = InputImage(name, partial(read_file, path), below=path.name)
    return Inputs((lambda: iter([image]),), total=1)


def _of_url(url: Url) -> Inputs:
    """What is behind a URL, as its ending tells; HTTP has no folders."""
    name, ending = str(url), url.suffix.lower()
    try:
        if listing := list_packed(url, labelled=False):
            inputs = _of_listing(name, str(listing.root), listing)
        elif ending in TABLES:
            inputs = _of_table(name, url)
        elif ending == ".zip":
            inputs = _of_tree(name, lambda: Archive(url))
        elif ending in SUFFIXES or url.scheme in ("http", "https"):
            image = InputImage(name, partial(read_file, url), below=url.name)
            inputs = Inputs((lambda: iter([image]),), total=1)
        elif listing := list_packed_tree(tree := Bucket(url), labelled=False):
            inputs = _of_listing(name, name, listing)
        else:
            inputs = _of_tree(name, lambda: tree)
    except OSError as error:
        raise DatasetError(
            f"a readable input {escaped(name)}", str(error.strerror), "Check the URL."
        ) from None
    return replace(inputs, notes=(*inputs.notes, STRIPPED)) if url.stripped else inputs


def _of_tree(name: str, open_tree: Callable[[], Tree]) -> Inputs:
    """The images of a folder or a zip; they are listed anew each time."""
    skipped: Counter[str] = Counter()
    total = sum(1 for _ in images_under(open_tree(), "", skipped))
    others = kinds(skipped)
    if not total:
        raise DatasetError(
            f"images in {escaped(name)}",
            f"{others} files" if others else "no files",
            f"Images end in {', '.join(sorted(SUFFIXES))}. Name files that end "
            "otherwise one by one.",
        )
    notes = [f"{escaped(name)}: left out because they are not images: {others}"]

    def images() -> Iterator[InputImage]:
        tree = open_tree()
        for path in images_under(tree, "", Counter()):
            read = partial(read_bytes, tree.root, path)
            yield InputImage(os.path.join(name, path), read, below=path)

    return Inputs((images,), total=total, notes=tuple(notes if others else []))


def _of_listing(name: str, base: str, listing: Listing) -> Inputs:
    """The images of tars or of files with rows, behind the name of their folder."""
    table = listing.table
    if "label" in table.columns and not table["label"].any():
        table = table.drop(columns="label")
    paths, columns = table["path"], table.drop(columns="path")

    def images() -> Iterator[InputImage]:
        names = list(columns.columns)
        for path, values in zip(paths, _rows(columns.to_numpy()), strict=True):
            read = partial(_read_listed, listing, path)
            facts = dict(zip(names, values, strict=True))
            yield InputImage(os.path.join(base, path), read, facts, below=path)

    notes = tuple(f"{escaped(name)}: {note}" for note in listing.warnings)
    return Inputs((images,), tuple(columns.columns), len(paths), notes)


def _read_listed(listing: Listing, path: str) -> bytes:
    if path in listing.refused:
        raise OSError(errno.EINVAL, listing.refused[path], path)
    return read_bytes(listing.root, path)


def _of_table(name: str, path: Location) -> Inputs:
    """The rows of a CSV; a file that is missing is for the reader to report."""
    tree: Folder | Unlisted
    tree = Unlisted(path.parent) if isinstance(path, Url) else Folder(path.parent)
    where = escaped(name)
    table = read_table(tree, path.name, where, _NO_TABLE)
    if "path" not in table.columns:
        raise DatasetError(
            f"a column path in {where}",
            f"columns {some([ascii(c[:40]) for c in table.columns])}",
            "Add it, or rename one. Columns must be separated by commas.",
        )
    if table.empty:
        raise DatasetError(f"rows in {where}", "none", "Add one row per image.")
    nameless = [f"row {i + 2}" for i in table.index[table["path"] == ""]]
    refuse(where, "a path in every row", "none in", nameless, "Fill them in.")
    urls = {row: Url.of(row) for row in table["path"] if is_url(row)}
    notes = (STRIPPED,) if any(url.stripped for url in urls.values()) else ()
    paths = table.pop("path")

    def images() -> Iterator[InputImage]:
        names = list(table.columns)
        for row, values in zip(paths, _rows(table.to_numpy()), strict=True):
            named = str(urls.get(row, row))
            read = partial(_read_row, tree, named)
            columns = dict(zip(names, values, strict=True))
            yield InputImage(named, read, columns, below=named)

    return Inputs((images,), tuple(table.columns), len(paths), notes)


def _rows(values: Any) -> Iterator[Sequence[str]]:
    return (row.tolist() for row in values)


def _read_row(tree: Folder | Unlisted, path: str) -> bytes:
    path = path_here(tree, path)
    if is_url(path) and not tree.has(path):
        raise PermissionError(errno.EACCES, "no URL that a table may name", path)
    return read_bytes(tree.root, path)


def _of_lines(stdin: Iterable[bytes]) -> Inputs:
    """Paths on standard input; a byte that is not UTF-8 is kept as the system does."""
    lines = (line.removesuffix(b"\n").removesuffix(b"\r") for line in stdin)
    names = (os.fsdecode(line) for line in lines if line.strip())
    first = next(names, None)
    if first is None:
        raise DatasetError(
            "paths on standard input, one per line", "none", "Name files instead of -."
        )

    def images() -> Iterator[InputImage]:
        for name in chain([first], names):
            path = absolute(name)
            name = str(path) if isinstance(path, Url) else name
            yield InputImage(name, partial(read_file, path), below=path.name)

    return Inputs((images,))
