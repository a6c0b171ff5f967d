"""Text that is shown to people: lists of names, and names in order."""

import hashlib
import re
from collections.abc import Sequence

_LONGEST = 80  # bytes of the readable part of a file name


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


def file_name(text: str) -> str:
    """A name for files that stand for a text: other texts have other names.

    Small letters, digits and ``-_+@`` stay as they are. A text with anything else,
    such as capitals, which some file systems do not tell apart, or of more than 80
    bytes, becomes its readable part and eight digits of its SHA-256.

    Returns:
        At most 89 bytes without a dot, so that names can be joined by dots.
    """
    if re.fullmatch(r"[a-z0-9][a-z0-9_+@-]{,79}", text) and not _ends_in_digits(text):
        return text
    readable = re.sub(r"[^\w+@-]+", "-", text).strip("-")
    digits = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{cut_bytes(readable, _LONGEST)}-{digits}".lstrip("-")


def _ends_in_digits(text: str) -> bool:
    """Whether a text looks like one that was changed."""
    return re.search(r"(^|-)[0-9a-f]{8}$", text) is not None


def cut_bytes(text: str, most: int) -> str:
    """The beginning of a text that has no more bytes than this in UTF-8."""
    return text.encode("utf-8", "ignore")[:most].decode("utf-8", "ignore")
