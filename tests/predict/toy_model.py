"""A model whose answers can be computed by hand: how bright is the picture?"""

import csv
import io
from collections.abc import Collection, Sequence

import numpy as np

from featcache.deploy.answers import Scored
from featcache.deploy.model import Candidate

CLASSES = ["bright", "dark"]
COLUMNS = [
    "path", "image_id", "status", "reason", "in_training", "class",
    "p_bright", "p_dark", "zone_bright", "bright_at_95", "distance",
    "nearest_id", "nearest_label", "nearest_distance",
]  # fmt: skip


def csv_rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


class ToyModel:
    """Says bright with the mean grey over 255; refuses what is below 40.

    Attributes:
        training_ids: Of the images that it was trained on.
        batches: Images in each call.
    """

    name = "toy"
    classes = CLASSES
    flag_columns = ("bright_at_95",)
    zone_columns = ("zone_bright",)
    score_columns = ("distance",)

    def __init__(self, training_ids: Collection[str] = ()) -> None:
        self.training_ids = training_ids
        self.batches: list[int] = []

    def answer(self, batch: Sequence[Candidate]) -> Scored:
        """Scores by the mean grey."""
        self.batches.append(len(batch))
        grey = np.array([one.picture.grey[0] for one in batch])
        p = grey / 255
        return Scored(
            p=np.column_stack([p, 1 - p]),
            refused=["too dark" if shade < 40 else None for shade in grey],
            scores={"distance": 255 - grey},
            nearest=[("f" * 64, "dark", 0.25) for _ in batch],
            flags=self.flags(np.column_stack([p, 1 - p])),
            zones=self.zones(np.column_stack([p, 1 - p])),
            in_training=[one.image_id in self.training_ids for one in batch],
        )

    def flags(self, p: np.ndarray) -> dict[str, np.ndarray]:
        """Is it more bright than dark?"""
        return {"bright_at_95": p[:, 0] > 0.5}

    def zones(self, p: np.ndarray) -> dict[str, np.ndarray]:
        """Bright is ruled out below 0.4, and ruled in from 0.7 on."""
        ruled = [p[:, 0] >= 0.7, p[:, 0] < 0.4]
        return {"zone_bright": np.select(ruled, ["ruled in", "ruled out"], "between")}
