"""Subsamples, power laws, and what is made of predictions at several sizes."""

import re
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from featcache.evaluation.curves import (
    SHARES,
    CurveFit,
    LearningCurve,
    Measured,
    Size,
    class_need,
    fit_curve,
    measure,
    subsample,
)
from featcache.evaluation.curves.power_law import fit_power_laws

IMAGES, CLASSES = 600, 3
Y = np.arange(IMAGES) % CLASSES
GROUPS = np.array([f"p{i // 6}" for i in range(IMAGES)])
OF_ONE_CLASS = np.array([f"p{i % CLASSES}-{i // 6}" for i in range(IMAGES)])


def predictions(rng: np.random.Generator, right: float) -> np.ndarray:
    """Sure predictions, of which about this share is right."""
    hit = rng.random(IMAGES) < right
    return np.eye(CLASSES)[np.where(hit, Y, (Y + 1) % CLASSES)] * 0.8 + 0.2 / 3


def fit_of(score: Callable[[float], float], seed: int = 0) -> CurveFit:
    """The fit of a curve whose true score with n of 240 groups is known."""
    rng = np.random.default_rng(seed)
    sizes = [
        Size(
            share,
            share * 240,
            share * 480,
            [
                predictions(rng, score(share * 240))
                for _ in range(5 if share < 1 else 1)
            ],
        )
        for share in SHARES
    ]
    return fit_curve(measure(sizes, Y, GROUPS, "accuracy"))


def test_subsamples_are_nested_and_keep_groups_and_classes() -> None:
    """A smaller share is a part of a larger; groups stay whole; classes keep shares."""
    shares = [subsample(Y, OF_ONE_CLASS, share, draw=3) for share in SHARES]
    for smaller, larger in pairwise(shares):
        assert not (smaller & ~larger).any()
    assert shares[-1].all()
    half = shares[SHARES.index(0.5)]
    assert not set(OF_ONE_CLASS[half]) & set(OF_ONE_CLASS[~half])
    assert np.bincount(Y[half]).tolist() == [100, 100, 100]
    least = subsample(Y, OF_ONE_CLASS, 0.001, draw=3)
    assert len(set(OF_ONE_CLASS[least])) == CLASSES
    other = subsample(Y, OF_ONE_CLASS, 0.5, draw=4)
    assert (other != half).any()


def test_one_class_alone_is_halved() -> None:
    """The other classes keep every group."""
    kept = subsample(Y, OF_ONE_CLASS, 0.5, draw=0, of_class=1)
    assert np.bincount(Y[kept]).tolist() == [200, 100, 200]


def test_a_power_law_is_fitted_exactly() -> None:
    """Points of a law give its floor, scale and exponent; rising errors a flat law."""
    groups = np.array([10.0, 20, 40, 80, 160])
    law = fit_power_laws(groups, np.stack([0.05 + 0.8 * groups**-0.5, groups / 1000]))
    assert law.floor[0] == pytest.approx(0.05, abs=2e-3)
    assert law.errors(np.array([640.0]))[0, 0] == pytest.approx(
        0.05 + 0.8 * 640**-0.5, abs=1e-3
    )
    assert law.scale[1] == 0
    assert law.errors(groups)[1] == pytest.approx(np.full(5, groups @ groups / 310e3))


def test_no_law_rises() -> None:
    """Resamples that lie above the best score have no error below nought."""
    groups = np.array([20.0, 40.0, 80.0, 160.0])
    laws = fit_power_laws(groups, np.array([[-0.04, -0.03, -0.02, -0.01]]))
    assert laws.floor[0] == laws.scale[0] == 0


def test_the_gain_of_a_law_is_within_its_band() -> None:
    """Doubling adds what the true law says, and half of the curve foretells it all."""
    fit = fit_of(lambda n: 0.95 - 0.6 * n**-0.5)
    assert fit.refused is None
    (twice,) = [one for one in fit.ahead if one.times == 2]
    assert twice.low <= 0.6 * (240**-0.5 - 480**-0.5) <= twice.high
    assert fit.back_test
    assert fit.back_test.holds
    assert max(one.times for one in fit.ahead) == 4


@pytest.mark.parametrize(
    ("score", "reason"),
    [
        (lambda n: 0.9 - 0.0006 * n, "falls"),
        (lambda n: 0.5 + 0.4 / (1 + np.exp((60 - n) / 2)), "no inverse power law"),
        (lambda n: 0.5 + 0.45 * max(n / 240 - 0.5, 0), "gains more|no inverse"),
        (lambda n: 0.7 + 0.05 * max(np.log2(n / 120), 0), "gains more"),
    ],
)
def test_ill_behaved_curves_are_refused(
    score: Callable[[float], float], reason: str
) -> None:
    """A fall, steps and a late rise are no power laws, and nothing is foretold."""
    fit = fit_of(score)
    assert fit.refused
    assert re.search(reason, fit.refused)
    assert not fit.ahead


def test_a_flat_curve_promises_nothing() -> None:
    """Where more groups bring nothing, doubling them adds nothing."""
    fit = fit_of(lambda _: 0.8)
    assert fit.refused is None
    assert all(one.gain < 0.01 and one.low == 0 for one in fit.ahead)


def test_all_right_has_a_width() -> None:
    """If every prediction is right, points have an interval, and no gain lacks one."""
    truth = np.eye(CLASSES)[Y] * 0.8 + 0.2 / 3
    sizes = [Size(share, share * 80, share * 480, [truth, truth]) for share in SHARES]
    measured = measure(sizes, Y, GROUPS, "accuracy")
    assert all(point.low < point.score == 1 for point in measured.points())
    fit = fit_curve(measured)
    assert fit.refused
    assert "no band" in fit.refused
    need = class_need("COVID", 80, measure(sizes[-2:], Y, GROUPS, "accuracy"))
    assert need.loss == 0
    assert np.isnan([need.low, need.high]).all()


def test_the_class_that_is_lacking_costs_most() -> None:
    """The loss of half of a class is a difference of scores, with its interval."""
    rng = np.random.default_rng(1)
    half = Size(0.5, 200, 400, [predictions(rng, 0.7) for _ in range(5)])
    whole = Size(1.0, 240, 480, [predictions(rng, 0.9)])
    need = class_need("COVID", 80, measure([half, whole], Y, GROUPS, "accuracy"))
    assert need.low < 0.2 < need.high
    assert need.low > 0.1


def test_resamples_without_a_score_do_not_count() -> None:
    """An AUC without one of its two classes is no number."""
    sizes = [Size(share, 3 * share, 9, []) for share in (0.5, 1.0)]
    scores = [np.array([0.7, 0.7]), np.array([0.8])]
    resampled = np.array([[0.6, 0.8], [0.7, 0.8], [np.nan, np.nan], [0.8, 0.8]])
    need = class_need("COVID", 3, Measured(sizes, scores, resampled, 3))
    assert 0 <= need.low < need.loss < need.high <= 0.2


def test_a_curve_reads_as_it_was_written() -> None:
    """What to_json gives, from_json reads."""
    curve = LearningCurve(
        run="3f2a1b",
        run_id="logreg-3f2a1b",
        label="logreg",
        metric="accuracy",
        unit="patients",
        folds=5,
        groups=300,
        points=[],
        fit=fit_of(lambda n: 0.9 - n**-0.5),
    )
    assert LearningCurve.from_json(curve.to_json()) == curve
