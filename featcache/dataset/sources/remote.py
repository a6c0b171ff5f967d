"""Files behind URLs, through fsspec: listed at once, read by ranges, with retries.

Whatever is passed on in an error is worded here: the errors of the libraries below hold
addresses with signatures.
"""

import errno
import io
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, TypeVar

from featcache.core.text import counted
from featcache.dataset.urls import Location, Url, without_secrets
from featcache.errors import DatasetError

DELAYS = (0.5, 1.0, 2.0, 4.0)  # seconds before each further attempt
AT_ONCE = 16  # requests of a process at the same time
BLOCK = 2**22  # bytes of one read from a zip; the next block is read ahead
_BLOCKS = 8  # that are kept of a zip
_GONE, _FORBIDDEN, _NO_RANGE = {404, 410}, {403}, 416
_BAD_KEYS = {
    *("ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch"),
    *("InvalidToken", "TokenRefreshRequired"),
}
_CREDENTIALS = (
    "Set up credentials for fsspec, in the environment or its configuration files; "
    "never in the URL (see docs/how-to/cloud.md)."
)
_INSTALL = "Run: pip install 'featcache[cloud]'"
_VERSIONS = (
    "ETag", "etag", "LastModified", "Last-Modified", "mtime", "updated", "created",
)  # fmt: skip
_GUARD = threading.Lock()
_REPEATED: Counter[str] = Counter()
_T = TypeVar("_T")


def read(url: Url, start: int, end: int) -> bytes:
    """The bytes of a file from start to end, or to where it ends; safe in threads.

    Raises:
        OSError: There is no such file, or it may not be read.
        DatasetError: The server does not answer, or knows no such credentials.
    """
    system, path = opened(url)
    return retried(url, lambda: _ranged(system, path, start, end))


def _ranged(system: Any, path: str, start: int, end: int) -> bytes:
    try:
        data: bytes = system.cat_file(path, start=start, end=end)
    except Exception as error:
        if http_status(error) == _NO_RANGE:
            return b""  # an empty file has no first byte
        raise
    return data


def list_files(root: Url) -> dict[str, str]:
    """The files below a prefix, by paths relative to it, each with its stamp.

    Raises:
        OSError: They may not be listed.
        DatasetError: There are none, HTTP has no folders, or the server fails.
    """
    if root.scheme in ("http", "https"):
        raise DatasetError(
            f"a CSV or a zip at {root}",
            "a URL that ends in neither; a web server does not list its folders",
            "Give the URL of a CSV with columns path,label, or of a zip.",
        )
    system, base = opened(root)
    infos: dict[str, Any] = retried(root, lambda: system.find(base, detail=True))
    before = f"{base.rstrip('/')}/"
    stamps = {
        name[len(before) :]: _stamp(info)
        for name, info in infos.items()
        if name.startswith(before) and name != before and not name.endswith("/")
    }
    if not stamps:
        raise DatasetError(
            f"files below {root}", "none", "Check the bucket and the prefix."
        )
    return stamps


def facts(url: Url) -> tuple[int, str]:
    """Size of a file, and what changes with its content, or an empty text.

    Raises:
        OSError: There is no such file, it may not be read, or its size is not known.
        DatasetError: The server does not answer.
    """
    system, path = opened(url)
    info: dict[str, Any] = retried(url, lambda: system.info(path))
    if not isinstance(info.get("size"), int):
        raise OSError(errno.EIO, "its size is not known to the server", str(url))
    return info["size"], _stamp(info)


def _stamp(info: dict[str, Any]) -> str:
    """What changes with a file, of what its server says; a size alone is not enough."""
    version = " ".join(str(info[key]) for key in _VERSIONS if info.get(key))
    return f"{info.get('size')} {version}" if version else ""


@lru_cache(maxsize=4096)
def known_facts(url: Url) -> tuple[int, str]:
    """As `facts`, asked once a process; until the cache is cleared."""
    return facts(url)


def version(place: Location) -> tuple[int | str, ...]:
    """What changes with a file: inode, size and time; of a URL what its server tells.

    Raises:
        OSError: There is no such file, or it may not be read.
        DatasetError: The server does not answer.
    """
    if isinstance(place, Url):
        return known_facts(place)
    status = os.stat(place)
    return status.st_ino, status.st_size, status.st_mtime_ns


class RangeFile(io.RawIOBase):
    """A file that is read in blocks, as they are needed; for one thread at a time.

    Raises:
        OSError: As `facts`.
        DatasetError: As `facts`, or where the server sends other bytes than asked for.
    """

    def __init__(self, url: Url) -> None:
        super().__init__()
        from fsspec.caching import BackgroundBlockCache

        self.url, self._at = url, 0
        self._size = facts(url)[0]
        self._blocks = BackgroundBlockCache(BLOCK, self._block, self._size, _BLOCKS)

    def _block(self, start: int, end: int) -> bytes:
        end = min(end, self._size)
        data = read(self.url, start, end)
        if len(data) != end - start:
            raise DatasetError(
                f"bytes {start} to {end} of {self.url}",
                f"{len(data)} bytes: the file has changed, or the server does not "
                "serve ranges",
                "Try again, or download the file and scan it here.",
            )
        return data

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Where the next read starts."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves to an offset from the start, from here or from the end."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}
        self._at = max(0, start[whence] + offset)
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """So many bytes, or fewer where the file ends."""
        least = self._size if size is None or size < 0 else self._at + size
        end = min(self._size, least)
        if end <= self._at:
            return b""
        data: bytes = self._blocks._fetch(self._at, end)
        self._at += len(data)
        return data


