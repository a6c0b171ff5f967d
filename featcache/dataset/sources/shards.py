"""Members of tars that stay packed, found by an index of their offsets."""

import errno
import os
import re
import tarfile
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

ENDING = ".tar"
_PACKED = re.compile(r"(.+?\.tar)/(.+)", re.DOTALL | re.IGNORECASE)


class Member(NamedTuple):
    """Where a member's bytes are, or why they are not to be read."""

    offset: int
    size: int
    reason: str


class Index(NamedTuple):
    """The members of a tar by name, names that occur again, and where it breaks off."""

    members: dict[str, Member]
    repeated: list[str]
    broken_at: int | None


def packed(root: Path, path: str) -> tuple[Path, str] | None:
    """The tar and the member that ``NAME.tar/MEMBER`` names, if there is that tar."""
    match = _PACKED.fullmatch(path)
    if match and (root / match[1]).is_file():
        return root / match[1], match[2]
    return None


def index(tar: Path) -> Index:
    """The members of a tar; its headers are read once per process and version.

    Raises:
        OSError: It cannot be read, or is no tar.
    """
    status = os.stat(tar)
    return _index(tar, (status.st_ino, status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=16)
def _index(tar: Path, stamp: tuple[int, int, int]) -> Index:
    members: dict[str, Member] = {}
    repeated = []
    with tar.open("rb") as file:
        try:
            archive = tarfile.TarFile(fileobj=file)
        except tarfile.TarError as error:
            raise OSError(errno.EIO, f"no tar ({error})", str(tar)) from error
        try:
            for info in archive:
                vars(archive)["members"].clear()  # or it would keep them all
                if info.isdir():
                    continue
                if info.name in members:
                    repeated.append(info.name)
                members[info.name] = _member(info, stamp[1])
        except tarfile.TarError:
            return Index(members, repeated, archive.offset)
        # A header that is broken ends a tar for the library like its last block.
        file.seek(archive.offset)
        broken = any(file.read(tarfile.BLOCKSIZE))
        return Index(members, repeated, archive.offset if broken else None)


def _member(info: tarfile.TarInfo, end: int) -> Member:
    reason = ""
    if info.issparse():
        reason = "sparse in the tar"
    elif not info.isreg():
        reason = "a link or a device in the tar"
    elif info.offset_data + info.size > end:
        reason = "cut short: the tar ends before it does"
    return Member(info.offset_data, info.size, reason)


def read_member(tar: Path, name: str, limit: int) -> bytes:
    """The bytes of a member; safe in threads.

    Raises:
        OSError: There is none, it is larger than the limit, or not to be read.
    """
    member = index(tar).members.get(name)
    if member is None:
        raise FileNotFoundError(errno.ENOENT, "no such file in the tar", name)
    if member.reason or member.size > limit:
        raise OSError(errno.EIO, member.reason or "larger than 1 GiB", name)
    with tar.open("rb") as file:
        file.seek(member.offset)
        return file.read(member.size)
