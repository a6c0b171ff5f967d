"""Calibration: it mends what was bent, never peeks, leaves alone what is fair."""

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from featcache.errors import RunError, SplitError, UsageError
from featcache.evaluation import calibration, metrics
from featcache.evaluation.calibration import (
    calibrate_predictions,
    cross_fit,
    from_record,
)
from featcache.evaluation.record import CalibrationInfo


def fair(seed: int, images: int = 1000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels drawn from the very probabilities that are given, and five folds."""
    rng = np.random.default_rng(seed)
    P = rng.dirichlet([0.7, 0.7, 0.7], size=images)
    y = (P.cumsum(axis=1) < rng.random(images)[:, None]).sum(axis=1)
    return y, P, np.arange(images) % 5


def bent(P: np.ndarray, power: float) -> np.ndarray:
    """More certain than they should be for a power above 1."""
    return P**power / (P**power).sum(axis=1, keepdims=True)


def test_temperature_is_found() -> None:
    """Probabilities that were raised to a power get it back as the temperature."""
    y, P, folds = fair(0, 4000)
    found = cross_fit(y, bent(P, 3.0), folds)
    assert found.record.method == "temperature"
    assert found.record.parameters["temperature"] == pytest.approx(3, rel=0.1)
    assert_allclose(found.p, P, atol=0.05)


def test_sigmoid_is_found() -> None:
    """A class that is named three times too seldom is mended by an intercept."""
    y, P, folds = fair(0, 4000)
    wrong = P * [1 / 3, 1, 1]
    found = cross_fit(y, wrong / wrong.sum(axis=1, keepdims=True), folds)
    assert found.record.method == "sigmoid"
    first, *others = found.record.parameters["intercept"]
    assert first > max(others) + 0.5
    assert found.record.log_loss_after < found.record.log_loss_before - 0.05


@pytest.mark.parametrize("power", [0.4, 3.0])
def test_what_was_bent_is_mended(power: float) -> None:
    """Log-loss and ECE fall; accuracy and AUC stay, as the record says."""
    y, P, folds = fair(1)
    found = cross_fit(y, bent(P, power), folds)
    record = vars(found.record)
    assert record["kept"]
    assert record["log_loss_after"] < record["log_loss_before"] - 0.02
    assert record["ece_after"] < record["ece_before"] / 2
    for name in ("accuracy", "auc"):
        assert record[f"{name}_after"] >= record[f"{name}_before"] - 0.005
    for name in ("log_loss", "ece", "accuracy", "auc"):
        assert record[f"{name}_after"] == metrics.scores(y, found.p)[name]


def test_what_is_fair_is_left_alone() -> None:
    """Probabilities that already mean what they say come back as they are."""
    y, P, folds = fair(0)
    found = cross_fit(y, P, folds)
    assert not found.record.kept
    assert found.record.method == "none"
    assert found.record.parameters == {}
    assert_array_equal(found.p, P)
    assert_array_equal(found.calibrator(P[:3]), P[:3])


def test_a_fold_has_no_say_in_its_own() -> None:
    """Other labels in a fold change nothing in that fold's probabilities."""
    y, P, folds = fair(2, 300)
    P = bent(P, 2.5)
    other = np.where(folds == 3, (y + 1) % 3, y)
    one, two = cross_fit(y, P, folds), cross_fit(other, P, folds)
    assert_array_equal(one.p[folds == 3], two.p[folds == 3])
    assert not np.array_equal(one.p, two.p)


def test_the_test_set_is_calibrated_by_all_folds() -> None:
    """Folds as by `cross_fit`, the test set by its calibrator; the input stays."""
    y, P, folds = fair(0)
    P, folds = bent(P, 3.0), np.where(np.arange(len(y)) < 200, -1, folds)
    before, train = P.copy(), folds >= 0
    p, record = calibrate_predictions(P, y, np.arange(len(y)), folds)
    fitted = cross_fit(y[train], P[train], folds[train])
    assert record == fitted.record
    assert_array_equal(p[train], fitted.p)
    assert_array_equal(p[~train], fitted.calibrator(P[~train]))
    assert_array_equal(P, before)


def test_it_is_repeatable() -> None:
    """Row order changes nothing."""
    y, P, folds = fair(3, 300)
    P = bent(P, 2.5)
    order = np.random.default_rng(0).permutation(300)
    shuffled = cross_fit(y[order], P[order], folds[order])
    assert_allclose(shuffled.p, cross_fit(y, P, folds).p[order], atol=1e-6)


@pytest.mark.parametrize("method", ["none", "temperature", "sigmoid"])
def test_a_calibrator_survives_json(method: str) -> None:
    """What is rebuilt from the record gives the same probabilities, bit by bit."""
    y, P, folds = fair(0)
    if method == "temperature":
        P = bent(P, 3.0)
    if method == "sigmoid":
        P = bent(P, 1.0) * [0.2, 1, 1]
        P /= P.sum(axis=1, keepdims=True)
    found = cross_fit(y, P, folds)
    assert found.record.method == method
    again = from_record(CalibrationInfo(**json.loads(json.dumps(vars(found.record)))))
    assert again == found.calibrator
    assert_array_equal(again(P), found.calibrator(P))


@pytest.mark.parametrize("method", ["temperature", "sigmoid"])
def test_certainty_is_survived(method: str) -> None:
    """Zeros and ones come back as probabilities that a mistake costs less."""
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=120)
    P = np.eye(3)[np.where(rng.random(120) < 0.8, y, (y + 1) % 3)]
    fits = calibration._Fits(y, P, np.arange(120) % 4)
    p = fits.fit(method, [0, 1, 2])(P)
    assert np.isfinite(metrics.log_loss(y, p))
    assert metrics.log_loss(y, p) < metrics.log_loss(y, P) / 5
    assert_allclose(p.sum(axis=1), 1)


