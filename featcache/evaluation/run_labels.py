"""``labels.json``: what a study calls its runs, such as the versions of a paper."""

from collections.abc import Mapping
from pathlib import Path

from featcache.core import io

FILE = "labels.json"


def read_labels(reports: Path) -> dict[str, str]:
    """Label by run_id; none where the file is missing or no such table.

    Args:
        reports: ``reports/<dataset>``.
    """
    try:
        table = io.read_json(reports / FILE)
    except (OSError, ValueError):
        return {}
    labels = table.get("labels") if isinstance(table, dict) else None
    if not isinstance(labels, dict):
        return {}
    return {run_id: text for run_id, text in labels.items() if isinstance(text, str)}


def write_labels(reports: Path, labels: Mapping[str, str | None]) -> None:
    """Labels runs, and takes the label of those with None; others keep theirs."""
    before = read_labels(reports)
    merged: dict[str, str | None] = {**before, **labels}
    kept = {run_id: text for run_id, text in sorted(merged.items()) if text}
    if kept != before:
        io.write_json(reports / FILE, {"labels": kept})
