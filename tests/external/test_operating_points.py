"""Operating points: thresholds by hand, honest rates, and what cannot be attained."""

import json
import math

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from toy_external import CLASSES, predictions

from featcache.errors import UsageError
from featcache.evaluation.figures import Figure, shares
from featcache.evaluation.operating_points import (
    OperatingPoints,
    PointOptions,
    apply,
    at_points,
    groups_needed,
    operating_points,
    predictive_values,
    thresholds,
)

SCORE = np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9])
INSIDE = np.array([False, False, True, False, True, False, True, True])


def test_sensitivity_by_hand() -> None:
    """Of 4 images, 0.75 allows one miss: midway between 0.6 and the 0.4 below."""
    assert thresholds.at_sensitivity(INSIDE, SCORE, 0.75) == pytest.approx(0.5)
    assert thresholds.at_sensitivity(INSIDE, SCORE, 1.0) == pytest.approx(0.25)
    assert thresholds.at_sensitivity(INSIDE, SCORE, 0.76) == pytest.approx(0.25)


def test_specificity_by_hand() -> None:
    """Of 4 others, 0.75 allows one alarm: midway between 0.4 and the 0.6 above."""
    assert thresholds.at_specificity(INSIDE, SCORE, 0.75) == pytest.approx(0.5)
    assert thresholds.at_specificity(INSIDE, SCORE, 1.0) == pytest.approx(0.75)


def test_youden_by_hand() -> None:
    """From 0.3 and from 0.6 on the index is 0.5: the lower of two that are level."""
    assert thresholds.youden(INSIDE, SCORE) == pytest.approx(0.25)
    # Without the first three: 2/3 + 1 - 1 from 0.8 on.
    assert thresholds.youden(INSIDE[3:], SCORE[3:]) == pytest.approx(0.75)


@pytest.mark.parametrize("target", [0.5, 0.8, 0.95, 0.99])
def test_targets_are_kept_to(target: float) -> None:
    """On the images it was chosen on, a threshold keeps to its target, ties or not."""
    rng = np.random.default_rng(3)
    score, inside = rng.integers(20, size=500) / 20, rng.random(500) < 0.3
    cut = thresholds.at_sensitivity(inside, score, target)
    assert (score[inside] >= cut).mean() >= target
    higher = np.min(score[score >= cut])
    assert (score[inside] > higher).mean() < target
    cut = thresholds.at_specificity(inside, score, target)
    assert (score[~inside] < cut).mean() >= target


def test_groups_needed() -> None:
    """59 patients without a miss show 95 %, 299 show 99 %; none show 100 %."""
    assert [groups_needed(s) for s in (0.9, 0.95, 0.99, 1.0)] == [29, 59, 299, None]
    assert 0.95**59 <= 0.05 < 0.95**58


def test_what_cannot_be_attained() -> None:
    """25 patients cannot show a sensitivity of 0.95; the point says how many can."""
    y = np.repeat([0, 1], [25, 100])
    p = np.stack([1 - 0.8 * y, 0.8 * y], axis=1)
    options = PointOptions(unit="patients")
    points = operating_points(
        y, p, np.arange(125), np.arange(125) % 5, ["ill", "well"], options
    )
    ill, _, well, _ = points.points
    assert (ill.attainable, ill.groups, ill.groups_needed) == (False, 25, 59)
    assert ill.note == (
        "Not attainable with 25 patients: a sensitivity of 0.95 needs at least 59 "
        "without a miss."
    )
    assert (well.attainable, well.note) == (True, "")
    assert points.triage[1].rule_in.note == (
        "Not attainable with 25 patients: a specificity of 0.95 needs at least 59 "
        "without a false alarm."
    )
    assert ill.sensitivity.value == 1.0
    assert ill.sensitivity.low == pytest.approx(0.85, abs=0.02)


def test_figures_by_hand() -> None:
    """A fold's threshold comes from the other folds alone."""
    y = np.array([0, 0, 1, 1] * 2)
    first = [0.9, 0.8, 0.3, 0.2, 0.5, 0.4, 0.1, 0.1]
    p = np.stack([first, 1 - np.array(first)], axis=1)
    folds = np.repeat([0, 1], 4)
    options = PointOptions(sensitivity=1.0)
    points = operating_points(y, p, np.arange(8), folds, ["a", "b"], options).points
    # Fold 0 is cut at 0.25, midway between 0.4 and 0.1; fold 1 at 0.55.
    assert points[0].sensitivity.value == pytest.approx(2 / 4)
    assert points[0].specificity.value == pytest.approx(3 / 4)
    # Stated is their mean, 0.4, moved midway between 0.4 and the 0.3 below.
    assert points[0].threshold == pytest.approx(0.35)