def take_repeated() -> dict[str, int]:
    """Requests that had to be repeated since the last call, by host."""
    with _GUARD:
        counts = {**_REPEATED}
        _REPEATED.clear()
    return counts


def add_repeated(counts: dict[str, int]) -> None:
    """Counts requests that another process had to repeat."""
    with _GUARD:
        _REPEATED.update(counts)


def repeated() -> Iterator[str]:
    """A line a host on requests that had to be repeated since the last call."""
    for host, count in sorted(take_repeated().items()):
        yield f"{counted(count, 'request')} to {host} had to be repeated"


def opened(url: Url) -> tuple[Any, str]:
    """The file system of a URL, and the path in it.

    Raises:
        DatasetError: It needs a package that is not installed, or there is none of it.
    """
    with _GUARD:
        system = _file_system(url.scheme, url.host, os.getpid())
    return system, system._strip_protocol(str(url))


@lru_cache(maxsize=32)
def _file_system(scheme: str, host: str, pid: int) -> Any:
    """One a host and process: all threads share its connections."""
    if find_spec("fsspec") is None:
        raise DatasetError(f"fsspec, to open {scheme}://", "it is missing", _INSTALL)
    from fsspec import core

    try:
        # A listing that is kept would hide what has changed since.
        return core.url_to_fs(
            f"{scheme}://{host}", use_listings_cache=False, skip_instance_cache=True
        )[0]
    except ImportError as error:
        raise DatasetError(
            f"the package that opens {scheme}://", f"{error}", _INSTALL
        ) from None
    except ValueError as error:
        raise DatasetError(
            "a protocol such as s3://, gs:// or https://", str(error), "Correct it."
        ) from None


def retried(url: Url, call: Callable[[], _T]) -> _T:
    """Calls, again where the server fails or does not answer in time.

    Raises:
        OSError: There is no such file, or it may not be read or written.
        DatasetError: The server does not answer, or knows no such credentials.
    """
    reason = ""
    for delay in (*DELAYS, None):
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - each file system has its own
            reason = _reason_to_repeat(error, url)
            if delay is None:
                raise DatasetError(
                    f"an answer from {url.host} for {url}",
                    f"{reason}, {len(DELAYS) + 1} times",
                    "Run the command again later; finished work is kept.",
                ) from None
        with _GUARD:
            _REPEATED[url.host] += 1
        time.sleep(delay)
    raise AssertionError("unreachable")


def _reason_to_repeat(error: Exception, url: Url) -> str:
    """Why a request may succeed the next time.

    Raises:
        OSError: It will not.
        DatasetError: It will not, and neither will any other.
    """
    status, kind = http_status(error), type(error).__name__
    code = _code(error)
    if "Credential" in kind or code in _BAD_KEYS or status == 401:
        got = f"none that it knows ({code or status or kind})"
        raise DatasetError(f"credentials for {url.host}", got, _CREDENTIALS) from None
    if status in _GONE or isinstance(error, FileNotFoundError):
        raise FileNotFoundError(
            errno.ENOENT, f"no such file at {url.host}", str(url)
        ) from None
    if status in _FORBIDDEN or isinstance(error, PermissionError):
        raise PermissionError(
            errno.EACCES, f"access denied by {url.host}", str(url)
        ) from None
    if status is not None and (status >= 500 or status in (408, 429)):
        return f"HTTP status {status}"
    text = without_secrets(" ".join(str(error).split()))[:200]
    if status is not None or isinstance(error, (ValueError, TypeError, LookupError)):
        raise OSError(errno.EIO, text or kind, str(url)) from None
    return f"{kind}: {text}" if text else kind


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__


def _code(error: Exception) -> str:
    """The code that S3 gives an error, such as NoSuchKey."""
    answers = (getattr(link, "response", None) for link in _chain(error))
    for answer in answers:
        if isinstance(answer, dict):
            return str(answer.get("Error", {}).get("Code", ""))
    return ""


def http_status(error: Exception) -> int | None:
    """The HTTP status behind an error of aiohttp, botocore or gcsfs."""
    for link in _chain(error):
        answer = getattr(link, "response", None)
        if isinstance(answer, dict):
            link = answer.get("ResponseMetadata", {})
            return int(link.get("HTTPStatusCode", 0)) or None
        for name in ("status", "code"):
            value = getattr(link, name, None)
            if isinstance(value, int | str) and str(value).isdigit():
                return int(value)
    return None
