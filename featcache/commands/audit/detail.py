"""Whether two images that look the same when small are the same in detail.

A copy keeps the fine structure of its image, whatever was done to brightness, size and
compression; two patients share the outline of the lungs, and no fine structure. Tiles
of one image are looked for in the other, which aligns the two (a copy may have another
frame); then their band-passed greys are correlated.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.stats import siegelslopes

from featcache.commands.audit.similarity import PairTable
from featcache.core.progress import SILENT, Reporter
from featcache.dataset import images, sources
from featcache.dataset.near_duplicates import unit
from featcache.dataset.similar_pairs import Pairs
from featcache.dataset.urls import Location
from featcache.errors import UnreadableImageError

# Above it two images are the same. Chosen by looking, between planted copies and the
# most similar pairs of different patients: docs/decisions/0050-audit-figures.md.
DETAIL = 0.89
MOST = 10_000  # pairs that are compared, some hundredths of a second each
_SIDE = 192  # pixels
_FINE, _COARSE = 1.5, 4.0  # standard deviations in pixels between which the band is
_TILE, _REACH = 32, 8  # pixels of a tile, and how far away it is looked for
_TILES = range(_REACH, _SIDE - _TILE - _REACH + 1, _TILE)
_CLEAR = 0.3  # share of the tiles, the least alike, that do not count
_ROUNDS = 2
_STORED = 256  # pixels of an image that is kept for its next pair
_FLAT = 1e-6
_BILINEAR = Image.Resampling.BILINEAR


class Moves(NamedTuple):
    """Where tiles of one picture are in another, in pixels.

    Attributes:
        at: (T, 2) their centres, x and y.
        by: (T, 2) how far they have moved.
        alike: (T,) their correlations there.
    """

    at: NDArray[np.float64]
    by: NDArray[np.float64]
    alike: NDArray[np.float64]


def confirmed(
    candidates: Iterable[Pairs],
    root: Location,
    paths: Sequence[str],
    *,
    reporter: Reporter = SILENT,
) -> PairTable:
    """The pairs that are the same in detail, of those that look the same when small.

    At most `MOST` are compared, the least alike ones. Others, and those of an image
    that cannot be read, stay.

    Args:
        candidates: Pairs of rows.
        root: The folder or zip that the paths are relative to.
        paths: Of the images, a row each.
        reporter: Hears of the pairs compared.
    """
    table, compare = PairTable(candidates), comparison(root, paths)
    pairs = table.least_alike(MOST)
    for done, (i, j) in enumerate(pairs, 1):
        table.set_detail(i, j, compare(i, j), DETAIL)
        reporter.progress("compare in detail", done, len(pairs))
    return table


def comparison(root: Location, paths: Sequence[str]) -> Callable[[int, int], float]:
    """The correlation in detail of two rows; NaN where an image cannot be read."""

    @lru_cache(maxsize=1024)
    def read(row: int) -> Image.Image | None:
        try:
            image = images.decode(sources.read_bytes(root, paths[row])).convert("L")
        except (OSError, UnreadableImageError):
            return None
        width, height = (min(side, _STORED) for side in image.size)
        return image.resize((width, height), _BILINEAR)

    def compare(i: int, j: int) -> float:
        a, b = read(i), read(j)
        return float("nan") if a is None or b is None else correlation(a, b)

    return compare


def correlation(a: Image.Image, b: Image.Image) -> float:
    """Correlation of the fine structure of two grey images, once they are aligned."""
    boxes = np.array([[[0, 0], a.size], [[0, 0], b.size]], float)
    for left in reversed(range(_ROUNDS + 1)):
        bands = [band(image, box) for image, box in zip((a, b), boxes, strict=True)]
        if left:
            boxes = common(boxes, moves(*bands))
    first, last = unit(np.stack([part.ravel() for part in bands])).astype(float)
    return float(first @ last)


def band(image: Image.Image, box: NDArray[np.float64]) -> NDArray[np.float32]:
    """The fine structure (S, S) of a part of an image, from corner to corner."""
    left, top, right, bottom = box.ravel().tolist()
    grey = image.resize((_SIDE, _SIDE), _BILINEAR, box=(left, top, right, bottom))
    greys = np.asarray(grey, np.float32)
    fine: NDArray[np.float32] = gaussian_filter(greys, _FINE)
    fine -= gaussian_filter(greys, _COARSE)
    return fine


def moves(a: NDArray[np.float32], b: NDArray[np.float32]) -> Moves:
    """Where each tile of one picture (S, S) is in another."""
    rows = []
    for top in _TILES:
        for left in _TILES:
            tile = a[top : top + _TILE, left : left + _TILE].ravel()
            near = (slice(at - _REACH, at + _TILE + _REACH) for at in (top, left))
            windows = sliding_window_view(b[tuple(near)], (_TILE, _TILE))
            views = windows.reshape(-1, _TILE**2)
            norms = np.linalg.norm(views, axis=1) * np.linalg.norm(tile)
            alike = views @ tile / np.maximum(norms, _FLAT)
            y, x = divmod(int(alike.argmax()), 2 * _REACH + 1)
            rows.append([left + _TILE / 2, top + _TILE / 2, x - _REACH, y - _REACH,
                         alike.max()])  # fmt: skip
    table = np.array(rows)
    return Moves(table[:, :2], table[:, 2:4], table[:, 4])


def common(boxes: NDArray[np.float64], moved: Moves) -> NDArray[np.float64]:
    """The parts of two images that show the same, (2, corners, axes) in their pixels.

    A line through the moves, along each axis, says where the first image's edges are
    in the second (Siegel's repeated medians, which ignore tiles that were mistaken).
    """
    clear = moved.alike >= np.quantile(moved.alike, _CLEAR)
    new = boxes.copy()
    for axis in (0, 1):
        slope, start = siegelslopes(moved.by[clear, axis], moved.at[clear, axis])[:2]
        low, scale = start / _SIDE, 1 + slope
        inside = np.clip([low, low + scale], 0, 1)
        for box, edges in ((0, (inside - low) / scale), (1, inside)):
            first, last = boxes[box, :, axis]
            new[box, :, axis] = first + edges.clip(0, 1) * (last - first)
    return new
