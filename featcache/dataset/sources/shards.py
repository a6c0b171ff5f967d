"""Members of tars that stay packed, found by an index of their offsets."""

import errno
import os
import tarfile
import threading
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from featcache.dataset.sources import remote
from featcache.dataset.urls import Location, Url
from featcache.errors import DatasetError

ENDING = ".tar"
# How a compressed tar begins, and what unpacks it; an index of offsets needs it plain.
_UNPACK = {
    b"\x1f\x8b": "gunzip -k",
    b"BZh": "bunzip2 -k",
    b"\xfd7zXZ": "unxz -k",
    b"\x28\xb5\x2f\xfd": "unzstd",
}
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
_GUARD = threading.Lock()


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


def is_tar(file: Location) -> bool:
    """Whether a name is that of a tar."""
    return file.suffix.lower() == ENDING


def is_compressed(file: Location) -> bool:
    """Whether a name is that of a compressed tar."""
    return file.name.lower().endswith(COMPRESSED)


def index(tar: Location) -> Index:
    """The members of a tar; its headers are read once per process and version.

    Raises:
        OSError: It cannot be read, or is no tar.
        DatasetError: It is compressed, or a server does not answer.
    """
    version = remote.version(tar)
    with _GUARD:  # or each thread would read all headers of the next tar
        return _index(tar, version)


def check_plain(tar: Location) -> None:
    """Refuses a compressed tar: it would be unpacked anew for each image.

    Raises:
        OSError: It cannot be read.
        DatasetError: It is compressed.
    """
    with _opened(tar) as file:
        start = file.read(6)
    for magic, command in _UNPACK.items():
        if start.startswith(magic):
            raise DatasetError(
                f"an uncompressed tar in {tar}",
                "a compressed one, in which no image can be read without all before it",
                f"Unpack it once: {command} {tar.name} (the .tar is read as it is).",
            )


@lru_cache(maxsize=64)
def _index(tar: Location, version: tuple[int | str, ...]) -> Index:
    check_plain(tar)
    members: dict[str, Member] = {}
    repeated = []
    with _opened(tar) as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(0)
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
                members[info.name] = _member(info, end)
        except tarfile.TarError:
            return Index(members, repeated, archive.offset)
        # A header that is broken ends a tar for the library like its last block.
        file.seek(archive.offset)
        broken = any(file.read(tarfile.BLOCKSIZE))
        return Index(members, repeated, archive.offset if broken else None)


def _opened(tar: Location) -> BinaryIO:
    if isinstance(tar, Path):
        return tar.open("rb")
    return cast(BinaryIO, remote.RangeFile(tar))


def _member(info: tarfile.TarInfo, end: int) -> Member:
    reason = ""
    if info.issparse():
        reason = "sparse in the tar"
    elif not info.isreg():
        reason = "a link or a device in the tar"
    elif info.offset_data + info.size > end:
        reason = "cut short: the tar ends before it does"
    return Member(info.offset_data, info.size, reason)


def read_member(tar: Location, name: str, limit: int) -> bytes:
    """The bytes of a member; safe in threads.

    Raises:
        OSError: There is none, it is larger than the limit, or not to be read.
        DatasetError: The tar is compressed, or a server does not answer.
    """
    member = index(tar).members.get(name)
    if member is None:
        raise FileNotFoundError(errno.ENOENT, "no such file in the tar", name)
    if member.reason or member.size > limit:
        raise OSError(errno.EIO, member.reason or "larger than 1 GiB", name)
    if isinstance(tar, Url):
        return remote.read(tar, member.offset, member.offset + member.size)
    with tar.open("rb") as file:
        file.seek(member.offset)
        return file.read(member.size)
