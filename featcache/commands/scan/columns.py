"""What is known of each file of a listing, held as columns."""

import sys

import numpy as np
import pandas as pd

from featcache.commands.scan.files import File, Picture
from featcache.dataset.manifest import UNREADABLE, Manifest

FLAT = "flat: all pixels have one grey value"  # the reason of such an image
MEASURED = ("width", "height", "mode", "phash")
_NO_PICTURE = Picture(0, 0, "", "", flat=False)


class Columns:
    """Facts by row of a listing.

    Attributes:
        is_read: (N,) bool, whether the file was read, or cannot be.
        is_measured: (N,) bool, whether width to flat are known.
        image_id: (N,) str, and so ``mode``, ``phash``, ``reason``, ``patient``.
        size: (N,) int64, bytes; ``width`` and ``height`` in pixels.
        flat: (N,) bool, whether all pixels have one grey value.
    """

    def __init__(self, n: int) -> None:
        self.is_read, self.is_measured, self.flat = (np.zeros(n, bool) for _ in "123")
        self.size, self.width, self.height = (np.zeros(n, np.int64) for _ in "123")
        self.image_id, self.mode, self.phash = (np.full(n, "", object) for _ in "123")
        self.reason, self.patient = (np.full(n, "", object) for _ in "12")

    def put(self, row: int, file: File) -> None:
        """Keeps what a file tells."""
        self.is_read[row] = True
        self.image_id[row], self.size[row] = file.image_id, file.size
        self.reason[row] = sys.intern(file.reason)
        self.patient[row] = sys.intern(file.patient)
        self.is_measured[row] = file.picture is not None
        picture = file.picture or _NO_PICTURE
        self.width[row], self.height[row] = picture.width, picture.height
        self.mode[row], self.phash[row] = sys.intern(picture.mode), picture.phash
        self.flat[row] = picture.flat

    def fill(self, facts: pd.DataFrame) -> None:
        """Completes the rows of known images.

        Args:
            facts: ``MEASURED`` and ``flat`` by image_id.
        """
        at = facts.index.get_indexer(pd.Index(self.image_id))
        rows = np.flatnonzero((at >= 0) & ~self.is_measured & (self.reason == ""))
        for name in (*MEASURED, "flat"):
            getattr(self, name)[rows] = facts[name].to_numpy()[at[rows]]
        self.is_measured[rows] = True

    def spread(self, rows: np.ndarray) -> None:
        """Completes the copies of images that were just decoded, or could not be.

        Args:
            rows: Those decoded, one of each image.
        """
        first = {self.image_id[row]: row for row in rows if self.image_id[row]}
        for row in np.flatnonzero(~self.is_measured & (self.reason == "")):
            if (source := first.get(self.image_id[row])) is not None:
                for name in (*MEASURED, "flat", "reason", "is_measured"):
                    getattr(self, name)[row] = getattr(self, name)[source]


def facts_of(manifest: Manifest) -> pd.DataFrame:
    """What an earlier scan measured of the images that it could read, by image_id."""
    readable = manifest.table[manifest.table["status"] != UNREADABLE]
    readable = readable.assign(flat=readable["reason"] == FLAT).sort_values("flat")
    facts = readable.drop_duplicates("image_id", keep="last").set_index("image_id")
    return facts[[*MEASURED, "flat"]]
