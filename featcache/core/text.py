"""Text that is shown to people: lists of names, and names in order."""

import re
from collections.abc import Sequence


def some(items: Sequence[str], limit: int = 5) -> str:
    """Lists the first few items and counts the rest."""
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sort key under which ``COVID (2)`` comes before ``COVID (10)``."""
    parts = re.split(r"(\d+)", text)
    return [(0, int(p), p) if p.isdecimal() else (1, 0, p.lower()) for p in parts]


def warning_text(message: Warning | str, category: type[Warning]) -> str:
    """A library's warning in one line, without the file that it is from."""
    lines = str(message).strip().splitlines() or [""]
    return f"{category.__name__}: {' '.join(lines[0].split())[:200].rstrip('.')}."
