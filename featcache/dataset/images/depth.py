"""From the values that a file stores to 8 bits: one way for all kinds of files."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from featcache.dataset.images.base import unreadable

Curve = Callable[[np.ndarray], np.ndarray]
Span = tuple[float, float]
_BLOCK = 2**18  # pixels worked on at a time, in float64
_WIDEST = np.finfo(np.float64).max / 512
_NO_SPAN = 1e-300
_DEPTHS = (8, 10, 12, 14, 16)


class Reading(NamedTuple):
    """How the values of a file are to be read.

    Attributes:
        span: What becomes 0 and 255, after the curve; the first may be the larger.
            None for what the pixels hold: see ``to_8_bits``.
        curve: From stored values to shown ones, float64 to float64; None for none.
        counts: The shown values are what a detector counted, so that without a span
            their depth can be told.
        inverted: The smallest value is white.
    """

    span: Span | None = None
    curve: Curve | None = None
    counts: bool = False
    inverted: bool = False


def to_8_bits(
    pixels: np.ndarray, reading: Reading, padding: np.ndarray | None = None
) -> np.ndarray:
    """Turns stored values into 8 bits.

    Without a span, the smallest depth of 8, 10, 12, 14 and 16 bits that holds the
    brightest pixel becomes 0 to 255, for a 16-bit container often holds fewer; of
    values that are no counts, or negative, or larger, the extremes.

    Args:
        pixels: (...) numbers, as stored.
        reading: How to read them.
        padding: (...) bool, which of them are no picture: these become black, and the
            others do not depend on them.

    Returns:
        (...) uint8.

    Raises:
        UnreadableImageError: Values are not finite, or there is only padding.
    """
    if padding is not None and padding.all():
        raise unreadable("all pixels are padding")
    low, high = reading.span or _span(pixels, reading, padding)
    span = high - low
    scale = 255.0 / span if abs(span) > _NO_SPAN else 1.0
    grey = np.empty(pixels.size, np.uint8)
    start = 0
    for values, visible in _blocks(pixels, reading, padding):
        shades = np.rint((values - low) * scale).clip(0, 255).astype(np.uint8)
        if reading.inverted:
            shades = 255 - shades
        grey[start : start + len(shades)] = shades * visible
        start += len(shades)
    return grey.reshape(pixels.shape)


def _span(pixels: np.ndarray, reading: Reading, padding: np.ndarray | None) -> Span:
    low, high = np.inf, -np.inf
    for values, visible in _blocks(pixels, reading, padding):
        low = min(low, values.min(initial=np.inf, where=visible))
        high = max(high, values.max(initial=-np.inf, where=visible))
    if reading.counts and low >= 0 and high <= 2 ** _DEPTHS[-1] - 1:
        return 0.0, next(top for b in _DEPTHS if high <= (top := 2.0**b - 1))
    if high / 2 - low / 2 > _WIDEST:
        raise unreadable("pixels whose range is too wide")
    return float(low), float(high)


def _blocks(
    pixels: np.ndarray, reading: Reading, padding: np.ndarray | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the shown values of some pixels at a time, and which are picture."""
    stored, hidden = pixels.reshape(-1), None if padding is None else padding.ravel()
    for start in range(0, len(stored), _BLOCK):
        block = slice(start, start + _BLOCK)
        values = stored[block].astype(np.float64)
        visible = np.ones(len(values), bool) if hidden is None else ~hidden[block]
        values[~visible] = 0.0
        with np.errstate(over="ignore", invalid="ignore"):
            greys = reading.curve(values) if reading.curve else values
        if not (np.isfinite(values).all() and np.isfinite(greys).all()):
            raise unreadable("pixels that are not finite")
        yield greys, visible
