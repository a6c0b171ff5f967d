"""The section of one run: tables, charts and its worst errors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from featcache.commands.compare import LeaderboardRow, confusion
from featcache.commands.compare.scored_run import ScoredRun
from featcache.commands.curve import read_curves
from featcache.core.text import minute, percent
from featcache.deploy.points import points_of
from featcache.evaluation import metrics
from featcache.evaluation.figures import Figure
from featcache.evaluation.operating_points import OperatingPoint
from featcache.evaluation.record import FeatureBlock, RunRecord
from featcache.evaluation.runs import TEST, TRAIN, Predictions, Run
from featcache.report.html import scoring
from featcache.report.html.charts import (
    PARTS,
    Chart,
    curves,
    decisions,
    learning,
    learning_curve,
    reliability,
    risk,
)
from featcache.report.html.context import ReportContext
from featcache.report.html.scoring import ClassScores, Estimate
from featcache.report.html.svg import Svg, interval

_MOST_ERRORS = 12
_RARE = 0.05  # a prevalence outside hospitals, beside that of the data


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix: (count, share of its row) by true class and predicted."""

    part: str
    rows: list[tuple[str, list[tuple[int, float]]]]


@dataclass(frozen=True)
class SourceRow:
    """Accuracy on the images with one value of a column."""

    value: str
    n: int
    groups: int
    accuracy: Estimate
    strip: Svg


@dataclass(frozen=True)
class PointRow:
    """An operating point: its threshold, and what it costs.

    Attributes:
        name: The class.
        threshold: With the least and the largest of the folds.
        rates: Sensitivity and specificity.
        predictive: PPV and NPV at each prevalence.
    """

    name: str
    threshold: Estimate
    rates: list[Estimate]
    predictive: list[tuple[str, Estimate, Estimate]]


@dataclass(frozen=True)
class Error:
    """A wrong prediction, and what is beside its thumbnail."""

    image_id: str
    path: str
    part: str
    true: str
    predicted: str
    chances: list[tuple[str, float]]


@dataclass(frozen=True)
class Section:
    """All that the page shows of a run; see the template."""

    anchor: str
    row: LeaderboardRow
    facts: list[tuple[str, str]]
    scores: list[tuple[str, list[Estimate]]]
    matrices: list[Matrix]
    charts: list[Chart]
    classes: list[tuple[str, list[tuple[ClassScores, Svg]]]]
    sources: dict[str, list[SourceRow]]
    points: list[PointRow]
    tuning: list[str]
    errors: list[Error]


def section(context: ReportContext, scored: ScoredRun, row: LeaderboardRow) -> Section:
    """Computes a run's section from its predictions and its record.

    Where one part is shown, it is that which the leaderboard is about.
    """
    ranked_part, run = context.board.part, scored.run
    points = _points(run) if ranked_part == TRAIN else []
    by_part = {name: one for name in PARTS if len((one := scored.on(name)).right)}
    parts = {name: one.part for name, one in by_part.items()}
    return Section(
        anchor=f"run-{row.rank}",
        row=row,
        facts=_facts(run, row),
        scores=_scores(by_part),
        matrices=_matrices(run),
        charts=[
            *curves(run, parts[ranked_part], PARTS[ranked_part], points),
            *reliability(run, parts),
            risk(parts[ranked_part], PARTS[ranked_part]),
            *decisions(parts[ranked_part], run.classes, PARTS[ranked_part]),
            *learning(run),
            *map(learning_curve, read_curves(run)),
        ],
        classes=[
            (PARTS[name], _classes(one, run.classes)) for name, one in by_part.items()
        ],
        sources=_sources(context, run, ranked_part),
        points=[_point_row(point) for point in points],
        tuning=_tuning(run),
        errors=_errors(context, run),
    )


def _classes(
    scored: ScoredRun, classes: Sequence[str]
) -> list[tuple[ClassScores, Svg]]:
    rows = scoring.per_class(scored.part, classes, scored.draws)
    return [(one, _strip(one.scores["sensitivity"])) for one in rows]


def _strip(one: Estimate) -> Svg:
    return interval(one.value, one.ends)


def _points(run: Run) -> list[OperatingPoint]:
    """The operating points at 95 % sensitivity."""
    points = points_of(run, prevalences=[_RARE])
    every = points.points if points else []
    known = [one for one in every if np.isfinite(one.threshold)]
    return [one for one in known if one.kind == "sensitivity"]


def _point_row(point: OperatingPoint) -> PointRow:
    by_fold = np.array(point.fold_thresholds)  # NaN of a fold without the class
    return PointRow(
        point.class_name,
        Estimate(point.threshold, *np.nanquantile(by_fold, [0, 1])),
        [_estimate(point.sensitivity), _estimate(point.specificity)],
        [
            (percent(v.prevalence), _estimate(v.ppv), _estimate(v.npv))
            for v in point.predictive
        ],
    )


def _estimate(figure: Figure) -> Estimate:
    return Estimate(figure.value, figure.low, figure.high)


