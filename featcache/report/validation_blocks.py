"""A validation as tables of figures: for the terminal, and as markdown or csv."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from featcache.core.io import atomic_path
from featcache.core.output_file import check_output
from featcache.core.text import markdown_cell, no_formula, some
from featcache.errors import UsageError
from featcache.evaluation.external import Subgroups, Validation
from featcache.evaluation.figures import Figure
from featcache.report import validation_rows as rows_of
from featcache.report.validation_rows import ScoreRow, text_of

Cell = str | Figure | None
_CSV = ("table", "row", "column", "value", "low", "high", "note")


@dataclass(frozen=True)
class Block:
    """A table of figures.

    Attributes:
        title: What it is about.
        headings: Of the columns: first ``stubs`` of text, then of figures or numbers.
        rows: A cell a column; None where a figure is not applicable.
        stubs: How many columns say what a row is.
    """

    title: str
    headings: list[str]
    rows: list[list[Cell]]
    stubs: int = 1


def blocks(result: Validation) -> list[Block]:
    """All figures: scores, of each class, at operating points, and of subgroups."""
    tables = [_scores("All classes", rows_of.score_rows(result))]
    for name, rows in rows_of.class_rows(result).items():
        tables.append(_scores(f"{name} against the rest", rows))
    return [
        *tables,
        *_points(result),
        _prevalences(result),
        *(_subgroups(table) for table in result.subgroups),
    ]


def _scores(title: str, rows: Sequence[ScoreRow]) -> Block:
    cells: list[list[Cell]] = [[row.title, *row.figures] for row in rows]
    return Block(title, ["score", *rows_of.COLUMNS], cells)


def _points(result: Validation) -> list[Block]:
    rates = ("sensitivity", "specificity")
    headings = ["operating point", "threshold", *rates]
    headings += [f"{rate} - internal" for rate in rates]
    by_class: dict[str, list[list[Cell]]] = {}
    for row in rows_of.point_rows(result):
        cells = [row.kind, f"{row.threshold:.3f}", *row.figures]
        by_class.setdefault(row.class_name, []).append(cells)
    return [
        Block(f"{name} at the frozen operating points, as found", headings, rows, 2)
        for name, rows in by_class.items()
    ]


def _prevalences(result: Validation) -> Block:
    rows: list[list[Cell]] = [
        [row.class_name, f"{row.training:.3f}", row.estimated, f"{row.observed:.3f}"]
        for row in rows_of.prevalence_rows(result)
    ]
    headings = ["class", "in training", "estimated without labels", "observed"]
    return Block("Prevalence", headings, rows)


def _subgroups(table: Subgroups) -> Block:
    rows: list[list[Cell]] = [
        [level.value, str(level.n), str(level.n_groups), *level.scores.values()]
        for level in table.levels
    ]
    tests = [text or "n/a" for text in rows_of.heterogeneity(table)]
    rows.append(["heterogeneity", "", "", *tests])
    titles = [rows_of.OVERALL[name] for name in table.heterogeneity]
    headings = [table.column, "images", "groups", *titles]
    return Block(f"By {table.column}, as found", headings, rows, 3)


def to_markdown(result: Validation) -> str:
    """All tables in GitHub's markdown, with what to know of them below."""
    lines = [f"# Validation on {markdown_cell(result.dataset)}", ""]
    lines += [rows_of.summary(result), ""]
    for block in blocks(result):
        n = len(block.headings)
        rows = [block.headings, ["---", *["---:"] * (n - 1)]]
        rows += [[_text(cell) for cell in row] for row in block.rows]
        lines += [f"## {markdown_cell(block.title)}", ""]
        lines += [f"| {' | '.join(map(markdown_cell, row))} |" for row in rows] + [""]
    return "\n".join([*lines, *(f"- {note}" for note in rows_of.notes(result))])


def _text(cell: Cell) -> str:
    return cell if isinstance(cell, str) else text_of(cell)


def to_csv(result: Validation) -> str:
    """A row a figure: table, row, column, value, low, high, and why one is missing.

    Numbers without an interval have a value alone, tests a note alone.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_CSV)
    for block in blocks(result):
        for row in block.rows:
            for heading, cell in zip(block.headings[1:], row[1:], strict=True):
                where = [block.title, str(row[0]), heading]
                writer.writerow([*map(no_formula, where), *_numbers(cell)])
    return text.getvalue()


def to_json(result: Validation) -> str:
    """What ``featcache validate --json`` prints."""
    return json.dumps(result.to_json(), indent=2)


FORMATS: dict[str, Callable[[Validation], str]] = {
    ".json": to_json,
    ".csv": to_csv,
    ".md": to_markdown,
}


def check_file(output: Path, *, force: bool = False) -> None:
    """Refuses a file that a validation cannot be written to, before any work.

    Raises:
        UsageError: It is there, is in no folder, or its ending is none of `FORMATS`.
    """
    if output.suffix.lower() not in FORMATS or not output.parent.is_dir():
        raise UsageError(
            f"`output` a file in a folder that exists, in {some([*FORMATS])}",
            str(output) if output.parent.is_dir() else f"no folder {output.parent}",
            "Name another file, or make the folder first.",
        )
    check_output(output, "output", force=force)


def write(result: Validation, path: Path) -> None:
    """Writes a validation in the format that the file's ending says.

    Raises:
        OSError: It cannot be written.
    """
    text = FORMATS[path.suffix.lower()](result).rstrip("\n") + "\n"
    with atomic_path(path) as temp:
        temp.write_text(text, encoding="utf-8", newline="\n")


def _numbers(cell: Cell) -> list[str]:
    if isinstance(cell, str):
        is_number = cell.replace(".", "", 1).isdecimal()
        return [cell, "", "", ""] if is_number else ["", "", "", cell]
    if cell is None:
        return ["", "", "", "not applicable"]
    numbers = (cell.value, cell.low, cell.high)
    texts = ["" if number != number else f"{number:.9g}" for number in numbers]
    return [*texts, cell.reason or ""]