def test_a_class_may_lack_in_a_fold() -> None:
    """A class that one fold alone holds, or none, is no reason to fail."""
    y, P, folds = fair(5, 400)
    keep = (y != 2) | (folds == 0)
    y, P, folds = y[keep], bent(P[keep], 3.0), folds[keep]
    found = cross_fit(y, np.c_[P, np.zeros(len(y))], folds)
    assert np.isfinite(found.p).all()
    assert_allclose(found.p.sum(axis=1), 1)


@pytest.mark.parametrize("folds", [1, 2])
def test_few_folds_leave_nothing_to_choose_on(folds: int) -> None:
    """With two folds the others are one: only the final calibrator can be chosen."""
    y, P, _ = fair(1)
    P = bent(P, 3.0)
    found = cross_fit(y, P, np.arange(len(y)) % folds)
    assert_array_equal(found.p, P)
    assert found.record.kept == (folds == 2)


def test_a_group_stands_in_one_fold() -> None:
    """A group in two folds would leak, and is refused."""
    y, P, folds = fair(0, 20)
    groups = np.arange(20) // 5 * 5 + folds  # of one fold each
    cross_fit(y, P, folds, groups=groups)
    groups[:2] = 99
    with pytest.raises(SplitError, match="1 in several"):
        cross_fit(y, P, folds, groups=groups)


@pytest.mark.parametrize("folds", [[0, 1], [0, 1, -1], [0.0, 1.0, 2.0]])
def test_folds_are_refused(folds: list[float]) -> None:
    """Folds are whole numbers from 0, one an image: the test part has none."""
    with pytest.raises(UsageError, match="without the test set"):
        cross_fit([0, 1, 0], np.full((3, 2), 0.5), folds)


@pytest.mark.parametrize(
    "record",
    [
        {"method": "magic", "parameters": {}},
        {"method": "temperature", "parameters": {}},
        {"method": "temperature", "parameters": {"temperature": None}},
        {"method": "temperature", "parameters": {"temperature": float("nan")}},
        {"method": "temperature", "parameters": {"temperature": 0}},
        {"method": "sigmoid", "parameters": {"slope": [1.0]}},
        {"method": "sigmoid", "parameters": {"slope": [1.0], "intercept": [0.0, 1.0]}},
        {"method": "none", "parameters": {"temperature": 2.0}},
    ],
)
def test_edited_records_are_refused(record: dict) -> None:
    """A record that no calibration wrote is an error with a way out."""
    made = replace(cross_fit(*fair(1)).record, **record)
    with pytest.raises(RunError, match="`force=True`"):
        from_record(made)
