"""A table of paths with a JSON object per line, as Hugging Face has it."""

import json
from typing import Any

import pandas as pd

from featcache.core.text import some
from featcache.dataset.sources.reading import read_bytes
from featcache.dataset.urls import Location
from featcache.errors import DatasetError

JSON_LINES = ".jsonl"


def read_json_lines(root: Location, path: str, where: str, hint: str) -> pd.DataFrame:
    """Reads a table as text, like a CSV; what is missing or null is empty.

    Args:
        root: The folder that the table lies in.
        path: The table's, relative to it.
        where: Its name in errors.
        hint: What to give instead.

    Raises:
        DatasetError: A line is no object, or holds lists or objects.
    """
    rows, nested, number = [], dict[str, None](), 0
    try:
        lines = read_bytes(root, path).decode("utf-8-sig").split("\n")
        for line in lines:
            number += 1
            if not line.strip():
                continue
            record = parse_object(line)
            nested |= {k: None for k, v in record.items() if isinstance(v, dict | list)}
            rows.append({key.strip(): as_text(value) for key, value in record.items()})
    except (ValueError, OSError, RecursionError) as error:
        expected = f"a JSON object (UTF-8) in each line of {where}"
        reason = f"line {number}: {error}" if number else str(error)
        raise DatasetError(expected, reason[:200], hint) from error
    if nested:
        rule = f"text and numbers in {where}"
        raise DatasetError(
            rule, f"lists or objects as {some([*nested])}", "Remove them."
        )
    return pd.DataFrame(rows, dtype=str).fillna("")


def parse_object(text: str) -> dict[str, Any]:
    """The object that a JSON text holds.

    Raises:
        ValueError: It is none, or has text that no table keeps.
        RecursionError: It is nested too deeply.
    """
    record = json.loads(text)
    if not isinstance(record, dict):
        raise ValueError("no object")
    if "\\ud" in text.lower():  # half a character, which UTF-8 does not have
        json.dumps(record, ensure_ascii=False).encode()
    return record


def as_text(value: Any) -> str:
    """A value as in the JSON; text without its quotes, and null as nothing."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)
