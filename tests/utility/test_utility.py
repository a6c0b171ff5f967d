"""Decision curves and risk-coverage curves on predictions that can be done by hand."""

import numpy as np
import pytest

from featcache.evaluation.utility import decision_curves, risk_coverage
from featcache.evaluation.utility.net_benefit import THRESHOLDS
from featcache.evaluation.utility.risk_coverage import COVERAGES

GROUPS = np.arange(10)
Y = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
SCORE = np.array([0.9, 0.8, 0.6, 0.2, 0.7, 0.3, 0.1, 0.1, 0.1, 0.1])
P = np.stack([1 - SCORE, SCORE], axis=1)


def at(threshold: float) -> int:
    return int(np.argmin(np.abs(THRESHOLDS - threshold)))


def test_net_benefit_by_hand() -> None:
    """At 0.5: 3 hits, 1 false alarm; acting on all: 4 hits, 6 false alarms."""
    _, curve = decision_curves(Y, P, GROUPS, ["NORMAL", "COVID"])
    assert curve.benefit[at(0.5)] == pytest.approx((3 - 1) / 10)
    assert curve.act_on_all[at(0.5)] == pytest.approx((4 - 6) / 10)
    assert curve.benefit[at(0.25)] == pytest.approx((3 - 2 / 3) / 10)
    assert (curve.low <= curve.benefit).all()


def test_a_perfect_model_has_the_prevalence_as_benefit() -> None:
    """At every threshold, and it is better for sure nearly everywhere."""
    y = np.repeat([0, 1], 100)
    p = np.stack([1.0 - y, y], axis=1)
    _, curve = decision_curves(y, p, np.arange(200), ["NORMAL", "COVID"])
    assert curve.benefit == pytest.approx(np.full(99, 0.5))
    assert curve.useful is not None
    assert curve.useful[1] == 0.99


def test_a_model_that_knows_nothing_is_never_better() -> None:
    """Where all probabilities are equal, it acts on all or on none."""
    p = np.full((10, 2), 0.5)
    curves = decision_curves(Y, p, GROUPS, ["A", "B"])
    assert [one.useful for one in curves] == [None, None]


def test_a_class_alone_and_a_group_alone_have_no_curve() -> None:
    """No image of another class: no benefit. One group: no band."""
    only = decision_curves(np.ones(10, int), P, GROUPS, ["A", "B"])
    assert np.isnan(only[1].benefit).all()
    one_group = decision_curves(Y, P, np.zeros(10), ["A", "B"])
    assert np.isnan(one_group[1].low).all()
    assert one_group[1].useful is None


def test_risk_and_coverage_by_hand() -> None:
    """The two errors, 0.7 of NORMAL and 0.2 of COVID, are 6th to 9th in certainty."""
    curve = risk_coverage(Y, P, GROUPS)
    whole = curve.risk[-1]
    assert whole == pytest.approx(0.2)
    half = curve.risk[int(np.argmin(np.abs(COVERAGES - 0.5)))]
    assert half == 0
    assert [one.share for one in curve.deferrals] == [0.1, 0.2, 0.3]
    assert curve.deferrals[0].accuracy.value == pytest.approx(1 - 1.75 / 9, abs=0.03)
    assert 0 < curve.augrc.value < 0.1


def test_a_random_order_has_half_of_the_errors() -> None:
    """Where all are equally sure, the risk is the same at every coverage."""
    p = np.tile([0.4, 0.6], (10, 1))
    curve = risk_coverage(Y, p, GROUPS)
    assert curve.risk == pytest.approx(np.full(20, 0.6))
    assert curve.augrc.value == pytest.approx(0.3)


def test_one_group_has_no_interval() -> None:
    """The figures are there, and the reason why they have no width."""
    curve = risk_coverage(Y, P, np.zeros(10))
    assert np.isnan(curve.low).all()
    assert curve.augrc.reason
