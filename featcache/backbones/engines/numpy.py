"""The engine of baselines: their numbers are there before it is asked."""

from collections.abc import Iterable, Iterator

import numpy as np

from featcache.backbones.engines.base import Engine, Outputs


class NumpyEngine(Engine):
    """Passes on what was measured where the picture was decoded.

    Args:
        batch_size: Images in a pass.
    """

    name = "numpy"
    takes_turns = False

    def __init__(self, *, batch_size: int = 32) -> None:
        self.batch_size = batch_size

    def run(self, batches: Iterable[np.ndarray]) -> Iterator[Outputs]:
        """Yields each batch, (n, D) float32, as its features."""
        for batch in batches:
            yield {"features": batch}
