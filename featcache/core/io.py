"""Writing that survives a crash, digests, canonical JSON, and locks."""

import errno
import hashlib
import io
import json
import os
import re
import shutil
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from featcache.errors import LockedError

_NO_LOCKS = (None, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values, equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def parse_json(text: str | bytes, *, unique: bool = False) -> Any:
    """Reads JSON that anybody may have written.

    Args:
        text: The JSON; bytes in UTF-8.
        unique: Whether an object that has a key twice is refused.

    Raises:
        ValueError: It is no JSON, not UTF-8, nested too deeply to be read, or has a key
            twice.
    """
    try:
        text = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        return json.loads(text, object_pairs_hook=_unique if unique else None)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 from byte {error.start} on") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    values = dict(pairs)
    if len(values) < len(keys):
        ((twice, _),) = Counter(keys).most_common(1)
        raise ValueError(f"the key {twice[:60]!r} is there twice")
    return values


def read_json(path: Path, *, unique: bool = False) -> Any:
    """Reads a JSON file that anybody may have written.

    Args:
        path: The file.
        unique: As for ``parse_json``.

    Raises:
        OSError: It cannot be opened.
        ValueError: As for ``parse_json``.
    """
    return parse_json(path.read_bytes(), unique=unique)


def digest(value: Any) -> str:
    """SHA-256 (64 hex digits) of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def digest_arrays(*arrays: np.ndarray) -> str:
    """SHA-256 (64 hex digits) over dtype, shape and bytes of arrays in order."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(f"{array.dtype.str}{array.shape}".encode())
        sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 (64 hex digits) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync_dir(folder: Path) -> None:
    """Makes renames inside ``folder`` durable."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a temporary path that becomes ``path`` only if the block succeeds.

    The temporary file is in the same folder, is fsynced, renamed, and the folder
    is fsynced. On any exception, Ctrl-C included, it is removed; what a killed process
    has left is removed by the next call for the same path.

    Raises:
        OSError: It cannot be written; names the folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_of_the_dead(path)
    temp = path.with_name(f".{path.name}.{owner_mark()}.tmp")
    try:
        with _named_after(path.parent, temp):
            yield temp
            with temp.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(temp, path)
        fsync_dir(path.parent)
    finally:
        temp.unlink(missing_ok=True)


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """Yields a folder beside a path for what becomes it; removed after the block.

    What a killed process has left is removed by the next call for the same path.
    """
    remove_of_the_dead(path)
    prefix = f".{path.name}.{owner_mark()}_"
    with _named_after(path.parent, path.parent / prefix):
        temp = tempfile.TemporaryDirectory(".tmp", prefix, path.parent)
    with temp as folder:
        yield Path(folder)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yields a temporary folder that becomes ``folder`` only if the block succeeds.

    A folder that is there already is replaced. What a killed process has left is
    removed by the next call for the same folder.

    Raises:
        OSError: It cannot be written; names the folder that it would be in.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_of_the_dead(folder)
    prefix = f".{folder.name}.{owner_mark()}_"
    with _named_after(folder.parent, folder.parent / prefix):
        temp = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
    try:
        with _named_after(folder.parent, temp):
            yield temp
            for path in temp.rglob("*"):
                if path.is_dir():
                    fsync_dir(path)
                    continue
                with path.open("rb") as file:
                    os.fsync(file.fileno())
            fsync_dir(temp)
            temp.chmod(0o755)
        aside = temp.with_name(f"{temp.name}.old")
        if folder.exists():
            os.replace(folder, aside)
        os.replace(temp, folder)
        fsync_dir(folder.parent)
        shutil.rmtree(aside, ignore_errors=True)
    finally:
        shutil.rmtree(temp, ignore_errors=True)


@cache
def _pid_space() -> str:
    """Eight digits of what process ids mean here: of this boot and container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        space = boot + os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return digest([space, socket.gethostname()])[:8]


def owner_mark() -> str:
    """What names a temporary file's owner, in the file's name."""
    return f"{os.getpid()}_{_pid_space()}"


def is_left_behind(name: str, prefix: str) -> bool:
    """Whether a temporary file or folder is of a process that has died.

    Args:
        name: Of the file: the prefix, an `owner_mark`, and more.
        prefix: How the names of such files begin.
    """
    return name.startswith(prefix) and is_alive(name[len(prefix) :]) is False


def is_alive(mark: str) -> bool | None:
    """Whether the owner of a temporary file lives.

    Args:
        mark: What follows the prefix in the file's name: an `owner_mark`, and more.

    Returns:
        None if it is no mark, or one of another machine or container.
    """
    pattern = rf"([0-9]{{1,9}})_{_pid_space()}(_[a-z0-9_]+)?(\.tmp|\.old)?"
    match = re.fullmatch(pattern, mark)
    return _is_running(int(match[1])) if match else None


def remove_of_the_dead(path: Path) -> None:
    """Removes temporary files and folders of a path whose process has died."""
    with suppress(OSError):
        for stray in path.parent.iterdir():
            if not is_left_behind(stray.name, f".{path.name}."):
                continue
            if stray.is_dir() and not stray.is_symlink():
                shutil.rmtree(stray, ignore_errors=True)
            else:
                stray.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # somebody else's
    return True


@contextmanager
def _named_after(folder: Path, temp: Path) -> Iterator[None]:
    """Lets an error of a temporary path, or of no path, name its folder."""
    try:
        yield
    except OSError as error:
        name = str(error.filename or temp)
        if error.errno is None or not name.startswith(str(temp)):
            raise
        raise OSError(error.errno, error.strerror, str(folder)) from error


class ForgivingFile(io.FileIO):
    """A file that keeps its first error to itself until asked.

    HDF5 crashes the process when a write fails on a full disk. It is told that all
    is well instead; the file is thrown away afterwards.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        """Writes all of the data, or remembers why not."""
        view = memoryview(data).cast("B")
        try:
            done = 0
            while done < len(view) and not self.error:
                done += super().write(view[done:])
        except OSError as error:
            self.error = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Changes the size, or remembers why not."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0

    def readinto(self, buffer: Any) -> int:
        """Reads; what could not be written reads as zeros."""
        done = super().readinto(buffer) or 0
        if self.error:
            memoryview(buffer).cast("B")[done:] = bytes(len(buffer) - done)
            return len(buffer)
        return done

    def raise_first_error(self) -> None:
        """Raises what went wrong, if anything did."""
        if self.error:
            raise self.error


def write_text(path: Path, text: str) -> None:
    """Writes a small text file atomically."""
    with atomic_path(path) as temp:
        temp.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def lock(
    path: Path,
    what: str,
    *,
    timeout: float = 0.0,
    on_takeover: Callable[[str], None] | None = None,
) -> Iterator[None]:
    """Holds an exclusive lock file for the duration of the block.

    The lock is the kernel's (flock), so it dies with its owner; the file's text
    (pid, host, time) only says who that is or was.

    Args:
        path: The lock file; it exists only while held, or after a crash.
        what: What is being written, for the error.
        timeout: Seconds to wait for another owner.
        on_takeover: Called with the description of a dead owner, if there was one.

    Raises:
        LockedError: Another live process holds it, or there are no locks.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    guard = FileLock(path, timeout=timeout)
    try:
        guard.acquire()
    except Timeout:
        raise LockedError(
            f"{what} is being written by {_owner(path) or 'another process'}",
            "Wait for it to end, or stop it; then run the command again.",
        ) from None
    except (NotImplementedError, OSError) as error:
        if getattr(error, "errno", None) not in _NO_LOCKS:
            raise
        raise LockedError(
            f"a file system with locks in {path.parent}",
            "one without (flock)",
            "Keep the cache and the reports on a local disk, or mount it with locks.",
        ) from error
    try:
        dead = _owner(path)
        if dead and on_takeover:
            on_takeover(f"took over the lock of {what} from {dead}, which has died")
        path.write_text(
            f"pid {os.getpid()} on {socket.gethostname()} "
            f"since {time.strftime('%Y-%m-%dT%H:%M:%S')}"
        )
        yield
    finally:
        # Unlinked while held: a waiter that opened this inode notices and retries.
        path.unlink(missing_ok=True)
        guard.release()


def _owner(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
