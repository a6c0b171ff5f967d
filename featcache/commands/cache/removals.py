"""What can be removed of a cache, and how that is told."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


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
