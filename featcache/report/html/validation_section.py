"""External validations: what ``featcache validate`` has kept of the page's runs."""

from dataclasses import dataclass

from featcache.evaluation.external import (
    Level,
    Scores,
    ValidationRecord,
    read_validations,
)
from featcache.report import validation_rows
from featcache.report.html.charts import Chart
from featcache.report.html.context import ReportContext
from featcache.report.html.svg import Axis, Series, key, lines
from featcache.report.validation_rows import PointRow, PrevalenceRow, ScoreRow

MOST = 12  # validations that are shown
_MOST_IMAGES = 10


@dataclass(frozen=True)
class SubgroupTable:
    """The values of a column, and the tests whether they differ."""

    column: str
    scores: list[str]
    rows: list[Level]
    tests: list[str]


@dataclass(frozen=True)
class ValidationSection:
    """What the page shows of a validation; see the template.

    Attributes:
        record: The validation.
        short_id: Of the run.
        overlap: What was in training, in a sentence.
        overlap_lines: The first of these images.
        scores: Over all classes.
        by_class: Of each class.
        points: Frozen thresholds.
        prevalences: Of each class.
        charts: Calibration curves.
        subgroups: A table a column.
        notes: What to know of the figures.
    """

    record: ValidationRecord
    short_id: str
    overlap: str
    overlap_lines: list[str]
    scores: list[ScoreRow]
    by_class: dict[str, list[ScoreRow]]
    points: list[PointRow]
    prevalences: list[PrevalenceRow]
    charts: list[Chart]
    subgroups: list[SubgroupTable]
    notes: list[str]


@dataclass(frozen=True)
class Validations:
    """The validations of the page's runs.

    Attributes:
        sections: Those of the best runs first, then the newest.
        more: How many more there are of these runs.
        others: How many there are of runs that the page does not rank.
    """

    sections: list[ValidationSection]
    more: int
    others: int

    @property
    def are_external(self) -> bool:
        """Whether any is."""
        return any(one.record.result.is_external for one in self.sections)


def read_sections(context: ReportContext) -> Validations:
    """Reads the validations; what cannot be used is listed among what is missing."""
    kept, unusable = read_validations(context.reports)
    context.missing.extend(unusable)
    ranks = {run.run_id: (rank, run.short_id) for rank, run in enumerate(context.runs)}
    own = [one for one in kept if one.run_id in ranks]
    own.sort(key=lambda one: ranks[one.run_id][0])
    return Validations(
        [_section(one, ranks[one.run_id][1]) for one in own[:MOST]],
        max(len(own) - MOST, 0),
        len(kept) - len(own),
    )


def _section(record: ValidationRecord, short_id: str) -> ValidationSection:
    result = record.result
    charts = [_curves(result.as_found, "as found")]
    if result.recalibrated.scores:
        charts.append(_curves(result.recalibrated.scores, "recalibrated"))
    return ValidationSection(
        record=record,
        short_id=short_id,
        overlap=validation_rows.overlap_text(result),
        overlap_lines=validation_rows.overlap_lines(result, _MOST_IMAGES),
        scores=validation_rows.score_rows(result),
        by_class=validation_rows.class_rows(result),
        points=validation_rows.point_rows(result),
        prevalences=validation_rows.prevalence_rows(result),
        charts=[chart for chart in charts if chart.legend],
        subgroups=_subgroups(record),
        notes=validation_rows.notes(result),
    )


def _curves(scores: Scores, of: str) -> Chart:
    """The flexible calibration curve of each class."""
    series, legend = [], []
    for style, (name, one) in enumerate(scores.per_class.items()):
        if not one.curve:
            continue
        x = [point.predicted for point in one.curve]
        y = [point.observed.value for point in one.curve]
        low = [point.observed.low for point in one.curve]
        high = [point.observed.high for point in one.curve]
        series.append(Series(style, x, y, [3.0] * len(x), low=low, high=high))
        slope, intercept = one.calibration_slope, one.calibration_intercept
        legend.append((
            key(style),
            f"{name}: slope {_number(slope.value)}, "
            f"intercept {_number(intercept.value)}",
        ))  # fmt: skip
    svg = lines(
        series, Axis("predicted probability"), Axis("observed share"), guide=True,
        label=f"Calibration curve of each class, {of}",
    )  # fmt: skip
    note = (
        "On the diagonal, as many images are of the class as predicted. Bands are 95 % "
        "intervals at each point: Wilson's, from a bootstrap over groups."
    )
    return Chart(f"Calibration, {of}", svg, legend, note)


def _number(value: float) -> str:
    return f"{value:.2f}" if value == value else "n/a"


def _subgroups(record: ValidationRecord) -> list[SubgroupTable]:
    return [
        SubgroupTable(
            table.column,
            [validation_rows.OVERALL[name] for name in table.heterogeneity],
            table.levels,
            validation_rows.heterogeneity(table),
        )
        for table in record.result.subgroups
    ]
