"""Reading files of a folder, and members of a zip without unpacking it."""

import errno
import hashlib
import os
import stat
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from zipfile import ZipFile, ZipInfo

from featcache.dataset.images.memory import Budget
from featcache.dataset.sources import remote
from featcache.dataset.sources.packed import find_packed
from featcache.dataset.urls import Location, Url, inside, is_url
from featcache.errors import FeatcacheError, UnreadableImageError

LIMIT = 2**30  # bytes of one file
_MOST_RATIO = 1000
_USUAL = 2**25  # bytes kept for a file whose size only reading it tells
_GUARD = threading.Lock()
_LOADED = Budget(5 * 2**28)  # bytes of all files that threads work on


def is_zip(root: Location) -> bool:
    """Whether a source, or the root of a manifest, is a zip and no folder."""
    if root.suffix.lower() != ".zip":
        return False
    return not isinstance(root, Path) or not os.path.isdir(root)


def read_bytes(root: Location, path: str) -> bytes:
    """Reads a file of a source; safe in threads.

    Args:
        root: The source's folder or zip.
        path: As the listing has it: relative to the root, with slashes; or a URL.

    Raises:
        OSError: There is no such file, it is no plain file (a pipe would wait for
            ever), larger than 1 GiB, or, in a zip, encrypted, damaged or a bomb.
        DatasetError: The server behind a URL does not answer.
    """
    if is_zip(root) and not is_url(path):
        return _read_member(root, path)
    if packed := find_packed(root, path):
        return packed.read(LIMIT)
    return read_file(inside(root, path))


@contextmanager
def loaded(root: Location, path: str) -> Iterator[bytes]:
    """The bytes of a file for the block, in the memory that threads share for files.

    Args:
        root: As for `read_bytes`.
        path: As for `read_bytes`.

    Raises:
        OSError: As `read_bytes`.
        DatasetError: As `read_bytes`.
    """
    with _LOADED.reserve(min(_size(root, path), LIMIT)):
        yield read_bytes(root, path)


def _size(root: Location, path: str) -> int:
    if is_url(path) or not is_zip(root):
        if packed := find_packed(root, path):
            return packed.size(_USUAL)
        place = inside(root, path)
        return _USUAL if isinstance(place, Url) else os.stat(place).st_size
    member = _opened(root)[1].get(path)
    return member.file_size if member else 0


def stamp(root: Location, path: str) -> str:
    """What changes when a file does, without reading it; empty where nothing says so.

    Of what stands in a zip, a tar or a table, that of the whole file.

    Args:
        root: As for `read_bytes`.
        path: As for `read_bytes`.

    Raises:
        DatasetError: The server behind a URL does not answer.
    """
    try:
        if is_zip(root) and not is_url(path):
            place, asked_once = root, True
        elif packed := find_packed(root, path):
            place, asked_once = packed.file, True
        else:
            place, asked_once = inside(root, path), False
        if isinstance(place, Url):
            return (remote.known_facts if asked_once else remote.facts)(place)[1]
        at = os.stat(place)
    except OSError:
        return ""
    return f"{at.st_ino} {at.st_size} {at.st_mtime_ns} {at.st_ctime_ns}"


def read_scanned(root: Location, path: str, image_id: str) -> bytes:
    """Reads a file that the manifest lists, as it was scanned.

    Args:
        root: The source's folder or zip.
        path: Of the manifest.
        image_id: SHA-256 (64 hex digits) of its bytes.

    Raises:
        UnreadableImageError: It is gone, or has changed.
        DatasetError: The server behind a URL does not answer.
    """
    expected, hint = f"the image {path} as it was scanned", "Scan again."
    try:
        data = read_bytes(root, path)
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}"
        raise UnreadableImageError(expected, reason, hint) from error
    if hashlib.sha256(data).hexdigest() != image_id:
        raise UnreadableImageError(expected, "changed since the scan", hint)
    return data


def read_file(path: Location, size: int = -1) -> bytes:
    """Reads a plain file, or its first ``size`` bytes.

    Raises:
        OSError: It cannot be read, is no plain file, or larger than 1 GiB.
        DatasetError: The server behind a URL does not answer.
    """
    if isinstance(path, Url):
        data = remote.read(path, 0, LIMIT + 1 if size < 0 else size)
        if len(data) > LIMIT:
            raise OSError(errno.EFBIG, "larger than 1 GiB", str(path))
        return data
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    if status.st_size > LIMIT and size < 0:
        raise OSError(errno.EFBIG, "larger than 1 GiB", str(path))
    with path.open("rb") as file:
        return file.read(size)


def members(path: Location) -> list[str]:
    """Names of the files in a zip, with slashes.

    Raises:
        OSError: There is no zip, or a broken one.
        DatasetError: The server behind a URL does not answer.
    """
    remote.known_facts.cache_clear()  # a zip at a URL may be another one by now
    return list(_opened(path)[1])


def _plain(name: str) -> str:
    """A member's name as the same file has it unpacked: ``a//./b`` is ``a/b``.

    Some programs write the separators of Windows.
    """
    name = name.replace("\\", "/")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return "/" * name.startswith("/") + "/".join(parts) + "/" * name.endswith("/")


def _read_member(path: Location, name: str) -> bytes:
    archive, infos = _opened(path)
    if name not in infos:
        raise FileNotFoundError(errno.ENOENT, "no such file in the zip", name)
    info = infos[name]
    if info.flag_bits & 1:
        raise OSError(errno.EACCES, "encrypted", name)
    if info.file_size > LIMIT:
        raise OSError(errno.EFBIG, "larger than 1 GiB", name)
    if info.file_size > _MOST_RATIO * info.compress_size:
        raise OSError(errno.EFBIG, "unpacks to over 1000 times its size", name)
    try:
        return archive.read(info)
    except FeatcacheError:  # the server is to blame, and not the zip
        raise
    except Exception as error:  # zipfile and its codecs raise almost anything
        reason = f"damaged in the zip ({error or type(error).__name__})"
        raise OSError(errno.EIO, reason, name) from error


def _opened(path: Location) -> tuple[ZipFile, dict[str, ZipInfo]]:
    """Opens a zip once a process; a child's reads must not move its parent's file."""
    with _GUARD:
        return _parse(path, remote.version(path), os.getpid())


@lru_cache(maxsize=4)
def _parse(
    path: Location, version: tuple[int | str, ...], pid: int
) -> tuple[ZipFile, dict[str, ZipInfo]]:
    # ZipFile locks its reads of a file that it is given, and leaves it open: who
    # still reads from a zip that fell out of the cache can go on.
    file = remote.RangeFile(path) if isinstance(path, Url) else path.open("rb")
    try:
        archive = ZipFile(file)
        names = [(_plain(i.filename), i) for i in archive.infolist()]
    except Exception as error:
        file.close()
        if isinstance(error, FeatcacheError):
            raise
        raise OSError(
            errno.EIO, f"not a complete zip file ({error})", str(path)
        ) from error
    weakref.finalize(archive, file.close)
    return archive, {name: info for name, info in names if name[-1:] not in ("", "/")}
