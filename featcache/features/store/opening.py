"""Opening HDF5 for reading: what is damaged, and what only cannot be opened now."""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from featcache.errors import FeatcacheError, StoreError, StoreUnavailableError

MAKE = "Run: featcache extract SOURCE -b BACKBONE"
_SAFE = "Nothing is wrong with its content, and nothing is done to it."
# Why a file cannot be opened or read, without a word about its content.
_REASONS = {
    errno.EACCES: ("no permission", "Change its permissions, or ask its owner."),
    errno.EPERM: ("no permission", "Change its permissions, or ask its owner."),
    errno.EAGAIN: (
        "another program that has it open for writing",
        "Close that program, or wait for it.",
    ),
    errno.EMFILE: ("too many open files", "Raise the limit, as by: ulimit -n 4096"),
    errno.ENFILE: ("too many open files", "Close other programs."),
    errno.ENOMEM: ("not enough memory", "Close other programs."),
    **{
        code: (os.strerror(code).lower(), "Check the disk and the connection to it.")
        for code in (
            *(errno.EIO, errno.ENXIO, errno.ENODEV, errno.EBUSY, errno.EINTR),
            *(errno.ENOSPC, errno.EDQUOT, errno.ELOOP, errno.ENAMETOOLONG),
            *(errno.ESTALE, errno.ETIMEDOUT, errno.EREMOTEIO, errno.ENOTCONN),
            *(errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN),
        )
    },
}


@contextmanager
def reading(path: Path) -> Iterator[h5py.File]:
    """Opens HDF5 for reading and turns its errors into ours.

    HDF5's own lock is not taken, for not every file system has locks; a program that
    holds it for writing is respected nevertheless.

    Raises:
        StoreError: No such file, or its content cannot be read: it is damaged.
        StoreUnavailableError: The system does not let us read it now.
    """
    _refuse_unavailable(path)
    try:
        file = h5py.File(path, "r", locking=False)
    except Exception as error:
        raise _explained(path, error, "no readable HDF5") from error
    try:
        with file:
            yield file
    except FeatcacheError:
        raise
    except Exception as error:  # what HDF5 makes of a damaged file may be of any type
        raise _explained(path, error, "unreadable content") from error


def _refuse_unavailable(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError("a feature store", f"no such file: {path}", MAKE) from None
    except OSError as error:
        raise unavailable(path, error) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise StoreError("a feature store", f"no file, but {path}", MAKE)
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise unavailable(path, error) from error
    except OSError:
        pass  # a file system without locks
    finally:
        os.close(descriptor)


def _explained(path: Path, error: Exception, what: str) -> StoreError:
    if isinstance(error, MemoryError):
        error = OSError(errno.ENOMEM, "")
    if isinstance(error, OSError) and error.errno in _REASONS:
        return unavailable(path, error)
    text = " ".join(str(error).split()) or type(error).__name__
    return damaged(path, f"{what} ({text})")


def unavailable(path: Path, error: OSError) -> StoreUnavailableError:
    """The error of a file that the system does not let us read now."""
    other = (error.strerror or str(error), "Check the disk and the connection to it.")
    reason, hint = _REASONS.get(error.errno or 0, other)
    return StoreUnavailableError(f"to open {path}", reason, f"{hint} {_SAFE}")


def damaged(path: Path, got: str) -> StoreError:
    """The error of a file that is not what was sealed."""
    return StoreError(
        f"the bytes that were written to {path}",
        got,
        "The disk or another program changed the file; delete it and extract again.",
    )
