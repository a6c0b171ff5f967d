"""A leaderboard as JSON, CSV, markdown, LaTeX, or text columns for a terminal."""

import csv
import io
import json
import math
from collections.abc import Callable
from typing import Any

from featcache.compare import Confusion, Leaderboard

Row = dict[str, Any]
# What people read: a heading, whether it is a number, and the cell of a row.
_COLUMNS: list[tuple[str, bool, Callable[[Row], str]]] = [
    ("#", True, lambda row: str(row["rank"])),
    ("backbone", False, lambda row: f"{row['backbone']} ({row['weights']})"),
    ("head", False, lambda row: str(row["head"])),
    ("views", True, lambda row: str(row["views"])),
    ("accuracy", True, lambda row: _share(row["accuracy"])),
    ("95 %", True, lambda row: _interval(row, "accuracy")),
    ("balanced", True, lambda row: _share(row["balanced_accuracy"])),
    ("macro F1", True, lambda row: _share(row["macro_f1"])),
    ("AUC", True, lambda row: _share(row["auc"])),
    ("log-loss", True, lambda row: _share(row["log_loss"])),
    ("test", True, lambda row: _share(row["test_accuracy"])),
    ("test 95 %", True, lambda row: _interval(row, "test_accuracy")),
    ("fit s", True, lambda row: f"{row['fit_seconds'] or 0:.1f}"),
]


def _share(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.3f}"


def _interval(row: Row, name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return f"{_share(low)}-{_share(high)}" if _share(low) else ""


def columns(board: Leaderboard) -> list[tuple[str, bool, list[str]]]:
    """The columns a person reads: heading, whether numeric, and the cells.

    A column without a single entry (no test part, say) is left out.
    """
    filled = [
        (heading, numeric, [cell(row) for row in board.rows])
        for heading, numeric, cell in _COLUMNS
    ]
    return [column for column in filled if any(column[2])]


def caption(board: Leaderboard) -> str:
    """One line: what was ranked, by what, on how many images."""
    top = board.rows[0]
    return (
        f"{board.dataset}: {top['n']} images of {top['n_groups']} groups, "
        f"out-of-fold on split {board.split}, ranked by {board.metric}; "
        "95 % intervals by bootstrap over groups"
    )


def to_json(board: Leaderboard) -> str:
    """A list of rows; what has no value is null."""
    rows = [{k: _plain(v) for k, v in row.items()} for row in board.rows]
    return json.dumps(rows, indent=2, allow_nan=False)


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def to_csv(board: Leaderboard) -> str:
    """All fields of all rows, with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(board.rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(board.rows)
    return text.getvalue().rstrip("\n")


def to_markdown(board: Leaderboard) -> str:
    """A table in GitHub's markdown."""
    table = columns(board)
    lines = [
        [heading for heading, _, _ in table],
        ["---:" if numeric else "---" for _, numeric, _ in table],
        *_cells(table),
    ]
    text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"{text}\n\n{caption(board)}."


def to_latex(board: Leaderboard) -> str:
    """A table for LaTeX with the package booktabs."""
    table = columns(board)
    layout = "".join("r" if numeric else "l" for _, numeric, _ in table)
    head = " & ".join(_escape(heading) for heading, _, _ in table)
    body = [" & ".join(map(_escape, line)) + r" \\" for line in _cells(table)]
    return "\n".join(
        [
            rf"% {caption(board)}",
            rf"\begin{{tabular}}{{{layout}}}",
            r"\toprule",
            rf"{head} \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


_LATEX = str.maketrans({c: f"\\{c}" for c in "&%$#_{}"} | {"-": "--"})


def _escape(cell: str) -> str:
    # Only an interval's dash is a range; a name keeps its hyphens.
    return cell.translate(
        _LATEX if cell[:1].isdigit() else {k: v for k, v in _LATEX.items() if k != 45}
    )


def _cells(table: list[tuple[str, bool, list[str]]]) -> list[list[str]]:
    return [list(line) for line in zip(*(cells for _, _, cells in table), strict=True)]


FORMATS: dict[str, Callable[[Leaderboard], str]] = {
    "markdown": to_markdown,
    "csv": to_csv,
    "json": to_json,
    "latex": to_latex,
}


def confusion_parts(matrix: Confusion) -> dict[str, list[list[str]]]:
    """The confusion matrices as text: true class, counts, sensitivity a row."""
    parts = {"out-of-fold": matrix.train}
    if matrix.test is not None:
        parts["test"] = matrix.test
    return {
        part: [
            [name, *map(str, row), f"{row[i] / row.sum():.3f}" if row.any() else ""]
            for i, (name, row) in enumerate(zip(matrix.classes, counts, strict=True))
        ]
        for part, counts in parts.items()
    }
