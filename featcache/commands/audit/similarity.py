"""Pairs of pictures that look the same."""

from collections.abc import Iterator
from itertools import product

import numpy as np
from PIL import Image

from featcache.dataset.near_duplicates import unit

_BLOCK = 1024


def alike(rows: np.ndarray, least: float) -> list[tuple[int, int, float]]:
    """Pairs of rows whose product is above a limit.

    Args:
        rows: (N, D) of one length, or zeros.
        least: The limit.

    Returns:
        (i, j, product) with i < j, the largest product first.
    """
    pairs: list[tuple[int, int, float]] = []
    for start in range(0, len(rows), _BLOCK):
        products = rows[start : start + _BLOCK] @ rows[start:].T
        i, j = np.nonzero(np.triu(products > least, k=1))
        at = (i + start).tolist(), (j + start).tolist()
        pairs += zip(*at, products[i, j].tolist(), strict=True)
    return sorted(pairs, key=lambda pair: -pair[2])


def cut_alike(pictures: np.ndarray, least: float) -> list[tuple[int, int, float]]:
    """Pairs that are alike once up to a thirty-second is cut off an edge or several.

    Each picture is cut in 15 ways, brought back to its size, and compared with all
    others as they are.

    Args:
        pictures: (N, D) greys of square pictures.
        least: The correlation above which two are alike.

    Returns:
        As `alike`, of the largest correlation of each pair.
    """
    whole, best = unit(pictures), dict[tuple[int, int], float]()
    for cut in _cuts(pictures):
        rows = unit(cut)
        for start in range(0, len(rows), _BLOCK):
            products = rows[start : start + _BLOCK] @ whole.T
            for i, j in np.argwhere(products > least).tolist():
                pair = min(start + i, j), max(start + i, j)
                best[pair] = max(best.get(pair, 0.0), float(products[i, j]))
    pairs = [(i, j, value) for (i, j), value in best.items() if i < j]
    return sorted(pairs, key=lambda pair: -pair[2])


def _cuts(pictures: np.ndarray) -> Iterator[np.ndarray]:
    """The pictures (N, D) without a row or column of pixels at some of their edges."""
    side = int(pictures.shape[1] ** 0.5)
    squares = [Image.fromarray(one.reshape(side, side)) for one in pictures]
    for left, top, right, bottom in product((0, 1), repeat=4):
        if left or top or right or bottom:
            box = (left, top, side - right, side - bottom)
            yield np.stack([
                np.asarray(
                    one.resize((side, side), Image.Resampling.BILINEAR, box=box)
                ).ravel()
                for one in squares
            ])  # fmt: skip
