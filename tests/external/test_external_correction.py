"""Correction for another prevalence, and recalibration, on planted shifts."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from toy_external import LEVEL, predictions, rows

from featcache.errors import UsageError
from featcache.evaluation import metrics
from featcache.evaluation.external import correct_priors, recalibrate
from featcache.evaluation.runs import Predictions

SHIFTED = (0.7, 0.2, 0.1)


def test_priors_by_hand() -> None:
    """With certain probabilities the estimate is the share of each class."""
    p = np.eye(2)[[0, 0, 0, 1]]
    result = correct_priors(p, np.arange(4), (0.5, 0.5))
    assert [one.value for one in result.estimated] == pytest.approx([0.75, 0.25])
    assert_allclose(result.p, p)
    assert result.converged


def test_corrected_by_hand() -> None:
    """Corrected odds are the odds times the ratio of the prevalences' odds."""
    data = predictions(0, 300, prior=SHIFTED)
    result = correct_priors(data.p, data.groups, LEVEL)
    share = np.array([one.value for one in result.estimated])
    expected = data.p * share / LEVEL
    assert_allclose(result.p, expected / expected.sum(axis=1, keepdims=True))
    assert_allclose(result.p.mean(axis=0), share, atol=1e-5)


def test_planted_shift() -> None:
    """EM recovers the prevalence, and the corrected probabilities lose less."""
    data = predictions(1, 500, prior=SHIFTED)
    result = correct_priors(data.p, data.groups, LEVEL)
    for one, true in zip(result.estimated, SHIFTED, strict=True):
        assert one.low <= true <= one.high
        assert one.high - one.low < 0.12
    assert metrics.log_loss(data.y, result.p) < metrics.log_loss(data.y, data.p) - 0.02


def test_no_shift() -> None:
    """Without a shift hardly anything changes."""
    data = predictions(2, 500)
    result = correct_priors(data.p, data.groups, LEVEL)
    assert np.abs(result.p - data.p).max() < 0.06


@pytest.mark.parametrize(("images", "reason"), [(1, "one group"), (40, "tell")])
def test_no_interval(images: int, reason: str) -> None:
    """A single group, or level probabilities, have no interval, and say why."""
    result = correct_priors(np.full((images, 3), 1 / 3), np.arange(images), LEVEL)
    assert all(reason in str(one.reason) for one in result.estimated)


@pytest.mark.parametrize("training", [(1.0, 0.0, 0.0), (0.5, 0.5)])
def test_impossible_priors(training: tuple[float, ...]) -> None:
    """A class without a training image cannot be corrected for."""
    with pytest.raises(UsageError, match="share of each of 3"):
        correct_priors(np.full((4, 3), 1 / 3), np.arange(4), training)


@pytest.mark.slow
@pytest.mark.parametrize("distance", [1.0, 2.0])
def test_bias_and_coverage(distance: float) -> None:
    """Over many draws, the estimate is unbiased and its interval covers as stated."""
    draws = [
        correct_priors(data.p, data.groups, LEVEL).estimated
        for data in (
            predictions(seed, 200, prior=SHIFTED, distance=distance)
            for seed in range(200)
        )
    ]
    values = np.array([[one.value for one in draw] for draw in draws])
    assert np.abs(values.mean(axis=0) - SHIFTED).max() < 0.015
    inside = [
        [f.low <= t <= f.high for f, t in zip(draw, SHIFTED, strict=True)]
        for draw in draws
    ]
    assert (np.mean(inside, axis=0) > 0.9).all()


def test_recalibration() -> None:
    """Too sharp probabilities lose less, each image's calibrated by other groups."""
    data = predictions(3, 150, sharpness=3.0)
    result = recalibrate(data)
    assert result.p is not None
    assert result.record is not None
    assert (result.folds, result.record.kept) == (5, True)
    assert metrics.log_loss(data.y, result.p) < metrics.log_loss(data.y, data.p) - 0.1
    again = recalibrate(data)
    assert_allclose(again.p, result.p)


def test_recalibration_without_a_class() -> None:
    """A class that is absent has no probability, and the others sum to one."""
    data = predictions(4, 150, prior=(0.5, 0.5, 0.0), sharpness=3.0)
    result = recalibrate(data)
    assert result.p is not None
    assert (result.p[:, 2] == 0).all()
    assert_allclose(result.p.sum(axis=1), 1)


def test_recalibration_with_few_groups() -> None:
    """With too few groups of a class it is not applicable, and says so."""
    data = predictions(5, 40)
    assert recalibrate(rows(data, data.y == 0)).reason == (
        "one class cannot be recalibrated"
    )
    few = np.unique(data.groups[data.y == 1])[:2]
    some = rows(data, (data.y != 1) | np.isin(data.groups, few))
    assert recalibrate(some).reason == "the rarest class has 2 of the 3 groups needed"
    one = Predictions(data.y, data.p, np.zeros_like(data.groups))
    assert recalibrate(one).p is None
