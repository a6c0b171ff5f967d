"""Names of many files in one: ``shards/{000..009}.tar`` and ``{train,test}-0.tar``."""

import re
from collections.abc import Iterator

from featcache.errors import DatasetError

_BRACES = re.compile(r"\{(?:(\d{1,18})\.\.(\d{1,18})|([^{}]*,[^{}]*))\}")
_MOST = 100_000  # files


def has_braces(text: str) -> bool:
    """Whether a text is more than one name."""
    return bool(_BRACES.search(text))


def expand(text: str) -> list[str]:
    """The names, in order; numbers are filled with zeros as a shell does it.

    Raises:
        DatasetError: There are more than 100,000, or none.
    """
    match = _BRACES.search(text)
    if not match:
        return [text]
    names: list[str] = []
    for value in _values(match):
        names += expand(text[: match.start()] + value + text[match.end() :])
        if len(names) > _MOST:
            break
    if not 0 < len(names) <= _MOST:
        raise DatasetError(
            f"1 to {_MOST:,} files in {text}",
            f"more than {_MOST:,}" if names else "none",
            "Write the first number before the last, as in {000..009}.",
        )
    return [*dict.fromkeys(names)]


def _values(match: re.Match[str]) -> Iterator[str]:
    if match[3] is not None:
        yield from match[3].split(",")
        return
    first, last = match[1], match[2]
    padded = any(len(end) > 1 and end[0] == "0" for end in (first, last))
    width = max(len(first), len(last)) if padded else 0
    yield from (f"{n:0{width}}" for n in range(int(first), int(last) + 1))
