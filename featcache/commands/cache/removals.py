"""What can be removed of a cache, and how that is told."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Removal:
    """One thing that nobody needs.

    Attributes:
        kind: "rows", "store", "parts", "plan", "temporary", "network", "digest" or
            "lock".
        path: The file or folder.
        what: What of it, and why.
        before: Its bytes.
        after: Its bytes afterwards; an estimate until it is done.
    """

    kind: str
    path: Path
    what: str
    before: int
    after: int = 0


@dataclass(frozen=True)
class Pruned:
    """What can be removed, or was.

    Attributes:
        removals: One by one.
        excluded: What is damaged, being written or without a manifest, and stays.
        done: Whether they are removed, or only shown.
    """

    removals: list[Removal]
    excluded: list[str]
    done: bool


# A removal, and the function that does it.
Step = tuple[Removal, Callable[[], None]]


class IdlePlan(Protocol):
    """A plan of an extraction on which nobody works.

    Attributes:
        folder: Where it is.
        reason: Why nobody needs it, or why it stays.
        is_stale: Whether it can go.
    """

    @property
    def folder(self) -> Path:
        """See above."""

    @property
    def reason(self) -> str:
        """See above."""

    @property
    def is_stale(self) -> bool:
        """See above."""

    def remove(self) -> None:
        """Removes it."""


PlanFinder = Callable[[Path], Iterable[IdlePlan]]  # of a dataset's folder
