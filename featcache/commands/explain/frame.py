"""Frames: the part of an image that networks see, which maps are drawn on.

A network that crops images sees less than all of one; with black bars beside it, it
sees more. The frame of a model is the smallest rectangle with all that its networks
see, and each network's map lies in it where that network looked.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from PIL import Image

from featcache.dataset.views import Resize, window


class Area(NamedTuple):
    """Ends of a rectangle, as shares of a frame's height and width."""

    top: float = 0.0
    bottom: float = 1.0
    left: float = 0.0
    right: float = 1.0

    def pixels(self, boxes: np.ndarray, side: int) -> np.ndarray:
        """Rectangles of the frame on the pixels of a square that fills this area.

        Args:
            boxes: (B, 4) ends in the order of an area's, as shares of the frame.
            side: Of the square in pixels.

        Returns:
            (B, 4) whole numbers, from 0 to the side.
        """
        starts = np.array([self.top, self.top, self.left, self.left])
        lengths = np.repeat([self.bottom - self.top, self.right - self.left], 2)
        ends = np.rint((boxes - starts) / lengths * side)
        return np.asarray(np.clip(ends, 0, side).astype(int))

    def cells(self, side: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Which cells of the frame are at the pixels of a square that fills this area.

        Args:
            side: Of the square in pixels.
            count: Rows, and columns, of the frame.

        Returns:
            Rows (side,) and columns (side,).
        """
        at = (np.arange(side) + 0.5) / side
        rows = self.top + at * (self.bottom - self.top)
        columns = self.left + at * (self.right - self.left)
        return (rows * count).astype(int), (columns * count).astype(int)


WHOLE = Area()


@dataclass(frozen=True)
class Frame:
    """A rectangle in the pixels of an image; black where it goes beyond the image.

    Attributes:
        box: Left, top, right and bottom.
    """

    box: tuple[float, float, float, float]

    @classmethod
    def of(cls, resizes: Iterable[Resize], size: tuple[int, int]) -> Self:
        """All that networks see of an image.

        Args:
            resizes: How each brings it to its input.
            size: Width and height of the image.
        """
        boxes = np.array([window(resize, size) for resize in resizes])
        left, top = boxes[:, :2].min(axis=0).tolist()
        right, bottom = boxes[:, 2:].max(axis=0).tolist()
        return cls((left, top, right, bottom))

    def area(self, resize: Resize, size: tuple[int, int]) -> Area:
        """Where in the frame a network looks at an image of this size."""
        left, top, right, bottom = self.box
        box = window(resize, size)
        rows = [(y - top) / (bottom - top) for y in (box[1], box[3])]
        columns = [(x - left) / (right - left) for x in (box[0], box[2])]
        return Area(rows[0], rows[1], columns[0], columns[1])

    def cut(self, image: Image.Image) -> Image.Image:
        """What it shows of an image, to the nearest pixel."""
        left, top, right, bottom = map(round, self.box)
        if (left, top, right, bottom) == (0, 0, *image.size):
            return image
        return image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
