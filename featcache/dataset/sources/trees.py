"""Where the files of a source lie: in a folder, or in a zip that stays packed."""

import os
import re
from collections import defaultdict
from pathlib import Path

from featcache.dataset.sources.base import refuse, visible
from featcache.dataset.sources.reading import members, read_file

_OUTSIDE = re.compile(r"^/|^[a-zA-Z]:|(^|/)\.\.(/|$)")


class Folder:
    """A folder on disk; links are followed, but not in circles."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folders(self, at: str) -> list[str]:
        """The visible folders in a folder, in natural order."""
        here = (self.root / at).resolve()
        return [
            path
            for path in self._entries(at)
            if os.path.isdir(self.root / path)
            and not here.is_relative_to((self.root / path).resolve())
        ]

    def files(self, at: str) -> list[str]:
        """The visible files in a folder, in natural order."""
        return [p for p in self._entries(at) if not os.path.isdir(self.root / p)]

    def _entries(self, at: str) -> list[str]:
        return [_join(at, name) for name in visible(os.listdir(self.root / at))]

    def has(self, path: str) -> bool:
        """Whether there is such a file."""
        return os.path.isfile(self.root / path)

    def has_magic(self, path: str) -> bool:
        """Whether a file is DICOM by its bytes 128 to 131."""
        try:
            return read_file(self.root / path, 132)[128:] == b"DICM"
        except OSError:
            return False


class Archive:
    """A zip; its folders are those that the names of its members imply.

    Raises:
        OSError: There is no zip, or a broken one.
        DatasetError: A name leads out of it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        paths = members(root)
        outside = sorted(ascii(path) for path in paths if _OUTSIDE.search(path))
        rule = "names that stay inside the zip"
        refuse(str(root), rule, "others", outside, "Pack the folder again.")
        self._files: dict[str, set[str]] = defaultdict(set)
        self._folders: dict[str, set[str]] = defaultdict(set)
        for path in paths:
            at, _, name = path.rpartition("/")
            self._files[at].add(name)
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
        return name in self._files.get(at, ())

    def has_magic(self, path: str) -> bool:
        """Never: it would have to be unpacked."""
        return False


def _join(at: str, name: str) -> str:
    return f"{at}/{name}" if at else name
