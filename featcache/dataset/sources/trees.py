"""Where the files of a source lie: in a folder, or in a zip that stays packed."""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from featcache.dataset.sources.base import refuse, visible
from featcache.dataset.sources.packed import find_packed
from featcache.dataset.sources.reading import members, read_file
from featcache.dataset.sources.remote import list_files
from featcache.dataset.urls import NETWORK, Location, Url, is_url

OUTSIDE = re.compile(r"^/|^[a-zA-Z]:|(^|/)\.\.(/|$)")


class Folder:
    """A folder on disk; links are followed, but not in circles."""

    stamps: Mapping[str, str] = {}

    def __init__(self, root: Path) -> None:
        self.root = root
        self._entries: dict[str, tuple[list[str], list[str]]] = {}
        self._above: dict[str, list[Path]] = {}

    def folders(self, at: str) -> list[str]:
        """The visible folders in a folder, in natural order."""
        return self._listed(at)[0]

    def files(self, at: str) -> list[str]:
        """The visible files in a folder, in natural order."""
        return self._listed(at)[1]

    def _listed(self, at: str) -> tuple[list[str], list[str]]:
        """Folders and files, looked up once."""
        if at not in self._entries:
            above = self._real_folders(at)
            folders, files = [], []
            for path in (_join(at, n) for n in visible(os.listdir(self.root / at))):
                if not os.path.isdir(self.root / path):
                    files.append(path)
                elif not _holds_any((self.root / path).resolve(), above):
                    folders.append(path)
            self._entries[at] = folders, files
        return self._entries[at]

    def _real_folders(self, at: str) -> list[Path]:
        """Where a folder and all those above it really are, the root first."""
        if at not in self._above:
            above = self._real_folders(at.rpartition("/")[0]) if at else []
            self._above[at] = [*above, (self.root / at).resolve()]
        return self._above[at]

    def has(self, path: str) -> bool:
        """Whether there is such a file."""
        if _is_elsewhere(path) or os.path.isfile(self.root / path):
            return True
        packed = find_packed(self.root, path)
        return packed is not None and packed.exists()

    def spelled_as(self, path: str) -> str:
        """The path of that file here, should its Unicode form be another; or empty."""
        if path.isascii() or is_url(path):
            return ""
        here = ""
        for part in path.split("/"):
            try:
                names = os.listdir(self.root / here)
            except OSError:
                return ""
            if part not in names:
                same = (name for name in names if _composed(name) == _composed(part))
                part = next(same, part)
            here = f"{here}/{part}" if here or path.startswith("/") else part
        return here if self.has(here) else ""

    def has_magic(self, path: str) -> bool:
        """Whether a file is DICOM by its bytes 128 to 131."""
        try:
            return read_file(self.root / path, 132)[128:] == b"DICM"
        except OSError:
            return False


class Names:
    """Files that are all listed at once; their names imply the folders."""

    stamps: Mapping[str, str] = {}

    def __init__(self, root: Location, paths: Iterable[str]) -> None:
        self.root = root
        self._files: dict[str, set[str]] = defaultdict(set)
        self._folders: dict[str, set[str]] = defaultdict(set)
        self._composed: dict[str, str] = {}
        for path in paths:
            at, _, name = path.rpartition("/")
            self._files[at].add(name)
            if not path.isascii():
                self._composed[_composed(path)] = path
        for at in list(self._files):
            while at:
                at, _, name = at.rpartition("/")
                self._folders[at].add(name)

    def folders(self, at: str) -> list[str]:
        """The visible folders in a folder, in natural order."""
        return [_join(at, name) for name in visible(self._folders.get(at, ()))]

    def files(self, at: str) -> list[str]:
        """The visible files in a folder, in natural order."""
        return [_join(at, name) for name in visible(self._files.get(at, ()))]

    def has(self, path: str) -> bool:
        """Whether there is such a file."""
        at, _, name = path.rpartition("/")
        return name in self._files.get(at, ()) or _is_elsewhere(path)

    def spelled_as(self, path: str) -> str:
        """The path of that file here, should its Unicode form be another; or empty."""
        return self._composed.get(_composed(path), "")

    def has_magic(self, path: str) -> bool:
        """Never: it would have to be unpacked."""
        return False


class Archive(Names):
    """A zip, here or at a URL.

    Raises:
        OSError: There is no zip, or a broken one.
        DatasetError: A name leads out of it, or a server does not answer.
    """

    def __init__(self, root: Location) -> None:
        paths = members(root)
        outside = sorted(ascii(path) for path in paths if OUTSIDE.search(path))
        rule = "names that stay inside the zip"
        refuse(str(root), rule, "others", outside, "Pack the folder again.")
        super().__init__(root, paths)


class Bucket(Names):
    """A folder at a URL.

    Raises:
        OSError: It may not be listed.
        DatasetError: There is none, or the server does not answer.
    """

    def __init__(self, root: Url) -> None:
        self.stamps = list_files(root)
        super().__init__(root, self.stamps)
        self._place, self._magic = root, dict[str, bool]()

    def has_magic(self, path: str) -> bool:
        """Whether a file is DICOM by its bytes 128 to 131."""
        if path not in self._magic:
            try:
                start = read_file(self._place / path, 132)
            except OSError:
                start = b""
            self._magic[path] = start[128:] == b"DICM"
        return self._magic[path]


class Unlisted(Names):
    """The folder of a table at a URL; a file that is missing shows when it is read."""

    def __init__(self, root: Url) -> None:
        super().__init__(root, ())
        self._scheme = root.scheme

    def has(self, path: str) -> bool:
        """Whether there may be such a file; none of this machine."""
        if "://" in path:
            same = path.startswith(f"{self._scheme}://")
            return same or _is_elsewhere(path)
        return "\\" not in path


def open_tree(place: Location) -> Folder | Archive | Bucket:
    """The files of a folder or a zip.

    Raises:
        OSError: It cannot be read.
        DatasetError: It is empty, broken, or its server does not answer.
    """
    if place.suffix.lower() == ".zip" and not isinstance(place, Path):
        return Archive(place)
    if isinstance(place, Url):
        return Bucket(place)
    return Folder(place) if place.is_dir() else Archive(place)


def _is_elsewhere(path: str) -> bool:
    """Whether the path in a table is a URL that a table may name."""
    return is_url(path) and path.partition("://")[0].lower() in NETWORK


def _holds_any(folder: Path, others: Iterable[Path]) -> bool:
    return any(other.is_relative_to(folder) for other in others)


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _join(at: str, name: str) -> str:
    return f"{at}/{name}" if at else name
