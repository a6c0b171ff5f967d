"""Pairs of pictures that look the same."""

from collections.abc import Iterable, Iterator
from itertools import product

import numpy as np
import pandas as pd
from PIL import Image

from featcache.dataset.near_duplicates import unit
from featcache.dataset.similar_pairs import Pairs, Scale, pairs_above


def alike(rows: np.ndarray, least: float, scale: Scale) -> pd.DataFrame:
    """Pairs of rows whose product is above a limit.

    Args:
        rows: (N, ...) in any form.
        least: The limit.
        scale: Brings rows to unit length, (n, D) float32, or zeros.

    Returns:
        Columns a, b (rows, a < b) and product, the largest product first.
    """
    return _table(pairs_above(rows, least, scale=scale))


def cut_alike(pictures: np.ndarray, least: float) -> pd.DataFrame:
    """Pairs that are alike once up to a thirty-second is cut off an edge or several.

    Each picture is cut in 15 ways, brought back to its size, and compared with all
    others as they are.

    Args:
        pictures: (N, D) greys of square pictures.
        least: The correlation above which two are alike.

    Returns:
        As `alike`, of the largest correlation of each pair.
    """
    own = np.arange(len(pictures))
    return _table(
        pairs
        for cut in _cuts(pictures)
        for pairs in pairs_above(cut, least, scale=unit, others=pictures, joined=own)
    )


def _table(some: Iterable[Pairs]) -> pd.DataFrame:
    pairs = [Pairs(*(np.empty(0, int),) * 2, np.empty(0)), *some]
    i, j, products = map(np.concatenate, zip(*pairs, strict=True))
    a, b = np.minimum(i, j), np.maximum(i, j)
    table = pd.DataFrame({"a": a, "b": b, "product": products})
    table = table.sort_values(["product", "a", "b"], ascending=[False, True, True])
    return table.drop_duplicates(["a", "b"], ignore_index=True)


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