def test_the_stated_threshold_is_the_mean_of_the_folds() -> None:
    """It flags what the mean of the folds' thresholds flags."""
    data = predictions(5, 80, distance=1.5)
    points = operating_points(data.y, data.p, data.groups, data.groups % 5, CLASSES)
    for point in points.points:
        mean = np.mean(point.fold_thresholds)
        score = data.p[:, point.column]
        assert (score >= point.threshold).sum() == (score >= mean).sum()


def test_thresholds_that_differ_widen_the_interval() -> None:
    """Folds that give other thresholds make the rates of the stated one less sure."""
    y = np.repeat([0, 1] * 2, 20)
    first = np.concatenate([
        np.full(20, 0.9), np.linspace(0.5, 0.6, 20),
        np.linspace(0.55, 0.65, 20), np.full(20, 0.1),
    ])  # fmt: skip
    p = np.stack([first, 1 - first], axis=1)
    groups = np.arange(80)
    apart, same = (
        operating_points(y, p, groups, folds, ["a", "b"]).points[0]
        for folds in (np.repeat([0, 1], 40), np.arange(80) % 2)
    )
    assert len({round(t, 2) for t in apart.fold_thresholds}) == 2
    width, narrow = (p.specificity.high - p.specificity.low for p in (apart, same))
    plain = shares(
        first[y == 1][:, None] < apart.threshold,
        np.ones((40, 1)),
        groups[y == 1],
        reasons=[""],
    )[0]
    assert width > plain.high - plain.low
    assert width > narrow


def test_predictive_values_by_hand() -> None:
    """Sensitivity 0.9, specificity 0.8, prevalence 0.1: PPV 1/3, NPV 72/73."""
    ppv, npv = predictive_values(Figure(0.9, 0.8, 0.95), Figure(0.8, 0.7, 0.9), 0.1)
    assert ppv.value == pytest.approx(1 / 3)
    assert npv.value == pytest.approx(72 / 73)
    assert 0 < ppv.low < ppv.value < ppv.high < 1
    assert 0 < npv.low < npv.value < npv.high < 1


def test_predictive_values_without_alarm() -> None:
    """Without a false alarm the PPV is 1, and its lower end follows the prevalence."""
    rates = Figure(0.9, 0.8, 0.95), Figure(1.0, 0.97, 1.0)
    often, rare = (predictive_values(*rates, share)[0] for share in (0.5, 0.01))
    assert (often.value, often.high, rare.value, rare.high) == (1, 1, 1, 1)
    assert often.low == pytest.approx(0.8 / 0.83)
    assert rare.low == pytest.approx(0.8 / (0.8 + 0.03 * 99))
    nothing = Figure(0.0, 0.0, 0.1), Figure(1.0, 0.9, 1.0)
    assert predictive_values(*nothing, 0.5)[0].reason == "no image is flagged"


def test_prevalences() -> None:
    """Predictive values are at the data's prevalence, then at those stated."""
    data = predictions(0, 200)
    options = PointOptions(prevalences={"a": [0.01]})
    points = operating_points(
        data.y, data.p, data.groups, data.groups % 5, CLASSES, options
    )
    own, stated = points.points[0].predictive
    assert own.of_data
    assert own.prevalence == pytest.approx((data.y == 0).mean())
    assert (stated.of_data, stated.prevalence) == (False, 0.01)
    assert stated.ppv.value < own.ppv.value
    assert len(points.points[2].predictive) == 1


def test_triage() -> None:
    """Shares ruled out, in between and ruled in sum to one; thresholds never cross."""
    data = predictions(1, 300, distance=1.5)
    points = operating_points(data.y, data.p, data.groups, data.groups % 5, CLASSES)
    for one in points.triage:
        total = one.ruled_out.value + one.between.value + one.ruled_in.value
        assert total == pytest.approx(1)
        assert one.rule_out.threshold < one.rule_in.threshold
    easy = predictions(1, 300, distance=4.0)
    points = operating_points(easy.y, easy.p, easy.groups, easy.groups % 5, CLASSES)
    for one in points.triage:
        assert one.rule_out.threshold == one.rule_in.threshold
        assert one.between.value == 0
        assert one.between.high > 0


def test_records_survive_json() -> None:
    """Points are what they were after JSON, absent classes and all."""
    data = predictions(2, 30, prior=(0.6, 0.4, 0.0))
    points = operating_points(data.y, data.p, data.groups, data.groups % 3, CLASSES)
    text = json.dumps(points.to_json(), allow_nan=False)
    again = OperatingPoints.from_json(json.loads(text))
    assert json.dumps(again.to_json()) == text
    assert points.points[4].note == "no image of c"
    assert math.isnan(points.points[4].threshold)
    with pytest.raises(ValueError, match=r"operating_points\.points\[0\]\.threshold"):
        OperatingPoints.from_json({"points": [points.to_json()["points"][0] | {
            "threshold": "0.5"}]})  # fmt: skip