def _facts(run: Run, row: LeaderboardRow) -> list[tuple[str, str]]:
    """What was trained on what, as pairs of words."""
    record = run.record
    views, split = record.views, record.split
    facts = {
        "label": row.label,
        "claim": row.claim,
        "features": "; ".join(dict.fromkeys(map(_block, record.features))),
        "members": _members(record),
        "augmented views": f"{views}, and the plain image" if views else "none",
        "prediction": "mean over augmented views" if record.tta else "plain image",
        "options": row.options,
        "split": f"{split.name}, grouped by {split.group_by}",
        "excluded images": ", ".join(record.exclude),
        "repeats": _repeats(row),
        "seed": record.seed,
        "fit": f"{record.fit_seconds:.1f} s on the whole training set, "
        f"{record.predict_seconds:.1f} s for all predictions",
        "created": minute(record.created),
        "run": run.short_id,
        "run_id": run.run_id,
    }
    return [(k, str(v)) for k, v in facts.items() if v not in (None, "")]


def _members(record: RunRecord) -> str:
    """The runs of an ensemble with their weights in the final fit."""
    if not record.members:
        return ""
    pairs = zip(record.member_weights[TEST], record.members, strict=True)
    return "; ".join(f"{weight:.2f} x {name}" for weight, name in pairs)


def _repeats(row: LeaderboardRow) -> str:
    if row.repeats < 2:
        return ""
    return (
        f"{row.repeats} draws of the folds: mean accuracy "
        f"{row.accuracy_mean:.3f}, standard deviation {row.accuracy_sd:.3f}"
    )


def _block(block: FeatureBlock) -> str:
    text = f"{block.backbone} ({block.weights}"
    text += f", {block.input_size} px" if block.input_size else ""
    text += ", preprocessing unproven" if block.canary == "absent" else ""
    return text + (f", {block.tap})" if block.tap else ")")


def _scores(by_part: dict[str, ScoredRun]) -> list[tuple[str, list[Estimate]]]:
    """Each score of each part, with an interval where there is one."""
    rows: dict[str, list[Estimate]] = {name: [] for name in metrics.METRICS}
    for one in by_part.values():
        part = one.part
        ends = metrics.intervals(part.y, part.p, part.groups, draws=one.draws)
        for name, row in rows.items():
            row.append(Estimate(one.scores[name], *ends.get(name, ())))
    return list(rows.items())


def _matrices(run: Run) -> list[Matrix]:
    counted = confusion(run)
    matrices = []
    for part, counts in ((TRAIN, counted.train), (TEST, counted.test)):
        if counts is None:
            continue
        sums = np.maximum(counts.sum(axis=1, keepdims=True), 1)
        cells = [
            list(zip(map(int, n), map(float, s), strict=True))
            for n, s in zip(counts, counts / sums, strict=True)
        ]
        matrices.append(Matrix(PARTS[part], list(zip(run.classes, cells, strict=True))))
    return matrices


def _sources(
    context: ReportContext, run: Run, ranked_part: str
) -> dict[str, list[SourceRow]]:
    """Accuracy on the ranked part by each source column."""
    if context.manifest is None:
        return {}
    part, table = (
        run.predictions(ranked_part),
        run.table[run.table["split"] == ranked_part],
    )
    by_column = {}
    for name, values in context.sources.items():
        of_image = values.reindex(table["image_id"]).fillna("(not given)").to_numpy()
        rows = [_source_row(part, of_image, value) for value in sorted(set(of_image))]
        if len(rows) > 1:
            by_column[name] = rows
    return by_column


def _source_row(part: Predictions, of_image: np.ndarray, value: str) -> SourceRow:
    selected = of_image == value
    estimate = scoring.accuracy(part, selected)
    return SourceRow(
        str(value),
        int(selected.sum()),
        len(np.unique(part.groups[selected])),
        estimate,
        _strip(estimate),
    )


def _tuning(run: Run) -> list[str]:
    """One line a fold of what was chosen and how well it did inside the fold."""
    lines = []
    for entry in run.record.tuning:
        if not entry.selected:
            continue
        where = f"fold {entry.fold}" if entry.fold >= 0 else "whole training set"
        settings = ", ".join(f"{k} {_short(v)}" for k, v in entry.selected.items())
        lines.append(
            f"{where}: {settings} (inner log-loss {entry.log_loss:.3f}, "
            f"{len(entry.tried)} settings on {entry.folds} inner folds)"
        )
    return lines


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _errors(context: ReportContext, run: Run) -> list[Error]:
    images, table = context.images, run.table
    if context.board.part == TEST:
        table = table[table["split"] == TEST]
    paths = images["path"] if "path" in images else pd.Series(dtype=str)
    return [
        Error(
            row["image_id"],
            str(paths.get(row["image_id"], row["image_id"][:16])),
            PARTS[row["split"]],
            row["label"],
            predicted,
            list(zip(run.classes, map(float, p), strict=True)),
        )
        for row, predicted, p in scoring.worst_errors(table, run.classes, _MOST_ERRORS)
    ]
