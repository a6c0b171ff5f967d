"""Poolings: from a map (N, H, W, C) to one vector an image.

A region of a grid covers the rows from floor(i * H / n) to ceil((i + 1) * H / n), and
columns likewise, as adaptive average pooling has it. Its vectors stand region by
region, row by row of the grid: (N, n * n * C).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from featcache.core.registry import Registry
from featcache.core.taps import AVG, GEM, MAX

if TYPE_CHECKING:
    import keras

POWER = 3.0  # of gem (Radenovic et al. 2018)
LEAST = 1e-6  # gem takes smaller values for this
Region = tuple[slice, slice]  # its rows and columns


@dataclass(frozen=True)
class Pooling:
    """One way to pool a map.

    Attributes:
        kind: "avg", "max" or "gem", the mean of third powers under its root.
        grid: Regions a side that are pooled each for itself; 1 for the whole map.
    """

    kind: str
    grid: int = 1

    @property
    def factor(self) -> int:
        """Numbers for each channel of the map."""
        return self.grid**2

    def regions(self, height: int, width: int) -> list[Region]:
        """The regions of a map, in the order of their vectors."""
        rows, columns = _ends(self.grid, height), _ends(self.grid, width)
        return [(row, column) for row in rows for column in columns]

    def __call__(self, maps: Any, ops: Any = np) -> Any:
        """Pools maps.

        Args:
            maps: (N, H, W, C).
            ops: ``numpy``, or ``keras.ops`` for tensors of Keras.

        Returns:
            (N, factor * C).
        """
        if self.kind == MAX:
            return ops.max(maps, axis=(1, 2))
        if self.kind == GEM:
            powers = ops.maximum(maps, LEAST) ** POWER
            return ops.mean(powers, axis=(1, 2)) ** (1 / POWER)
        if self.grid == 1:
            return ops.mean(maps, axis=(1, 2))
        _, height, width, channels = maps.shape
        cells = ops.reshape(maps, (-1, height * width, channels))
        means = ops.matmul(averaging(self.grid, height, width), cells)
        return ops.reshape(means, (-1, self.factor * channels))


POOLINGS = Registry(
    "pooling",
    {
        AVG: Pooling(AVG),
        MAX: Pooling(MAX),
        GEM: Pooling(GEM),
        "grid2": Pooling(AVG, 2),
        "grid3": Pooling(AVG, 3),
    },
)


def averaging(grid: int, height: int, width: int) -> np.ndarray:
    """The matrix that takes cells to the means of the regions of a grid.

    Args:
        grid: Regions a side, n.
        height: Rows of cells, H.
        width: Columns of cells, W.

    Returns:
        (n * n, H * W) float32, whose rows sum to 1: times cells (H * W, C), in the
        order of the rows of the map, it gives the means (n * n, C).
    """
    regions = Pooling(AVG, grid).regions(height, width)
    matrix = np.zeros((len(regions), height, width), np.float32)
    for weights, region in zip(matrix, regions, strict=True):
        weights[region] = 1 / weights[region].size
    return matrix.reshape(len(regions), -1)


def poolings_of(text: str, option: str) -> list[str]:
    """The poolings that a text such as "avg+grid2" names, each once.

    Args:
        text: Names of `POOLINGS` with "+" or commas between.
        option: Which option the text is of, for the error.

    Raises:
        UnknownNameError: There is no such pooling; the nearest are offered.
    """
    table = Registry(f"pooling for `{option}`", dict(POOLINGS.items()))
    names = [name.strip() for name in text.replace("+", ",").split(",")]
    for name in names:
        table[name]
    return list(dict.fromkeys(names))


def last_map(core: "keras.Model") -> Any:
    """The map whose mean is the embedding; None where it is not the mean of any.

    Some networks normalise the mean (a ConvNeXt does); theirs is the map before.
    """
    ends = [type(layer).__name__ for layer in core.layers[-2:]]
    if ends[-1] == "GlobalAveragePooling2D":
        return core.layers[-1].input
    if ends == ["GlobalAveragePooling2D", "LayerNormalization"]:
        return core.layers[-2].input
    return None


def _ends(grid: int, size: int) -> list[slice]:
    return [slice(i * size // grid, -(-(i + 1) * size // grid)) for i in range(grid)]
