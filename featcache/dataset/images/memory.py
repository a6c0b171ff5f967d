"""Memory of decoding: what one image may take, and what all threads together."""

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

from featcache.dataset.images.base import unreadable

LIMIT = 2**30  # bytes that decoding one image may take
TOTAL = 5 * 2**28  # bytes that the images being decoded may take together
_LARGE = 2**25  # bytes after which it is worth giving memory back to the system


class Budget:
    """Bytes that threads share: who needs more than is left waits for the others."""

    def __init__(self, total: int) -> None:
        self._total = self._left = total
        self._changed = threading.Condition()

    @contextmanager
    def reserve(self, size: int) -> Iterator[None]:
        """Keeps so many bytes for the block; who needs more than the total has it all.

        Not to be nested: two threads would wait for what the other one keeps.
        """
        kept = min(size, self._total)
        with self._changed:
            self._changed.wait_for(lambda: kept <= self._left)
            self._left -= kept
        try:
            yield
        finally:
            if size > _LARGE:
                _trim()()
            with self._changed:
                self._left += kept
                self._changed.notify_all()


@cache
def _trim() -> Callable[[], object]:
    """Gives freed memory back to the system, where the C library can (glibc).

    It keeps blocks of the size of Pillow's (16 MiB) for each thread that freed some.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return lambda: None
    trim.argtypes = [ctypes.c_size_t]
    return lambda: trim(0)


DECODING = Budget(TOTAL)


def check_size(width: int, height: int, bytes_per_pixel: float) -> int:
    """Bytes that decoding and converting an image of this size takes.

    Raises:
        UnreadableImageError: They are more than one image may take.
    """
    needed = int(width * height * bytes_per_pixel)
    if needed > LIMIT:
        raise unreadable(
            f"{width}x{height} pixels are too many: decoding would take "
            f"{needed / 2**30:.1f} GiB, and {LIMIT / 2**30:g} GiB is the most"
        )
    return needed
