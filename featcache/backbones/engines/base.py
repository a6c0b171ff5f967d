"""What every engine does."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from featcache.features.contract import Contract

Outputs = dict[str, np.ndarray]


def network_name(contract: "Contract") -> str:
    """How the names of a contract's converted networks begin.

    Backbone and 8 hex digits, so that the stores say which networks are still of use.
    An int8 network is made before its digest is in the contract, and is named without.
    """
    made_of = replace(contract, quantised=None)
    return f"{contract.backbone}-{made_of.contract_id[:8]}"


def noise(count: int, side: int) -> np.ndarray:
    """Pictures of noise, (count, side, side, 3) uint8, always the same."""
    shape = (count, side, side, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def batch_distances(engine: "Engine", side: int) -> dict[str, float]:
    """How far an image's numbers alone are from those that it has beside others.

    Args:
        engine: Takes three images in a pass, or more.
        side: Of its input in pixels.

    Returns:
        By output, relative to its largest number; NaN where numbers are not finite.
    """
    pictures = noise(3, side)
    (together,) = engine.run([pictures])
    alone = list(engine.run(pictures[:, None]))
    distances = {}
    for name, rows in together.items():
        each = np.concatenate([one[name] for one in alone])
        largest = float(np.abs(rows).max()) or 1.0
        finite = np.isfinite(each).all() and np.isfinite(rows).all()
        apart = float(np.abs(each - rows).max()) / largest if finite else np.nan
        distances[name] = apart
    return distances


class Engine(ABC):
    """Runs a frozen network in inference mode; built once a process.

    Attributes:
        name: As in ``engine``.
        batch_size: Images in a pass.
        takes_turns: Whether it computes much, so that several at once would only
            hinder one another.
    """

    name: str
    batch_size: int
    takes_turns: bool = True

    @abstractmethod
    def run(self, batches: Iterable[np.ndarray]) -> Iterator[Outputs]:
        """Runs batches through the network, in order.

        An engine may take several batches ahead of the one it yields.

        Args:
            batches: Each (n, H, W, 3) uint8, RGB 0-255, n at most the batch size;
                not changed.

        Yields:
            For each batch, each output by its name: "features" (n, D) float32.
        """
