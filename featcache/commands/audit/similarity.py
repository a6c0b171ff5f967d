"""Pairs of pictures that look the same, however many there are."""

import errno
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import combinations, product

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from featcache.dataset.near_duplicates import unit
from featcache.dataset.similar_pairs import (
    Pairs,
    pairs_above,
    products,
    sort_into_boxes,
)
from featcache.dataset.thumbs import resize_all

BITS = 2  # of 64 that may differ between perceptual hashes of one picture
_CHUNK = 2**16  # pairs that are looked at together
_CACHE = 64  # MiB of pairs in memory
_EDGES = [
    (left, top, right, bottom)
    for left, top, right, bottom in product((0, 1), repeat=4)
    if left or top or right or bottom
]
_PIECES = [np.uint64(0xFFFF << start) for start in range(0, 64, 16)]


class PairTable:
    """Pairs of rows, each once with its largest product.

    They are in a temporary file where they do not fit into 64 MiB.

    Attributes:
        dropped: How many are the same only when small, and are no pairs any more.
    """

    def __init__(self, pairs: Iterable[Pairs]) -> None:
        """Collects pairs; one may come several times, and either way round.

        Raises:
            OSError: The disk is full; also of `chunks`.
        """
        self._base = sqlite3.connect("")
        self._base.execute(f"PRAGMA cache_size = -{_CACHE * 1024}")
        self._base.execute("PRAGMA journal_mode = OFF")
        self._base.execute(
            "CREATE TABLE pairs (a INTEGER, b INTEGER, product REAL, detail REAL,"
            " PRIMARY KEY (a, b)) WITHOUT ROWID"
        )
        self.dropped = 0
        for i, j, value in pairs:
            first, last = np.minimum(i, j).tolist(), np.maximum(i, j).tolist()
            with _as_os_errors():
                self._base.executemany(
                    "INSERT INTO pairs VALUES (?, ?, ?, NULL) ON CONFLICT DO UPDATE"
                    " SET product = max(product, excluded.product)",
                    zip(first, last, value.tolist(), strict=True),
                )

    def least_alike(self, most: int) -> list[tuple[int, int]]:
        """The pairs with the least products, in the order of their rows."""
        order = "SELECT a, b FROM pairs ORDER BY product, a, b LIMIT ?"
        with _as_os_errors():
            return sorted(self._base.execute(order, [most]).fetchall())

    def set_detail(self, a: int, b: int, value: float, least: float) -> None:
        """Notes how alike a pair is in detail, or drops it where that is too little.

        Args:
            a: Its first row.
            b: Its last row.
            value: The correlation; NaN where it is not known, which keeps the pair.
            least: What a pair has to reach.
        """
        with _as_os_errors():
            if value < least:
                self.dropped += 1
                self._base.execute("DELETE FROM pairs WHERE (a, b) = (?, ?)", (a, b))
            else:
                update = "UPDATE pairs SET detail = ? WHERE (a, b) = (?, ?)"
                self._base.execute(update, (value, a, b))

    @property
    def unconfirmed(self) -> int:
        """How many were not compared in detail."""
        count = "SELECT count(*) FROM pairs WHERE detail IS NULL"
        return int(self._base.execute(count).fetchone()[0])

    def chunks(self) -> Iterator[pd.DataFrame]:
        """Yields all pairs, the largest product first, some at a time.

        Columns a, b (rows, a < b), product and detail (NaN where the images were not
        compared in detail); at least one table.
        """
        order = "SELECT * FROM pairs ORDER BY product DESC, a, b"
        types = {"a": int, "b": int, "product": float, "detail": float}
        with _as_os_errors():
            cursor = self._base.execute(order)
            some = cursor.fetchmany(_CHUNK)
            while True:
                yield pd.DataFrame(some, columns=[*types]).astype(types)
                if not (some := cursor.fetchmany(_CHUNK)):
                    return


@contextmanager
def _as_os_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        where = "the temporary folder ($TMPDIR)"
        raise OSError(errno.ENOSPC, str(error), where) from error


def cut_alike(pictures: np.ndarray, least: float) -> Iterator[Pairs]:
    """Pairs that are alike only once a thirty-second is cut off an edge or several.

    Each picture is cut in 15 ways, brought back to its size, and compared with all
    others as they are.

    Args:
        pictures: (N, D) uint8, greys of square pictures.
        least: The correlation above which two are alike.

    Yields:
        Pairs with the correlation after a cut; each as often as it is found.
    """
    if not len(pictures):
        return
    boxes, own = sort_into_boxes(pictures, unit), np.arange(len(pictures))
    for edges in _EDGES:
        scale = partial(_cut_to_unit, edges=edges)
        for i, j, value in pairs_above(
            pictures, least, scale=scale, others=boxes, joined=own
        ):
            new = products(boxes, i, boxes, j) <= least
            yield Pairs(i[new], j[new], value[new])


def _cut_to_unit(
    pictures: np.ndarray, *, edges: tuple[int, int, int, int]
) -> NDArray[np.float32]:
    side = int(pictures.shape[1] ** 0.5)
    return unit(resize_all(pictures, side, cut=edges))


def near_hashes(hashes: NDArray[np.uint64]) -> Iterator[Pairs]:
    """Pairs of 64-bit hashes that differ in at most `BITS` bits.

    Two such hashes agree in at least two of four pieces of 16 bits, so that only those
    that do are compared: neighbours in the order of two pieces.

    Args:
        hashes: (N,).

    Yields:
        Pairs, each once, with the share of bits that agree less that of those that
        do not.
    """
    before: list[np.uint64] = []
    for mask in (a | b for a, b in combinations(_PIECES, 2)):
        order = np.argsort(hashes & mask, kind="stable")
        keys, step = (hashes & mask)[order], 1
        at = np.arange(len(keys) - 1)
        while len(at := at[keys[at] == keys[at + step]]):
            i, j = order[at], order[at + step]
            differ = hashes[i] ^ hashes[j]
            bits = np.bitwise_count(differ)
            near = bits <= BITS
            for other in before:  # where they were found already
                near &= (differ & other) != 0
            yield Pairs(i[near], j[near], 1 - bits[near] / 32)
            step += 1
            at = at[at + step < len(keys)]
        before.append(mask)
