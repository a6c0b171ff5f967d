"""Scores of an external set, their differences to internal ones, and their limits."""

import json
import math
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from toy_external import CLASSES, predictions, rows, softmax

from featcache.evaluation import metrics
from featcache.evaluation.external import (
    Scores,
    conditional,
    differences,
    evaluate,
    internal_scores,
)
from featcache.evaluation.external.calibration_lines import curve, intercept_and_slope
from featcache.evaluation.external.sample_size import needed
from featcache.evaluation.figures import Figure, difference
from featcache.evaluation.operating_points import operating_points
from featcache.evaluation.runs import Predictions


def numbers(value: Any) -> list[dict[str, Any]]:
    """Every figure in a record."""
    if isinstance(value, dict):
        nested = [one for part in value.values() for one in numbers(part)]
        return [value, *nested] if "low" in value else nested
    return [x for one in value for x in numbers(one)] if isinstance(value, list) else []


def test_scores_are_those_of_metrics() -> None:
    """Values and intervals are those of `metrics`; the record is JSON."""
    data = predictions(0, 150)
    found = evaluate(data, CLASSES)
    values = metrics.scores(data.y, data.p)
    ends = metrics.intervals(data.y, data.p, data.groups)
    for name, value in values.items():
        figure = getattr(found, name)
        assert (figure.value, figure.low, figure.high) == (value, *ends[name])
    assert (found.n, found.n_groups) == (len(data.y), 150)
    assert (found.absent, found.conditional) == ([], False)
    assert list(found.per_class) == CLASSES
    json.dumps(found.to_json(), allow_nan=False)


def test_absent_classes() -> None:
    """Without a class, probabilities are those given the others, and it says so.

    Thresholds are applied to what they were chosen on.
    """
    internal, data = predictions(1, 100), predictions(2, 100, prior=(0.5, 0.5, 0.0))
    points = operating_points(
        internal.y, internal.p, internal.groups, internal.groups % 5, CLASSES
    ).points
    scores = evaluate(data, CLASSES, points)
    assert (scores.absent, scores.conditional) == (["c"], True)
    two = data.p[:, :2] / data.p[:, :2].sum(axis=1, keepdims=True)
    alone = evaluate(Predictions(data.y, two, data.groups), CLASSES[:2])
    assert scores.auc.value == pytest.approx(alone.auc.value)
    assert scores.accuracy.value == pytest.approx(alone.accuracy.value)
    assert scores.log_loss.value == pytest.approx(alone.log_loss.value)
    astray = (data.p.argmax(axis=1) == 2).mean()
    assert scores.predicted_absent.value == pytest.approx(astray) != 0
    hits = data.p[data.y == 0, 0] >= points[0].threshold
    assert scores.points[0].sensitivity.value == pytest.approx(hits.mean())
    assert scores.points[4].sensitivity.reason == "no image of c"
    assert scores.points[4].specificity.known


def test_conditional_by_hand() -> None:
    """0.2 and 0.2 of 0.4 are one half each; nothing at all is level."""
    p = np.array([[0.2, 0.6, 0.2], [0.0, 1.0, 0.0]])
    assert_allclose(conditional(p, np.array([0, 2])), [[0.5, 0, 0.5]] * 2)


@pytest.mark.parametrize(
    ("keep", "reason"),
    [
        ("one class", "one class has no AUC"),
        ("one group", "one group has no interval"),
        ("three images", "a class of one group has no interval"),
        ("ties", None),
    ],
)
def test_poor_sets(keep: str, reason: str | None) -> None:
    """Every figure has a number with its width, or says why not."""
    data = predictions(3, 40)
    if keep == "one class":
        data = rows(data, data.y == 1)
    elif keep == "one group":
        data = rows(data, data.groups == data.groups[0])
    elif keep == "three images":
        first = [int(np.flatnonzero(data.y == c)[0]) for c in range(3)]
        data = rows(data, np.isin(np.arange(len(data.y)), first))
    else:
        data = Predictions(data.y, np.full_like(data.p, 1 / 3), data.groups)
    scores = evaluate(data, CLASSES)
    figures = numbers(scores.to_json())
    assert len(figures) >= 10
    for figure in figures:
        has_all = None not in (figure["value"], figure["low"], figure["high"])
        assert has_all != bool(figure.get("reason"))
        assert not has_all or figure["low"] < figure["high"]
    if reason:
        assert reason in {figure.get("reason") for figure in figures}
    for one in scores.needed.values():
        assert (one.groups is None) == bool(one.reason)


def test_figures_as_text() -> None:
    """A figure shows its interval, or why there is none."""
    assert str(Figure(0.5, 0.25, 0.75)) == "0.500 (0.250-0.750)"
    assert str(Figure(-0.5, -0.75, 0.25)) == "-0.500 (-0.750 to 0.250)"
    assert str(Figure.none("one class")) == "n/a (one class)"
    assert str(Figure.of(1.0, (math.nan, math.nan), "one group")) == "1.000 (one group)"


def test_difference_by_hand() -> None:
    """Each end is the root of the squares of what both intervals extend that way."""
    gap = difference(Figure(0.5, 0.4, 0.7), Figure(0.9, 0.6, 1.0))
    assert gap.value == pytest.approx(-0.4)
    assert gap.low == pytest.approx(-0.4 - math.hypot(0.1, 0.1))
    assert gap.high == pytest.approx(-0.4 + math.hypot(0.2, 0.3))
    perfect = Figure(1.0, 0.9, 1.0)
    assert difference(perfect, perfect).low == pytest.approx(-0.1)
    assert difference(perfect, Figure.none("one class")).reason == "one class"


