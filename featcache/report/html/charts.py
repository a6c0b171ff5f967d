"""The charts of one run."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from featcache.errors import RunError
from featcache.evaluation import metrics
from featcache.evaluation.curves import Ahead, LearningCurve
from featcache.evaluation.operating_points import OperatingPoint
from featcache.evaluation.record import CalibrationInfo
from featcache.evaluation.runs import TEST, TRAIN, Predictions, Run
from featcache.evaluation.utility import (
    DecisionCurve,
    decision_curves,
    risk_coverage,
)
from featcache.evaluation.utility.net_benefit import THRESHOLDS
from featcache.evaluation.utility.risk_coverage import COVERAGES
from featcache.report.curves import gain_bands, law_line, sentences
from featcache.report.html import scoring
from featcache.report.html.svg import Axis, Series, Svg, key, lines

PARTS = {TRAIN: "out-of-fold", TEST: "test set"}


@dataclass(frozen=True)
class Chart:
    """A figure: title, drawing, what explains the lines, and a line below."""

    title: str
    svg: Svg
    legend: list[tuple[Svg, str]] = field(default_factory=list)
    note: str = ""


def curves(
    run: Run,
    part: Predictions,
    of: str,
    points: Sequence[OperatingPoint] = (),
) -> list[Chart]:
    """ROC and precision-recall curves.

    Args:
        run: The run.
        part: Its predictions on one part.
        of: What the part is called.
        points: Operating points, which are marked with their intervals.
    """
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
    marked = [one for point in points for one in _marked(point)]
    note = "Marks: at 95 % sensitivity; boxes: 95 % intervals." if marked else ""
    share, truth = Axis("1 - specificity"), Axis("sensitivity")
    return [
        Chart(
            f"ROC, one class against the rest, {of}",
            lines(
                [*rocs, *marked], share, truth, guide=True,
                label="ROC curve of each class",
            ),
            roc_keys,
            note,
        ),
        Chart(
            f"Precision and recall, {of}",
            lines(recalls, Axis("recall (sensitivity)"), Axis("precision"),
                  label="Precision-recall curve of each class"),
            recall_keys,
        ),
    ]  # fmt: skip


def _marked(point: OperatingPoint) -> list[Series]:
    """An operating point and the box of its two intervals."""
    across, up = point.specificity, point.sensitivity
    if not (across.known and up.known):
        return []
    box = Series(
        point.column, [1 - across.high, 1 - across.low], [np.nan, np.nan],
        low=[up.low] * 2, high=[up.high] * 2,
    )  # fmt: skip
    return [box, Series(point.column, [1 - across.value], [up.value], [5.0])]


def risk(part: Predictions, of: str) -> Chart:
    """Share of errors among the images that the run is surest of."""
    curve = risk_coverage(part.y, part.p, part.groups)
    svg = lines(
        [Series(0, COVERAGES, curve.risk, low=curve.low, high=curve.high)],
        Axis("share of images kept, the surest first"),
        Axis.around("share of errors", [0, *curve.risk, *curve.high]),
        label="Share of errors by the share of images that are kept",
    )
    left = "; ".join(
        f"{one.share:.0%} left to a person: accuracy {one.accuracy}"
        for one in curve.deferrals
    )
    note = f"{left}. AUGRC {curve.augrc}: 0 is best."
    return Chart(f"If uncertain images are left to a person, {of}", svg, [], note)


def decisions(part: Predictions, classes: Sequence[str], of: str) -> list[Chart]:
    """The decision curve of each class that some images are of, but not all."""
    every = decision_curves(part.y, part.p, part.groups, classes)
    return [_decision(one, of) for one in every if np.isfinite(one.benefit).all()]


def _decision(curve: DecisionCurve, of: str) -> Chart:
    top = float(max(curve.act_on_all[0], np.nanmax(curve.benefit), 0.01))
    low = -0.1 * top
    over = curve.act_on_all >= low
    floor = np.maximum(curve.benefit, low), np.maximum(curve.low, low)
    svg = lines(
        [
            Series(1, THRESHOLDS[over], curve.act_on_all[over]),
            Series(2, [0, 1], [0, 0]),
            Series(0, THRESHOLDS, floor[0], low=floor[1], high=curve.high.clip(low)),
        ],
        Axis("threshold probability"),
        replace(Axis.around("net benefit", [0, top]), low=low),
        label=f"Net benefit of acting on the probability of {curve.class_name}",
    )
    keys = [(key(n), text) for n, text in enumerate(("model", "act on all", "on none"))]
    note = "Nowhere better than acting on all or on none, for sure."
    if useful := curve.useful:
        note = (
            "Better for sure than acting on all or on none at thresholds from "
            f"{useful[0]:.2f} to {useful[1]:.2f}."
        )
    return Chart(f"Decision curve, {curve.class_name}, {of}", svg, keys, note)


def reliability(run: Run, parts: dict[str, Predictions]) -> list[Chart]:
    """Accuracy by the highest probability, a line a part."""
    series, keys = [], []
    for style, (name, part) in enumerate(parts.items()):
        bins = scoring.bins(part)
        x, y = [b.confidence for b in bins], [b.accuracy for b in bins]
        radii = [2 + 8 * (b.n / len(part.y)) ** 0.5 for b in bins]
        series.append(Series(style, x, y, radii))
        keys.append(
            (key(style), f"{PARTS[name]}: ECE {metrics.ece(part.y, part.p):.3f}")
        )
    note = (
        "Larger marks stand for more images; bins with fewer than 5 are not shown. On "
        "the diagonal, confidence equals accuracy."
    )
    if calibration := _calibration(run.record.calibration):
        note += f" {calibration}"
    svg = lines(
        series, Axis("highest probability"), Axis("accuracy"), guide=True,
        label="Reliability: accuracy by the highest probability",
    )  # fmt: skip
    return [Chart("Reliability", svg, keys, note)]


def _calibration(record: CalibrationInfo | None) -> str:
    if record is None:
        return ""
    if not record.kept:
        return "Calibration was tried and discarded."
    before, after = record.ece_before, record.ece_after
    return (
        f"Calibrated by {record.method}: out-of-fold ECE {before:.3f} before, "
        f"{after:.3f} after."
    )


def learning(run: Run) -> list[Chart]:
    """Loss and accuracy by epoch: mean over the folds, and each fold thin.

    For a run evaluated on the test set alone, that of its final model.
    """
    try:
        history = pd.read_csv(run.file("history.csv"), dtype=float)
    except (OSError, ValueError, RunError):
        return []
    if not {"fold", "epoch"} <= set(history) or not np.isfinite(history["epoch"]).all():
        return []
    of_folds = history[history["fold"] >= 0]
    only_test = of_folds.empty
    epochs = history if only_test else of_folds
    note = "Thick: mean over the folds."
    if only_test:
        note = "The final model, fitted on the whole training set."
    charts = []
    for name in ("loss", "accuracy"):
        columns = [c for c in (name, f"val_{name}") if c in epochs]
        if columns and len(epochs):
            charts.append(_epochs(epochs, columns, name, note))
    return charts


def _epochs(
    history: pd.DataFrame, columns: Sequence[str], name: str, note: str
) -> Chart:
    words = {name: "training rows", f"val_{name}": "held-out rows"}
    several = history["fold"].nunique() > 1
    series, keys = [], []
    for style, column in enumerate(columns):
        if several:
            for _, fold in history.groupby("fold"):
                series.append(Series(style, fold["epoch"], fold[column], faint=True))
        mean = history.groupby("epoch")[column].mean()
        series.append(Series(style, mean.index, mean))
        keys.append((key(style), words[column]))
    x = Axis.around("epoch", history["epoch"], whole=True)
    y = Axis.around(name, history[list(columns)].to_numpy().ravel())
    svg = lines(series, x, y, label=f"{name} by epoch")
    return Chart(f"Learning: {name}", svg, keys, note)


def learning_curve(curve: LearningCurve) -> Chart:
    """Score by the groups trained on, and the fitted law as far as it is trusted."""
    points = curve.points
    groups, scores = [p.groups for p in points], [p.score for p in points]
    law_groups, law_scores = law_line(curve)
    measured = Series(
        0, groups, scores, [4.0] * len(points),
        low=[p.low for p in points], high=[p.high for p in points],
    )  # fmt: skip
    law, bands = Series(1, law_groups, law_scores), gain_bands(curve)
    ends = [v for p in points for v in (p.low, p.high)]
    ends += [v for _, *of_band in bands for v in of_band]
    expected = [_expected(curve.fit.ahead, bands)] if curve.fit and bands else []
    name = curve.metric.replace("_", " ")
    svg = lines(
        [law, *expected, measured],
        Axis.around(f"{curve.unit} trained on", [0, *groups, *law_groups], whole=True),
        Axis.around(f"out-of-fold {name}", [*scores, *ends, *law_scores]),
        label=f"{name} by {curve.unit} trained on",
    )
    keys = [(key(0), "measured, with 95 % interval")]
    if law_groups.size:
        text = ", with the 95 % band of the gain" if bands else ""
        keys.append((key(1), f"inverse power law{text}"))
    title = f"More {curve.unit}: {name}"
    return Chart(title, svg, keys, " ".join(sentences(curve)))


def _expected(ahead: Sequence[Ahead], bands: Sequence[tuple[float, ...]]) -> Series:
    """The law's points ahead in the band of the gain, which begins where it is none."""
    today = ahead[0].score - ahead[0].gain
    start = (ahead[0].groups / ahead[0].times, today, today)
    groups, low, high = np.array([start, *bands]).T
    return Series(1, groups, [today, *(a.score for a in ahead)], low=low, high=high)
