"""The section of one run: tables, charts and its worst errors."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from featcache import metrics
from featcache.compare import confusion
from featcache.report import scoring
from featcache.report.charts import Axis, Series, Svg, interval, key, lines
from featcache.report.material import Material, blocks, source_columns
from featcache.report.scoring import ClassScores, Estimate
from featcache.runs import TEST, TRAIN, Predictions, Run

_MOST_ERRORS = 12
PARTS = {TRAIN: "out-of-fold", TEST: "test part"}


@dataclass(frozen=True)
class Chart:
    """A figure: title, drawing, what explains the lines, and a line below."""

    title: str
    svg: Svg
    legend: list[tuple[Svg, str]] = field(default_factory=list)
    note: str = ""


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
    row: dict[str, Any]
    facts: list[tuple[str, str]]
    scores: list[tuple[str, list[Estimate]]]
    matrices: list[Matrix]
    charts: list[Chart]
    classes: list[tuple[str, list[tuple[ClassScores, Svg]]]]
    sources: dict[str, list[SourceRow]]
    tuning: list[str]
    errors: list[Error]


def section(material: Material, run: Run, row: dict[str, Any]) -> Section:
    """Computes a run's section from its predictions and its record."""
    parts = {name: run.predictions(name) for name in PARTS}
    parts = {name: part for name, part in parts.items() if len(part.y)}
    draws = {k: metrics.bootstrap(v.y, v.p, v.groups) for k, v in parts.items()}
    return Section(
        anchor=f"run-{row['rank']}",
        row=row,
        facts=_facts(run, row),
        scores=_scores(parts, draws),
        matrices=_matrices(run),
        charts=[*_curves(run, parts), *_reliability(run, parts), *_learning(run)],
        classes=[
            (PARTS[name], _classes(part, run.classes, draws[name]))
            for name, part in parts.items()
        ],
        sources=_sources(material, run, parts[TRAIN]),
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


def _facts(run: Run, row: dict[str, Any]) -> list[tuple[str, str]]:
    """What was trained on what, as pairs of words."""
    record = run.record
    views, split = int(record.get("views") or 0), record["split"]
    told = {
        "features": "; ".join(dict.fromkeys(map(_block, blocks(record)))),
        "members": _members(record),
        "views": f"{views} augmented beside the plain one" if views else "plain only",
        "prediction": "mean over the views" if record.get("tta") else "plain view",
        "options": row.get("options"),
        "split": f"{split['name']}, grouped by {split.get('group_by', 'unknown')}",
        "images left out": ", ".join(map(str, record.get("exclude") or [])),
        "repeats": _repeats(row),
        "seed": record.get("seed"),
        "fit": f"{record.get('fit_seconds') or 0:.1f} s on all of train, "
        f"{record.get('predict_seconds') or 0:.1f} s for all predictions",
        "made": record["created"],
        "run_id": run.run_id,
    }
    return [(k, str(v)) for k, v in told.items() if v not in (None, "")]


def _members(record: dict[str, Any]) -> str:
    """The runs of an ensemble with their weights in the fit on all of train."""
    members = record.get("members") or []
    weights = (record.get("member_weights") or {}).get(TEST, [])
    told = [f"{w:.2f} x {name}" for w, name in zip(weights, members, strict=False)]
    return "; ".join(told or members)


def _repeats(row: dict[str, Any]) -> str:
    if (row.get("repeats") or 1) < 2 or row.get("accuracy_sd") is None:
        return ""
    return (
        f"{row['repeats']} draws of the folds: accuracy {row['accuracy_mean']:.3f} on "
        f"average, standard deviation {row['accuracy_sd']:.3f}"
    )


def _block(block: dict[str, Any]) -> str:
    text = f"{block.get('backbone')} ({block.get('weights')}"
    text += f", {block['input_size']} px" if block.get("input_size") else ""
    tap = block.get("tap")
    return text + (f", {tap})" if tap and tap != "features" else ")")


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
    for name, counts in (("out-of-fold", counted.train), ("test part", counted.test)):
        if counts is None:
            continue
        sums = np.maximum(counts.sum(axis=1, keepdims=True), 1)
        cells = [
            list(zip(map(int, n), map(float, s), strict=True))
            for n, s in zip(counts, counts / sums, strict=True)
        ]
        found.append(Matrix(name, list(zip(run.classes, cells, strict=True))))
    return found


def _curves(run: Run, parts: dict[str, Predictions]) -> list[Chart]:
    part = parts[TRAIN]
    areas = metrics.auc_per_class(part.y, part.p)
    rocs, recalls, roc_keys, recall_keys = [], [], [], []
    for c, name in enumerate(run.classes):
        true = part.y == c
        if not 0 < true.sum() < len(true):
            continue
        rocs.append(Series(c, *scoring.roc(true, part.p[:, c])))
        roc_keys.append((key(c), f"{name}: AUC {areas[c]:.3f}"))
        recall, precision, mean = scoring.precision_recall(true, part.p[:, c])
        recalls.append(Series(c, recall, precision))
        recall_keys.append((key(c), f"{name}: average precision {mean:.3f}"))
    share, truth = Axis("1 - specificity"), Axis("sensitivity")
    return [
        Chart(
            "ROC, one class against the rest",
            lines(rocs, share, truth, guide=True, label="ROC curve of each class"),
            roc_keys,
        ),
        Chart(
            "Precision and recall",
            lines(recalls, Axis("recall (sensitivity)"), Axis("precision"),
                  label="Precision-recall curve of each class"),
            recall_keys,
        ),
    ]  # fmt: skip


def _reliability(run: Run, parts: dict[str, Predictions]) -> list[Chart]:
    series, keys = [], []
    for style, (name, part) in enumerate(parts.items()):
        bins = scoring.bins(part)
        x, y = [b.confidence for b in bins], [b.accuracy for b in bins]
        radii = [2 + 8 * (b.n / len(part.y)) ** 0.5 for b in bins]
        series.append(Series(style, x, y, radii))
        keys.append(
            (key(style), f"{PARTS[name]}: ECE {metrics.ece(part.y, part.p):.3f}")
        )
    note = "Large marks hold many images; fewer than 5 are not drawn. On the diagonal, "
    note += "80 % sure is right in 80 %."
    if told := _calibration(run.record.get("calibration") or {}):
        note += f" {told}"
    svg = lines(
        series, Axis("highest probability"), Axis("accuracy"), guide=True,
        label="Reliability: accuracy by the highest probability",
    )  # fmt: skip
    return [Chart("Reliability", svg, keys, note)]


def _calibration(record: dict[str, Any]) -> str:
    if not record:
        return ""
    kept = record.get("kept", record.get("method", "none") != "none")
    method = record.get("method", "none")
    if not kept or method == "none":
        return "Calibration was tried and not kept."
    before, after = record.get("ece_before"), record.get("ece_after")
    text = f"Calibrated by {method}"
    if before is not None and after is not None:
        text += f": out-of-fold ECE {before:.3f} before, {after:.3f} after"
    return text + "."


def _learning(run: Run) -> list[Chart]:
    """Loss and accuracy by epoch: mean over the folds, and each fold thin."""
    path = run.folder / "history.csv"
    try:
        history = pd.read_csv(path)
    except (OSError, ValueError):
        return []
    if not {"fold", "epoch"} <= set(history):
        return []
    history = history[history["fold"] >= 0]
    charts = []
    for name in ("loss", "accuracy"):
        shown = [c for c in (name, f"val_{name}") if c in history]
        if shown and len(history):
            charts.append(_epochs(history, shown, name))
    return charts


def _epochs(history: pd.DataFrame, shown: Sequence[str], name: str) -> Chart:
    words = {name: "training rows", f"val_{name}": "rows held out of training"}
    series, keys = [], []
    for style, column in enumerate(shown):
        for _, fold in history.groupby("fold"):
            series.append(Series(style, fold["epoch"], fold[column], faint=True))
        mean = history.groupby("epoch")[column].mean()
        series.append(Series(style, mean.index, mean))
        keys.append((key(style), words[column]))
    x = Axis.around("epoch", history["epoch"], whole=True)
    y = Axis.around(name, history[list(shown)].to_numpy().ravel())
    svg = lines(series, x, y, label=f"{name} by epoch")
    return Chart(f"Learning: {name}", svg, keys, "Thick: mean over the folds.")


def _sources(
    material: Material, run: Run, part: Predictions
) -> dict[str, list[SourceRow]]:
    """Out-of-fold accuracy by each source column."""
    if material.manifest is None:
        return {}
    table = run.table[run.table["split"] == TRAIN]
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
    for entry in run.record.get("tuning") or []:
        if not entry.get("chosen"):
            continue
        fold = int(entry.get("fold", -1))
        where = f"fold {fold}" if fold >= 0 else "all of train"
        chosen = ", ".join(f"{k} {_short(v)}" for k, v in entry["chosen"].items())
        tried = len(entry.get("tried") or [])
        told.append(
            f"{where}: {chosen} (inner log-loss {entry.get('log_loss') or 0:.3f}, "
            f"{tried} settings on {entry.get('folds')} inner folds)"
        )
    return told


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _errors(material: Material, run: Run) -> list[Error]:
    images = material.images
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
        for row, predicted, p in scoring.worst_errors(
            run.table, run.classes, _MOST_ERRORS
        )
    ]
