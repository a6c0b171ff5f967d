"""Images inside files that stay packed: members of tars, cells of Parquet and Arrow."""

import os
import re
from typing import NamedTuple

from featcache.dataset.sources import cells, shards
from featcache.dataset.sources.remote import version
from featcache.dataset.urls import Location, Url, inside

_PACKED = re.compile(r"(.+?\.(?:tar|parquet|arrow))/(.+)", re.DOTALL | re.IGNORECASE)


class Packed(NamedTuple):
    """A file that holds others, and which of them is meant."""

    file: Location
    inner: str

    def read(self, limit: int) -> bytes:
        """The bytes of the image; safe in threads.

        Raises:
            OSError: There is none, it is larger than the limit, or not to be read.
            DatasetError: A server does not answer, or pyarrow is missing.
        """
        if shards.is_tar(self.file):
            return shards.read_member(self.file, self.inner, limit)
        return cells.read_cell(self.file, self.inner, limit)

    def size(self, unknown: int) -> int:
        """Bytes of the image; 0 where there is none.

        Args:
            unknown: Given for an image whose size only reading tells.

        Raises:
            OSError: The file cannot be read.
            DatasetError: A server does not answer.
        """
        if not shards.is_tar(self.file):
            return unknown
        member = shards.index(self.file).members.get(self.inner)
        return member.size if member else 0

    def exists(self) -> bool:
        """Whether there is such a member; of rows just whether it may be one."""
        if shards.is_tar(self.file):
            return self.inner in shards.index(self.file).members
        return cells.is_cell(self.inner)


def find_packed(root: Location, path: str) -> Packed | None:
    """What ``FILE.tar/MEMBER`` or ``FILE.parquet/COLUMN/ROW`` names, if FILE is one.

    Raises:
        OSError: A file at a URL may not be read.
        DatasetError: A server does not answer.
    """
    match = _PACKED.fullmatch(path)
    if not match:
        return None
    file = inside(root, match[1])
    if isinstance(file, Url):
        try:
            version(file)
        except FileNotFoundError:
            return None
    elif not os.path.isfile(file):
        return None
    return Packed(file, match[2])
