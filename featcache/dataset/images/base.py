"""What all decoders share: refusals, quiet libraries, and the scale of deep greys."""

import warnings

import numpy as np

from featcache.errors import UnreadableImageError


def unreadable(reason: str) -> UnreadableImageError:
    """The error of a file that is no picture for us."""
    return UnreadableImageError("an image", reason, "Replace the file.")


def hush(module: str) -> None:
    """Silences the warnings of a library about odd but readable files.

    Not by catch_warnings: decoding runs in threads, and it would swap the filters
    of the whole process under the others' feet.
    """
    if not any(getattr(f[3], "pattern", "") == module for f in warnings.filters):
        warnings.filterwarnings("ignore", module=module)


def stretch(pixels: np.ndarray, low: float, high: float) -> np.ndarray:
    """Puts ``low`` at 0 and ``high`` at 255, (H, W) uint8; what is beyond is clipped.

    ``low`` may be the larger: then the greys are turned round.
    """
    grey = (pixels - low) * (255.0 / ((high - low) or 1.0))
    return np.rint(grey).clip(0, 255).astype(np.uint8)


def scale_deep(pixels: np.ndarray, *, counts: bool) -> np.ndarray:
    """Scales deep greys (H, W) to uint8 by their bit depth, or by their extremes.

    A 16-bit container often holds 10, 12 or 14 bits; its range is the smallest of
    these depths that holds the brightest pixel.

    Args:
        pixels: Any numbers.
        counts: They are what a detector counted, so that a depth can be told.

    Raises:
        UnreadableImageError: Pixels are not finite.
    """
    pixels = pixels.astype(np.float64)
    if not np.isfinite(pixels).all():
        raise unreadable("pixels that are not finite")
    low, high = float(pixels.min()), float(pixels.max())
    if counts and low >= 0 and high <= 65535:
        low = 0.0
        high = next(top for b in (8, 10, 12, 14, 16) if high <= (top := 2.0**b - 1))
    return stretch(pixels, low, high)
