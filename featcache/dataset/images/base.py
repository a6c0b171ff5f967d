"""What all decoders share: refusals, reasons, and quiet libraries."""

import ctypes
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

from PIL import Image

from featcache.errors import UnreadableImageError

_LONGEST = 300  # characters of a reason
# Of these the decoders raise with a text for users.
_IN_WORDS = (
    *(OSError, RuntimeError, SyntaxError, ValueError, AttributeError),
    Image.DecompressionBombError,
)


def unreadable(reason: str) -> UnreadableImageError:
    """The error of a file that is no picture for us, for a reason in one line.

    What a file or a decoder contributes to it may hold anything.
    """
    text = "".join(c if c.isprintable() else " " for c in reason)
    text = " ".join(text.split())[:_LONGEST]
    return UnreadableImageError("an image", text, "Replace the file.")


@contextmanager
def reasons() -> Iterator[None]:
    """Turns whatever a decoder raises over odd bytes into one line of a reason.

    Decoders raise almost anything, also MemoryError and RecursionError: which is
    theirs and which is ours cannot be told by the type.

    Raises:
        UnreadableImageError: The block raised an exception.
    """
    try:
        yield
    except UnreadableImageError:
        raise
    except MemoryError as error:
        raise unreadable("decoding it takes more memory than there is") from error
    except Exception as error:
        text, kind = str(error).strip(), type(error).__name__
        if isinstance(error, OSError) and text.startswith("decoder error"):
            text = f"damaged pixel data ({text})"
        elif not isinstance(error, _IN_WORDS):
            text = f"damaged: its decoder fails with {kind} ({text or 'no text'})"
        raise unreadable(text or kind) from error


def hush(library: str) -> None:
    """Silences what a library says about odd files: the reason says it.

    Not by catch_warnings: decoding runs in threads, and it would swap the filters
    of the whole process under the others' feet. Who has set up logging still gets
    the library's records.
    """
    module = rf"{library}\."
    if not any(getattr(f[3], "pattern", "") == module for f in warnings.filters):
        warnings.filterwarnings("ignore", module=module)
    _quiet_logger(library)


@cache
def _quiet_logger(library: str) -> None:
    logging.getLogger(library).addHandler(logging.NullHandler())


@cache
def quiet_libtiff() -> None:
    """Stops libtiff from writing to stderr, where Pillow's copy can be reached.

    Pillow raises the error as well. Redirecting the file descriptor would also take
    what other threads write.
    """
    from PIL import _imaging

    with suppress(OSError, AttributeError):
        set_handler = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
        set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
        set_handler(None)
