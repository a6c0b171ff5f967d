"""Objects that featcache itself keeps at URLs: put whole, fetched in blocks."""

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from featcache.dataset.sources import remote
from featcache.dataset.sources.remote import (
    AT_ONCE,
    BLOCK,
    http_status,
    opened,
    retried,
)
from featcache.dataset.urls import Url
from featcache.errors import DatasetError

_EXISTS, _CONFLICT, _NO_CONDITIONS = 412, 409, 501


def fetch(url: Url, path: Path) -> str:
    """Downloads an object, in blocks: memory does not grow with it.

    Returns:
        SHA-256 (64 hex digits) of its bytes.

    Raises:
        OSError: There is none, it may not be read, or the disk cannot be written.
        DatasetError: The server does not answer, or it was changed meanwhile.
    """
    size, sha = remote.facts(url)[0], hashlib.sha256()
    with path.open("wb") as file:
        for start in range(0, size, BLOCK):
            end = min(start + BLOCK, size)
            data = remote.read(url, start, end)
            if len(data) != end - start:
                raise DatasetError(
                    f"bytes {start} to {end} of {url}",
                    f"{len(data)} bytes: it has changed meanwhile",
                    "Run the command again; finished work is kept.",
                )
            file.write(data)
            sha.update(data)
    return sha.hexdigest()


def put(path: Path, url: Url, *, replace: bool) -> bool:
    """Uploads a file as one object, which is there whole or not at all.

    Args:
        path: The file.
        url: Where it goes.
        replace: Whether it takes the place of an object that is there. If not, servers
            that know conditions (S3, Google Cloud) refuse it in one step; of others it
            is asked first, and the later of two calls at the same moment counts.

    Returns:
        Whether it was uploaded: False where an object was there.

    Raises:
        OSError: It may not be written, or there is no such bucket.
        DatasetError: The server does not answer.
    """
    system, target = opened(url)
    if replace:
        retried(url, lambda: system.put_file(str(path), target))
        return True
    return retried(url, lambda: _created(system, path, target))


def _created(system: Any, path: Path, target: str) -> bool:
    try:
        system.put_file(str(path), target, mode="create")
    except Exception as error:
        status = http_status(error)
        if isinstance(error, FileExistsError) or status == _EXISTS:
            return False
        if status == _CONFLICT:  # with another upload that has not ended
            raise ConnectionError("another upload at the same time") from None
        if status != _NO_CONDITIONS:
            raise
        if system.exists(target):
            return False
        system.put_file(str(path), target)
    return True


def names_below(folder: Url) -> set[str]:
    """Names of the objects below a prefix, relative to it; none where it is not there.

    Raises:
        OSError: They may not be listed.
        DatasetError: The server does not answer.
    """
    system, base = opened(folder)
    try:
        names = retried(folder, lambda: system.find(base))
    except FileNotFoundError:
        return set()
    before = f"{base.rstrip('/')}/"
    return {name[len(before) :] for name in names if name.startswith(before)}


def folders_in(folder: Url) -> list[str]:
    """Names of the folders that a prefix begins, sorted; what is below is not listed.

    Raises:
        OSError: They may not be listed.
        DatasetError: The server does not answer.
    """
    system, base = opened(folder)
    try:
        infos = retried(folder, lambda: system.ls(base, detail=True))
    except FileNotFoundError:
        return []
    of_folders = [info["name"] for info in infos if info["type"] == "directory"]
    return sorted(name.rstrip("/").rpartition("/")[2] for name in of_folders)


def exists(url: Url) -> bool:
    """Whether there is such an object.

    Raises:
        OSError: That may not be asked.
        DatasetError: The server does not answer.
    """
    try:
        remote.facts(url)
    except FileNotFoundError:
        return False
    return True


def remove(urls: Iterable[Url]) -> None:
    """Removes objects, several at once; those that are not there are passed over.

    Raises:
        OSError: They may not be removed.
        DatasetError: The server does not answer.
    """

    def remove_one(url: Url) -> None:
        system, path = opened(url)
        with suppress(FileNotFoundError):
            retried(url, lambda: system.rm_file(path))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(remove_one, urls))
