"""What may happen to a plan, and to its disk, while somebody works on it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from featcache.commands.extract.part_plan import PARTS, PLAN, PartPlan
from featcache.errors import StoreError


@contextmanager
def in_work(plan: PartPlan) -> Iterator[None]:
    """Lets an error say so if the plan was published meanwhile."""
    try:
        yield
    except (OSError, StoreError) as error:
        if (plan.folder / PLAN).exists():
            raise
        with suppress(OSError):
            for folder in (plan.folder / PARTS, plan.folder, plan.folder.parent):
                folder.rmdir()
        raise StoreError(
            f"plan {plan.name}",
            "none any more: it was published or removed while this call ran",
            "Nothing is left to compute if it was published.",
        ) from error


@contextmanager
def writing_to(folder: Path, what: str) -> Iterator[None]:
    """Lets an error of the disk say what could not be written, and where.

    Args:
        folder: Where it would be.
        what: Such as "part 3 of plan 1eaceb98de0d".

    Raises:
        StoreError: The disk is full, or cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{what} cannot be written to {folder}: {error.strerror or error}",
            "Free some space or change the permissions, then run the same command "
            "again: what is finished is kept, and nothing is half written.",
        ) from error
