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
    rows, nested = [], dict[str, None]()
    try:
        lines = read_bytes(root, path).decode("utf-8-sig").split("\n")
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError(f"line {number} is no object")
            nested |= {k: None for k, v in record.items() if isinstance(v, dict | list)}
            rows.append({key.strip(): _text(value) for key, value in record.items()})
    except (ValueError, OSError, RecursionError) as error:
        at = (
            f"line {len(rows) + 1}: " if isinstance(error, json.JSONDecodeError) else ""
        )
        expected = f"a JSON object (UTF-8) in each line of {where}"
        raise DatasetError(expected, f"{at}{error}"[:200], hint) from error
    if nested:
        rule = f"text and numbers in {where}"
        raise DatasetError(
            rule, f"lists or objects as {some([*nested])}", "Remove them."
        )
    return pd.DataFrame(rows, dtype=str).fillna("")


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)
