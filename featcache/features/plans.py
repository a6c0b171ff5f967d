"""What is left of plans of extractions, as those see it who clean up a cache."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple


class IdlePlan(NamedTuple):
    """A plan on which nobody works, and which cannot be computed as it is.

    Attributes:
        folder: Where it is.
        reason: Why nobody needs it; or why it stays, and what would help.
        remove: Removes it in one step, or raises StoreError if it is in use after all;
            None where it stays.
    """

    folder: Path
    reason: str
    remove: Callable[[], None] | None


PlanFinder = Callable[[Path], Iterable[IdlePlan]]  # of a dataset's folder
