"""The section of one run: tables, charts and its worst errors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from featcache.commands.compare import LeaderboardRow, confusion
from featcache.evaluation import metrics
from featcache.evaluation.record import FeatureBlock, RunRecord
from featcache.evaluation.runs import TEST, TRAIN, Predictions, Run
from featcache.report.html import scoring
from featcache.report.html.charts import PARTS, Chart, curves, learning, reliability
from featcache.report.html.context import Material, source_columns
from featcache.report.html.scoring import ClassScores, Estimate
from featcache.report.html.svg import Svg, interval

_MOST_ERRORS = 12


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
class Error:
    """A wrong prediction, and what stands beside its thumbnail."""

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
    tuning: list[str]
    errors: list[Error]


def section(material: Material, run: Run, row: LeaderboardRow) -> Section:
    """Computes a run's section from its predictions and its record.

    Where one part is shown, it is that which the leaderboard is about.
    """
    judged = material.board.part
    parts = {name: run.predictions(name) for name in PARTS}
    parts = {name: part for name, part in parts.items() if len(part.y)}
    draws = {k: metrics.bootstrap(v.y, v.p, v.groups) for k, v in parts.items()}
    return Section(
        anchor=f"run-{row.rank}",
        row=row,
        facts=_facts(run, row),
        scores=_scores(parts, draws),
        matrices=_matrices(run),
        charts=[
            *curves(run, parts[judged], PARTS[judged]),
            *reliability(run, parts),
            *learning(run),
        ],
        classes=[
            (PARTS[name], _classes(part, run.classes, draws[name]))
            for name, part in parts.items()
        ],
        sources=_sources(material, run, judged),
        tuning=_tuning(run),
        errors=_errors(material, run),
    )


def _classes(
    part: Predictions, classes: Sequence[str], draws: metrics.Draws
) -> list[tuple[ClassScores, Svg]]:
    found = scoring.per_class(part, classes, draws)
    return [(one, _strip(one.scores["sensitivity"])) for one in found]


def _strip(one: Estimate) -> Svg:
    return interval(one.value, one.ends)


def _facts(run: Run, row: LeaderboardRow) -> list[tuple[str, str]]:
    """What was trained on what, as pairs of words."""
    record = run.record
    views, split = record.views, record.split
    told = {
        "features": "; ".join(dict.fromkeys(map(_block, record.features))),
        "members": _members(record),
        "views": f"{views} augmented beside the plain one" if views else "plain only",
        "prediction": "mean over the views" if record.tta else "plain view",
        "options": row.options,
        "split": f"{split.name}, grouped by {split.group_by}",
        "images left out": ", ".join(record.exclude),
        "repeats": _repeats(row),
        "seed": record.seed,
        "fit": f"{record.fit_seconds:.1f} s on all of train, "
        f"{record.predict_seconds:.1f} s for all predictions",
        "made": record.created,
        "run": run.short_id,
        "run_id": run.run_id,
    }
    return [(k, str(v)) for k, v in told.items() if v not in (None, "")]


def _members(record: RunRecord) -> str:
    """The runs of an ensemble with their weights in the fit on all of train."""
    if not record.members:
        return ""
    pairs = zip(record.member_weights[TEST], record.members, strict=True)
    return "; ".join(f"{weight:.2f} x {name}" for weight, name in pairs)


def _repeats(row: LeaderboardRow) -> str:
    if row.repeats < 2:
        return ""
    return (
        f"{row.repeats} draws of the folds: accuracy {row.accuracy_mean:.3f} on "
        f"average, standard deviation {row.accuracy_sd:.3f}"
    )


def _block(block: FeatureBlock) -> str:
    text = f"{block.backbone} ({block.weights}"
    text += f", {block.input_size} px" if block.input_size else ""
    return text + (f", {block.tap})" if block.tap else ")")


def _scores(
    parts: dict[str, Predictions], draws: dict[str, metrics.Draws]
) -> list[tuple[str, list[Estimate]]]:
    """Each score of each part, with an interval where there is one."""
    found: dict[str, list[Estimate]] = {name: [] for name in metrics.METRICS}
    for key_, part in parts.items():
        values = metrics.scores(part.y, part.p)
        ends = metrics.intervals(part.y, part.p, part.groups, draws=draws[key_])
        for name, row in found.items():
            row.append(Estimate(values[name], *ends.get(name, ())))
    return list(found.items())


def _matrices(run: Run) -> list[Matrix]:
    counted = confusion(run)
    found = []
    for part, counts in ((TRAIN, counted.train), (TEST, counted.test)):
        if counts is None:
            continue
        sums = np.maximum(counts.sum(axis=1, keepdims=True), 1)
        cells = [
            list(zip(map(int, n), map(float, s), strict=True))
            for n, s in zip(counts, counts / sums, strict=True)
        ]
        found.append(Matrix(PARTS[part], list(zip(run.classes, cells, strict=True))))
    return found


def _sources(material: Material, run: Run, judged: str) -> dict[str, list[SourceRow]]:
    """Accuracy on the judged part by each source column."""
    if material.manifest is None:
        return {}
    part, table = run.predictions(judged), run.table[run.table["split"] == judged]
    found = {}
    for name, values in source_columns(material.images).items():
        given = values.reindex(table["image_id"]).fillna("(not given)").to_numpy()
        rows = [_source_row(part, given, value) for value in sorted(set(given))]
        if len(rows) > 1:
            found[name] = rows
    return found


def _source_row(part: Predictions, given: np.ndarray, value: str) -> SourceRow:
    chosen = given == value
    found = scoring.accuracy(part, chosen)
    return SourceRow(
        str(value),
        int(chosen.sum()),
        len(np.unique(part.groups[chosen])),
        found,
        _strip(found),
    )


def _tuning(run: Run) -> list[str]:
    """One line a fold of what was chosen and how well it did inside the fold."""
    told = []
    for entry in run.record.tuning:
        if not entry.chosen:
            continue
        where = f"fold {entry.fold}" if entry.fold >= 0 else "all of train"
        chosen = ", ".join(f"{k} {_short(v)}" for k, v in entry.chosen.items())
        told.append(
            f"{where}: {chosen} (inner log-loss {entry.log_loss:.3f}, "
            f"{len(entry.tried)} settings on {entry.folds} inner folds)"
        )
    return told


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _errors(material: Material, run: Run) -> list[Error]:
    images, table = material.images, run.table
    if material.board.part == TEST:
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
