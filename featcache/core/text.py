"""Text that is shown to people or names files: lists, order, spellings, safety."""

import hashlib
import re
import unicodedata
from collections.abc import Sequence

from featcache.errors import UsageError

# Bytes of a name that becomes part of a file name, which has at most 255.
LONGEST_NAME = 150
NOT_STATED = "not stated"  # of a licence or a source that nobody has written down
_LONGEST_ITEM, _HALF = 300, 140  # letters of an item in a list
_NEVER_SHOWN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})  # categories of Unicode
_NOT_IN_NAMES = frozenset('/\\:*?"<>|')
_LONGEST = 80  # bytes of the readable part of a file name


def some(items: Sequence[str], limit: int = 5) -> str:
    """Lists the first few items, long ones cut in the middle, and counts the rest."""
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    parts = [
        item if len(item) <= _LONGEST_ITEM else f"{item[:_HALF]}...{item[-_HALF:]}"
        for item in items[:limit]
    ]
    return ", ".join(parts) + more


def counted(count: int, one: str, many: str = "") -> str:
    """A number of things in words: ``1 group``, ``2 groups``.

    Args:
        count: How many.
        one: What a single one is called, perhaps with its verb.
        many: The same of several; by default with an "s" behind.
    """
    return f"{count} {one if count == 1 else many or f'{one}s'}"


def percent(share: float, digits: int = 0) -> str:
    """A share in words: ``86 %``."""
    return f"{100 * share:.{digits}f} %"


def minute(stamp: str) -> str:
    """A time of a record (ISO 8601, UTC) to the minute: ``2026-11-28 23:40 UTC``."""
    return f"{stamp[:10]} {stamp[11:16]} UTC" if len(stamp) > 15 else stamp


def sentence(text: str) -> str:
    """The text with a capital letter and one full stop."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '?')) else '.'}"


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sort key under which ``COVID (2)`` comes before ``COVID (10)``."""
    parts = re.split(r"(\d+)", text)
    return [(0, int(p), p) if p.isdecimal() else (1, 0, p.lower()) for p in parts]


def printable(text: str) -> str:
    r"""The text with everything escaped that a terminal obeys or does not show.

    Control characters (C0 and C1), bidirectional overrides, invisible characters and
    lone surrogates become ``\x1b``, ``\u202e`` and so on; line feeds and tabs stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        ascii(c)[1:-1] if _is_hidden(c) and c not in "\n\t" else c for c in text
    )


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in _NEVER_SHOWN


def is_file_name(name: str) -> bool:
    """Whether a name can be part of a file name anywhere, and leads nowhere else."""
    return (
        0 < len(name.encode("utf-8", "surrogatepass")) <= LONGEST_NAME
        and name[0] not in ".-"
        and name == name.strip()
        and not any(_is_hidden(c) or c in _NOT_IN_NAMES for c in name)
    )


def no_formula(text: str) -> str:
    """Text for a cell of a CSV: with an apostrophe where a spreadsheet would compute.

    A number stays as it is.
    """
    is_number = re.fullmatch(r"[+-]?[\d.]+([eE][+-]?\d+)?", text)
    return f"'{text}" if text[:1] in set("=+-@\t\r") and not is_number else text


def markdown_cell(text: str) -> str:
    """Text for a cell of a markdown table: no new column, line, tag, link or code."""
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", " ".join(text.split()))
    return re.sub(r"([\\|`]|(?<=\])\()", r"\\\1", text)


def check_name(name: str, option: str) -> str:
    """The name, which becomes part of a file name.

    Args:
        name: As a user gave it.
        option: What it is, as Python names it.

    Raises:
        UsageError: It cannot be part of a file name.
    """
    if is_file_name(name):
        return name
    raise UsageError(
        f"`{option}` with a plain name of at most {LONGEST_NAME} bytes",
        repr(name) if len(name) <= LONGEST_NAME else f"{name[:40]!r}...",
        "It becomes a file name: use letters, digits, spaces and -_.+=,() only, "
        "without a dot or hyphen in front.",
    )


def file_part(text: str, limit: int) -> str:
    """Text as a part of a file name of at most ``limit`` bytes."""
    plain = "".join("-" if _is_hidden(c) or c in _NOT_IN_NAMES else c for c in text)
    return cut_bytes(plain, limit)


def spelling_key(text: str) -> str:
    """What spellings of one thing have in common.

    Case, Unicode form, invisible characters, spaces, and ``.0`` behind a whole number
    do not count.
    """
    text = unicodedata.normalize("NFKC", text)
    text = "".join(c for c in text if unicodedata.category(c) not in ("Cc", "Cf"))
    text = " ".join(text.casefold().split())
    return re.sub(r"^([+-]?\d+)\.0*$", r"\1", text)


def first_line(error: BaseException) -> str:
    """What an error of a library says, in one line without a full stop."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(lines[0].split())[:300].rstrip(".")


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


def duration(seconds: float) -> str:
    """A time in words, rounded: ``40 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
