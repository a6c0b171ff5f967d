"""On which line of a TOML text a key stands.

tomllib gives no positions. But a text cut off behind a line still parses where a
statement ends, so a key stands on the line with which it first appears.
"""

import tomllib
from collections.abc import Iterator
from typing import Any

Where = tuple[str | int, ...]
# What a cut inside an array, and perhaps an inline table within it, leaves open.
_CLOSINGS = ("", "]", "]]", "]}", "]}]")


def lines_of(text: str) -> dict[Where, int]:
    """The line, from 1, of each key and item of a TOML text that parses.

    Returns:
        Path to line: ``("train", 1, "heads", 0)`` is the first head in the second
        ``[[train]]``.
    """
    line_of: dict[Where, int] = {}
    rows = text.split("\n")
    begin = 0
    for end in range(1, len(rows) + 1):
        value = _parse("\n".join(rows[:end]))
        if value is None:  # inside a text of several lines
            continue
        for where in _walk(value, ()):
            line_of.setdefault(where, begin + 1)
        begin = end
    return line_of


def _parse(text: str) -> dict[str, Any] | None:
    for closing in _CLOSINGS:
        try:
            return tomllib.loads(f"{text}\n{closing}")
        except tomllib.TOMLDecodeError:
            continue
    return None


def _walk(value: Any, where: Where) -> Iterator[Where]:
    yield where
    if isinstance(value, dict):
        items: Any = value.items()
    else:
        items = enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _walk(item, (*where, key))
