"""Baselines: rows of the table that need no network.

Where they tell the class, a network can tell it too without looking at any lung.
Raise ``VERSION`` with any change that moves a number: it is part of the contract.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from featcache.backbones.base import Backbone

if TYPE_CHECKING:
    from featcache.dataset.images import Picture

VERSION = 1
SIDE = 48
RING = 4  # pixels of the 48: a twelfth of the side
KINDS = (
    *("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP"),
    "DICOM",
)
MODES = (
    *("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB"),
    *("I", "I;16", "I;16B", "F"),
    *("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422"),
)

# From a size to a view of the picture, (size, size, 3) uint8.
Cut = Callable[[int], np.ndarray]


@dataclass(frozen=True)
class Baseline(Backbone):
    """A row of the table that is measured, and not run.

    Attributes:
        name: Its name in the table.
        measure: From a picture and the view of it to (D,) float32.
    """

    name: str = field(kw_only=True)
    measure: "Callable[[Picture, Cut], np.ndarray]" = field(kw_only=True)

    @property
    def architecture(self) -> str:
        """What is measured, as text for the contract."""
        return f"{self.name}, version {VERSION}"


def metadata(picture: "Picture", cut: Cut) -> np.ndarray:
    """What is known of a file without looking for anything in it.

    Width and height in pixels, their quotient, mean and standard deviation of the
    greys, then 1 for its mode of ``MODES`` and its type of ``KINDS``, and 0 for the
    others. All views of an image have those of the image.
    """
    width, height = picture.image.size
    numbers = [width, height, width / height, *picture.grey]
    modes = [picture.mode == mode for mode in MODES]
    kinds = [picture.kind == kind for kind in KINDS]
    return np.array([*numbers, *modes, *kinds], dtype=np.float32)


def pixels48(picture: "Picture", cut: Cut) -> np.ndarray:
    """The view at 48x48 pixels in grey, 0 to 255, row after row."""
    grey = Image.fromarray(cut(SIDE)).convert("L")
    return np.asarray(grey, dtype=np.float32).ravel()


def border(picture: "Picture", cut: Cut) -> np.ndarray:
    """The outer ring of ``pixels48``, 4 pixels wide, row after row."""
    ring = np.ones((SIDE, SIDE), bool)
    ring[RING:-RING, RING:-RING] = False
    return np.asarray(pixels48(picture, cut)[ring.ravel()])


def _row(
    name: str,
    measure: "Callable[[Picture, Cut], np.ndarray]",
    dim: int,
    input_size: int,
) -> Baseline:
    return Baseline(
        *("", "", dim, input_size, "none"), url="", md5="", name=name, measure=measure
    )


ROWS = {
    row.name: row
    for row in (
        _row("metadata", metadata, 5 + len(MODES) + len(KINDS), 0),
        _row("pixels48", pixels48, SIDE**2, SIDE),
        _row("border", border, SIDE**2 - (SIDE - 2 * RING) ** 2, SIDE),
    )
}
BASELINES = ("metadata", "pixels48", "border")
