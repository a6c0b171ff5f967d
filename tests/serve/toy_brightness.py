"""A model of brightness, and pictures for it."""

import io
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image
from toys import picture

from featcache.deploy.answers import Scored
from featcache.deploy.model import Candidate


@dataclass(eq=False)
class Brightness:
    """Says bright with the mean grey over 255; refuses what is below 40.

    Attributes:
        batches: Images in each call.
        before: Called before each.
    """

    batches: list[int] = field(default_factory=list)
    before: Callable[[], None] = lambda: None
    name: str = "toy"
    classes: tuple[str, ...] = ("bright", "dark")
    flag_columns: tuple[str, ...] = ()
    zone_columns: tuple[str, ...] = ()
    score_columns: tuple[str, ...] = ("distance",)
    bundle_sha256: str = "0" * 64
    dataset: str = "toy"
    rule: None = None
    operating_points: None = None
    triage: tuple[()] = ()
    training_ids: frozenset[str] = frozenset()

    def answer(self, batch: list[Candidate]) -> Scored:
        """Scores by the mean grey."""
        self.before()
        self.batches.append(len(batch))
        grey = np.array([one.picture.grey[0] for one in batch])
        if (grey == 255).any():
            raise ValueError("white, of Doe^John")
        return Scored(
            p=np.column_stack([grey / 255, 1 - grey / 255]),
            refused=["too dark" if shade < 40 else None for shade in grey],
            scores={"distance": 255 - grey},
            nearest=[None] * len(batch),
            flags={},
        )


def png(shade: float = 120, seed: int = 0, side: int = 40) -> bytes:
    """A grey picture as a file."""
    buffer = io.BytesIO()
    picture(seed, shade, (side, side)).save(buffer, "PNG")
    return buffer.getvalue()


def flat(shade: int, size: tuple[int, int] = (8, 8)) -> bytes:
    """A picture of one grey."""
    buffer = io.BytesIO()
    Image.new("L", size, shade).save(buffer, "PNG")
    return buffer.getvalue()
