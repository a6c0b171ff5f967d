"""A validation as tables on a terminal."""

from typing import TYPE_CHECKING

from featcache.cli.output import print_table, show

if TYPE_CHECKING:
    from featcache.evaluation.external import Subgroups, Validation

_MOST_IMAGES = 10  # that are listed of those left out


def print_validation(result: "Validation") -> None:
    """Prints the three columns of scores, operating points, subgroups and notes."""
    from featcache.report import validation_rows as rows_of

    show(
        f"{result.dataset}: {result.n} images in {result.n_groups} groups (by "
        f"{result.group_by}). {rows_of.overlap_text(result)}"
    )
    for line in rows_of.overlap_lines(result, _MOST_IMAGES):
        show(f"  {line}")
    _print_scores(result)
    if result.as_found.points:
        _print_points(result)
    _print_prevalences(result)
    for column in result.subgroups:
        _print_subgroups(column)
    for line in rows_of.notes(result):
        show(line)


def _print_scores(result: "Validation") -> None:
    from featcache.report.validation_rows import (
        COLUMNS,
        cells,
        class_rows,
        score_rows,
    )

    overall = score_rows(result)
    print_table(
        [(name, False) for name in ("score", *COLUMNS)],
        [[row.title, *cells(row.figures)] for row in [*overall, *class_rows(result)]],
        lines_before=[len(overall)],
    )


def _print_points(result: "Validation") -> None:
    from featcache.report.validation_rows import cells, point_rows

    rows = [
        [row.class_name, row.kind, f"{row.threshold:.3f}", *cells(row.figures)]
        for row in point_rows(result)
    ]
    headings = ("class", "operating point", "threshold", "sensitivity", "specificity")
    differences = ("sensitivity - internal", "specificity - internal")
    print_table(
        [(name, name == "threshold") for name in (*headings, *differences)],
        rows,
        drop_first=differences[::-1],
    )


def _print_prevalences(result: "Validation") -> None:
    from featcache.report.validation_rows import cells, prevalence_rows

    rows = [
        [row.class_name, f"{row.training:.3f}", *cells([row.estimated]),
         f"{row.observed:.3f}"]
        for row in prevalence_rows(result)
    ]  # fmt: skip
    print_table(
        [
            ("prevalence", False),
            ("in training", True),
            ("estimated without labels", False),
            ("observed", True),
        ],
        rows,
    )


def _print_subgroups(table: "Subgroups") -> None:
    from featcache.report.validation_rows import OVERALL, cells, heterogeneity

    rows = [
        [
            level.value,
            str(level.n),
            str(level.n_groups),
            *cells([*level.scores.values()]),
        ]
        for level in table.levels
    ]
    tests = [text or "n/a" for text in heterogeneity(table)]
    titles = [OVERALL[name] for name in table.heterogeneity]
    print_table(
        [(table.column, False), ("images", True), ("groups", True)]
        + [(title, False) for title in titles],
        [*rows, ["heterogeneity", "", "", *tests]],
        lines_before=[len(rows)],
    )
