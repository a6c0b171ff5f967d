"""What every engine does."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

import numpy as np

Outputs = dict[str, np.ndarray]


class Engine(ABC):
    """Runs a frozen network in inference mode; built once a process.

    Attributes:
        name: As in ``--engine``.
        batch_size: Images in a pass.
    """

    name: str
    batch_size: int

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