def test_differences_compare_like_with_like() -> None:
    """The internal set is scored on the classes that the external one has."""
    internal = predictions(4, 150)
    data = predictions(5, 150, prior=(0.5, 0.5, 0.0), distance=1.0)
    inside = internal_scores(internal, data, CLASSES)
    assert (inside.absent, inside.conditional) == (["c"], True)
    assert inside.n == (internal.y != 2).sum()
    outside = evaluate(data, CLASSES)
    gaps = differences(outside, inside)
    assert gaps["auc"].value == pytest.approx(outside.auc.value - inside.auc.value)
    assert gaps["auc"].high < 0
    assert "sensitivity of c" not in gaps
    same = differences(inside, inside)
    assert all(gap.low < 0 < gap.high for gap in same.values() if gap.known)


def test_intercept_and_slope_by_hand() -> None:
    """Log-odds twice too large have the slope 1/2; a shift of 1 the intercept 1."""
    x = np.repeat([-2.0, 2.0], 1000)
    share = 1 / (1 + np.exp(-x / 2))
    inside = np.tile(np.arange(1000), 2) < (share * 1000).round()
    groups = np.arange(2000)
    p = 1 / (1 + np.exp(-x))
    intercept, slope = intercept_and_slope(inside, p, groups)
    assert slope.value == pytest.approx(0.5, abs=0.003)
    assert slope.low < 0.5 < slope.high
    assert intercept.value == pytest.approx(0, abs=0.003)
    # The error of the slope is that of the difference of two logits, over 4.
    error = math.sqrt(2 / (1000 * share[0] * (1 - share[0]))) / 4
    assert (slope.high - slope.low) / 2 == pytest.approx(1.96 * error, rel=0.08)


@pytest.mark.parametrize(
    ("p", "reason"),
    [
        ([0.1, 0.2, 0.8, 0.9], "separates"),
        ([0.9, 0.8, 0.2, 0.1], "separates"),
        ([0.4, 0.4, 0.4, 0.4], "the same"),
    ],
)
def test_no_slope(p: list[float], reason: str) -> None:
    """Where no slope fits, it says why; there is an intercept all the same."""
    inside = np.array([False, False, True, True])
    intercept, slope = intercept_and_slope(inside, np.array(p), np.arange(4))
    assert reason in str(slope.reason)
    assert math.isfinite(intercept.low)


def test_curve() -> None:
    """Calibrated probabilities lie on the diagonal, too sharp ones cross it."""
    data = predictions(6, 1500, most=1)
    points = curve(data.y == 0, data.p[:, 0], data.groups)
    assert 5 <= len(points) <= 11
    for point in points:
        assert point.observed.value == pytest.approx(point.predicted, abs=0.1)
        assert 0 <= point.observed.low < point.observed.high <= 1
    sharp = softmax(3 * np.log(data.p))[:, 0]
    points = curve(data.y == 0, sharp, data.groups)
    assert points[0].observed.low > points[0].predicted
    assert points[-1].observed.high < points[-1].predicted
    (flat,) = curve(data.y == 0, np.full(len(data.y), 0.3), data.groups)
    assert flat.observed.value == pytest.approx((data.y == 0).mean())


def test_patients_needed() -> None:
    """Single images at one half: 385 for 5 points; copies in a group add nothing."""
    hit = np.arange(200) % 2
    draws = metrics.bootstrap_sums(hit[:, None].astype(float), np.arange(200)) / 200
    size = needed(0.5, draws[:, 0], basis=200, groups=200, images=200, of_images=200)
    assert size.groups == pytest.approx(385, rel=0.07)
    assert size.images == size.groups
    assert size.design_effect == pytest.approx(1, rel=0.07)
    copies = needed(0.5, draws[:, 0], basis=200, groups=200, images=800, of_images=800)
    assert (copies.groups, copies.images) == (size.groups, 4 * size.images)
    assert copies.design_effect == pytest.approx(4, rel=0.07)
    perfect = needed(1.0, np.ones(9), basis=50, groups=50, images=50)
    assert perfect.groups is not None
    assert 50 < perfect.groups < 100


def test_two_thousand_groups() -> None:
    """Thousands of groups and draws are scored with every curve."""
    scores = evaluate(predictions(7, 2000, most=2), CLASSES)
    assert isinstance(scores, Scores)
    assert scores.accuracy.high - scores.accuracy.low < 0.05


@pytest.mark.slow
def test_coverage_of_slopes() -> None:
    """Intervals of intercept and slope hold the truth about 95 times in 100."""
    hits = []
    for seed in range(200):
        data = predictions(seed, 200, most=1, distance=1.5, sharpness=2.0)
        pair = data.y < 2
        p = softmax(np.log(data.p[pair, :2]))[:, 0]
        a, b = intercept_and_slope(data.y[pair] == 0, p, data.groups[pair])
        hits.append((a.low <= 0 <= a.high, b.low <= 0.5 <= b.high))
    assert (np.mean(hits, axis=0) > 0.91).all()
