"""What the forms of a source share: the listing, names, and refusals."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import NamedTuple, Protocol

import pandas as pd

from featcache.core.text import natural_key, some
from featcache.dataset.manifest import COLUMNS, ODD
from featcache.dataset.urls import Location
from featcache.errors import DatasetError

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".gif"}
    | {".webp", ".avif", ".jp2", ".j2k", ".pgm", ".ppm", ".pnm", ".dcm", ".dicom"}
)
TAKEN = {*COLUMNS} - {"path", "label", "group"}  # columns that are not the source's
_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini", "__macosx", "dicomdir"})


@dataclass(frozen=True)
class Listing:
    """The files of a source, before their pictures are opened.

    Attributes:
        root: The folder or the zip that paths are relative to, here or at a URL.
        table: ``path``, ``label``, perhaps ``mask`` and further columns.
        warnings: What the user should know.
        refused: Path to reason of files in the table that are not to be read.
        stamps: Path to what changes with a file, where listing it has said so.
    """

    root: Location
    table: pd.DataFrame
    warnings: list[str]
    refused: dict[str, str] = field(default_factory=dict)
    stamps: Mapping[str, str] = field(default_factory=dict)


class TableFile(NamedTuple):
    """A table in a folder of a source; its paths are relative to that."""

    folder: str
    name: str

    @property
    def path(self) -> str:
        """Relative to the source."""
        return self.beside(self.name)

    def beside(self, path: str) -> str:
        """The path in the source of what is in the table's folder."""
        return f"{self.folder}/{path}" if self.folder else path


class Tree(Protocol):
    """Folders and files below a root, by paths with slashes; the root is ``""``."""

    @property
    def root(self) -> Location:
        """The folder or the zip."""

    @property
    def stamps(self) -> Mapping[str, str]:
        """Path to what changes with a file, where listing the files has said so."""

    def folders(self, at: str) -> list[str]:
        """The visible folders in a folder, in natural order."""

    def files(self, at: str) -> list[str]:
        """The visible files in a folder, in natural order."""

    def has(self, path: str) -> bool:
        """Whether there is such a file."""

    def spelled_as(self, path: str) -> str:
        """The path of that file here, should its Unicode form be another; or empty."""

    def has_magic(self, path: str) -> bool:
        """Whether a file without a suffix is known to be DICOM."""


def name_of(path: str) -> str:
    """The last part of a path."""
    return path.rpartition("/")[2]


def suffix(path: str) -> str:
    """The suffix in lower case; digits are none, as in ``1.2.840.10008``."""
    ending = PurePosixPath(path).suffix.lower()
    return "" if ending[1:].isdigit() else ending


def is_image(tree: Tree, path: str) -> bool:
    """Whether a file is taken for an image."""
    ending = suffix(path)
    return ending in SUFFIXES or (not ending and tree.has_magic(path))


def visible(names: Iterable[str]) -> list[str]:
    """What is not hidden and not left behind by a desktop, in natural order."""
    visible = (
        n for n in names if not n.startswith(".") and n.lower() not in _SYSTEM_FILES
    )
    return sorted(visible, key=lambda name: (natural_key(name), name))


def kinds(skipped: Counter[str]) -> str:
    """Counts by kind as text."""
    return ", ".join(f"{n} {kind}" for kind, n in sorted(skipped.items()))


def clean(table: pd.DataFrame, taken: Collection[str]) -> pd.DataFrame:
    """Renames columns that would shadow ours; they keep their content.

    A lone carriage return would end a row of the manifest.
    """
    odd = {name: ascii(name)[1:-1] for name in table.columns if ODD.search(name)}
    clash = {name: f"given_{name}" for name in table.columns if name in taken}
    table = table.rename(columns=odd | clash)
    return table.replace(r"\r\n?", "\n", regex=True)


def refuse(where: str, rule: str, what: str, items: list[str], fix: str) -> None:
    """Refuses a source for some of its items.

    Raises:
        DatasetError: There are any.
    """
    if items:
        raise DatasetError(f"{rule} in {where}", f"{what}: {some(items)}", fix)


def check_labels(where: str, labels: list[str]) -> None:
    """Refuses labels that no CSV keeps.

    Raises:
        DatasetError: There are any.
    """
    odd = [ascii(label) for label in dict.fromkeys(labels) if ODD.search(label)]
    rule = "classes in UTF-8 without control characters"
    refuse(where, rule, "others", odd, "Rename them.")