def test_flags() -> None:
    """An image is flagged from the threshold on; a point without one flags nothing."""
    data = predictions(2, 30, prior=(0.6, 0.4, 0.0))
    points = operating_points(
        data.y, data.p, data.groups, data.groups % 3, CLASSES
    ).points
    flags = apply(points, data.p)
    assert flags.shape == (len(data.y), 6)
    assert_array_equal(flags[:, 0], data.p[:, 0] >= points[0].threshold)
    assert not flags[:, 4:].any()
    rates = at_points(points, data.y, data.p, data.groups)
    hits = flags[data.y == 1, 2].mean()
    assert rates[2][0].value == pytest.approx(hits)
    assert rates[4][0].reason == "no image of c"


@pytest.mark.parametrize("case", ["one class", "one fold", "ties", "one image"])
def test_poor_data(case: str) -> None:
    """What cannot be estimated says why; what can has a width."""
    data = predictions(4, 12)
    y, p, folds = data.y, data.p, data.groups % 3
    groups = data.groups
    if case == "one class":
        y = np.zeros_like(y)
    elif case == "one fold":
        folds = np.zeros_like(folds)
    elif case == "ties":
        p = np.full_like(p, 1 / 3)
    else:
        y, p, folds, groups = y[:1], p[:1], folds[:1], groups[:1]
    points = operating_points(y, p, groups, folds, CLASSES)
    for point in [*points.points, *(one.rule_in for one in points.triage)]:
        assert math.isfinite(point.threshold) or point.note
        for figure in (point.sensitivity, point.specificity):
            assert math.isfinite(figure.low) or figure.reason
            assert figure.low != figure.high
    json.dumps(points.to_json(), allow_nan=False)


@pytest.mark.parametrize("options", [
    {"sensitivity": 0.0}, {"specificity": 1.2}, {"prevalences": {"a": [1.0]}},
])  # fmt: skip
def test_impossible_options(options: dict[str, float]) -> None:
    """Shares that cannot be are refused."""
    with pytest.raises(UsageError):
        PointOptions(**options)  # type: ignore[arg-type]


def honest_and_true(seeds: range, groups: int, kind: int = 0) -> np.ndarray:
    """Out-of-fold, in-sample and true sensitivity, and coverage, (draws, 4)."""
    table = []
    many = predictions(999, 20_000, distance=1.5)
    for seed in seeds:
        data = predictions(seed, groups, distance=1.5)
        point = operating_points(
            data.y, data.p, data.groups, data.groups % 5, CLASSES
        ).points[kind]
        true = (many.p[many.y == 0, 0] >= point.threshold).mean()
        naive = (data.p[data.y == 0, 0] >= point.threshold).mean()
        within = point.sensitivity.low <= true <= point.sensitivity.high
        table.append((point.sensitivity.value, naive, true, within))
    return np.array(table, float)


def test_sensitivity_is_honest() -> None:
    """Out of fold, a threshold's sensitivity is what it is on new images."""
    honest, naive, true, _ = honest_and_true(range(12), 60).mean(axis=0)
    assert honest == pytest.approx(true, abs=0.015)
    assert naive > true + 0.01


@pytest.mark.slow
def test_sensitivity_of_many_draws() -> None:
    """With 300 groups the interval holds the true sensitivity 9 times in 10 or more."""
    honest, _, true, within = honest_and_true(range(200), 300).mean(axis=0)
    assert honest == pytest.approx(true, abs=0.005)
    assert 0.9 <= within <= 0.99


@pytest.mark.slow
def test_youden_of_many_draws() -> None:
    """The threshold that is stated has the rate of its interval, and no other one."""
    _, _, _, within = honest_and_true(range(300, 600), 100, kind=1).mean(axis=0)
    assert 0.92 <= within <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("groups", [50, 200])
def test_coverage_near_one(groups: int) -> None:
    """Intervals over patients hold a sensitivity of 0.98 about 95 times in 100."""
    rng, hits = np.random.default_rng(0), 0
    for _ in range(500):
        sizes = rng.integers(1, 5, groups)
        group = np.repeat(np.arange(groups), sizes)
        patient = rng.beta(0.98 * 4, 0.02 * 4, size=groups)
        right = rng.random(len(group)) < patient[group]
        table = right[:, None]
        (figure,) = shares(table, np.ones_like(table), group, reasons=[""])
        hits += figure.low <= 0.98 <= figure.high
    assert 0.92 <= hits / 500 <= 0.99
