"""What every engine does."""

from abc import ABC, abstractmethod

import numpy as np


class Engine(ABC):
    """Runs a frozen network in inference mode; built once a process.

    Attributes:
        name: As in ``--engine``.
        dim: Width D of the embedding.
        passes: Images pushed through the network so far.
    """

    name: str
    dim: int
    passes: int = 0

    @abstractmethod
    def embed(self, pixels: np.ndarray) -> np.ndarray:
        """Embeds a batch.

        Args:
            pixels: (N, H, W, 3) uint8, RGB 0-255, at most a batch; not changed.

        Returns:
            (N, D) float32.
        """
