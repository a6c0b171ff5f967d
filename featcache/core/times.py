"""Times as records write them."""

from contextlib import suppress
from datetime import UTC, datetime


def instant(created: str) -> datetime:
    """The moment that a record names, whatever zone it was written in.

    Args:
        created: ISO 8601, taken for UTC without an offset. What is no such time is
            before all others.
    """
    with suppress(ValueError):
        time = datetime.fromisoformat(created)
        return time if time.tzinfo else time.replace(tzinfo=UTC)
    return datetime.min.replace(tzinfo=UTC)
