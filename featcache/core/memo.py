"""Memos: results that took long, kept under all that they depend on."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from featcache.core import checked
from featcache.core.io import digest


def path_of(folder: Path, prefix: str, identity: Mapping[str, Any]) -> Path:
    """The file that a memo has, by all that its result depends on."""
    return folder / f"{prefix}{digest(dict(identity))[:16]}.json"


def remembered(path: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a memo says; None where there is none, or it is damaged or of another.

    Args:
        path: The memo.
        identity: All that its result depends on.
    """
    try:
        record = checked.read_record(path)
    except (OSError, ValueError):
        return None
    same = all(record.get(key) == value for key, value in identity.items())
    return record if same else None


def remember(
    path: Path, identity: Mapping[str, Any], result: Mapping[str, Any] | None = None
) -> None:
    """Writes a memo; where that cannot be, the result is computed again next time."""
    with suppress(OSError):
        checked.write_record(path, {**identity, **(result or {})})
