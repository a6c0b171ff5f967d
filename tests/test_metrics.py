"""Rules of featcache.evaluation.metrics."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import metrics as reference

from featcache.errors import UsageError
from featcache.evaluation import metrics

# Six images of three classes; predicted 0 1 | 1 1 | 2 0. By hand: right are images
# 0, 2, 3 and 4.
Y = np.array([0, 0, 1, 1, 2, 2])
P = np.array(
    [
        [0.8, 0.1, 0.1],
        [0.3, 0.4, 0.3],
        [0.1, 0.7, 0.2],
        [0.2, 0.6, 0.2],
        [0.1, 0.0, 0.9],
        [0.5, 0.1, 0.4],
    ]
)


def random_case(
    seed: int, *, images: int = 200, classes: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities with many ties, better than chance."""
    rng = np.random.default_rng(seed)
    y = rng.integers(classes, size=images)
    mass = rng.integers(1, 6, size=(images, classes)) + 2 * np.eye(classes)[y]
    return y, mass / mass.sum(axis=1, keepdims=True)


def test_confusion() -> None:
    """Rows are true classes, columns predicted ones."""
    assert_array_equal(metrics.confusion(Y, P), [[1, 1, 0], [0, 2, 0], [1, 0, 1]])


def test_by_hand() -> None:
    """The worked example gives the numbers that paper and pencil give."""
    got = metrics.scores(Y, P)
    assert got["accuracy"] == pytest.approx(4 / 6)
    assert got["balanced_accuracy"] == pytest.approx((1 / 2 + 1 + 1 / 2) / 3)
    assert got["macro_f1"] == pytest.approx((2 / 4 + 4 / 5 + 2 / 3) / 3)
    assert got["auc"] == pytest.approx((7 / 8 + 8 / 8 + 8 / 8) / 3)
    assert got["brier"] == pytest.approx((0.06 + 0.74 + 0.14 + 0.24 + 0.02 + 0.62) / 6)
    assert got["log_loss"] == pytest.approx(
        -np.log([0.8, 0.3, 0.7, 0.6, 0.9, 0.4]).mean()
    )
    # Each top probability has a bin of its own: 0.8 0.7 0.6 0.9 right, 0.4 0.5 wrong.
    assert got["ece"] == pytest.approx((0.2 + 0.4 + 0.3 + 0.4 + 0.1 + 0.5) / 6)


def test_per_class_by_hand() -> None:
    """Each class against the rest, in the order of the columns."""
    got = metrics.per_class(Y, P)
    assert_allclose(got["sensitivity"], [1 / 2, 1, 1 / 2])
    assert_allclose(got["specificity"], [3 / 4, 3 / 4, 1])
    assert_allclose(got["auc"], [7 / 8, 1, 1])


REFERENCES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": lambda y, P: reference.accuracy_score(y, P.argmax(1)),
    "balanced_accuracy": lambda y, P: reference.balanced_accuracy_score(y, P.argmax(1)),
    "macro_f1": lambda y, P: reference.f1_score(y, P.argmax(1), average="macro"),
    "auc": lambda y, P: reference.roc_auc_score(y, P, multi_class="ovr"),
    "log_loss": lambda y, P: reference.log_loss(y, P),
    "brier": lambda y, P: reference.brier_score_loss(y, P, scale_by_half=False),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", REFERENCES)
def test_reference(name: str, seed: int) -> None:
    """Scores equal scikit-learn's, ties included."""
    y, P = random_case(seed)
    assert metrics.scores(y, P)[name] == pytest.approx(REFERENCES[name](y, P))


def test_confusion_reference() -> None:
    """The confusion matrix equals scikit-learn's."""
    y, P = random_case(0)
    assert_array_equal(
        metrics.confusion(y, P), reference.confusion_matrix(y, P.argmax(1))
    )


def test_two_classes() -> None:
    """With two classes the AUC is the usual one, from either side."""
    y, P = random_case(0, classes=2)
    usual = reference.roc_auc_score(y, P[:, 1])
    assert_allclose(metrics.auc_per_class(y, P), usual)
    assert metrics.auc_ovr(y, P) == pytest.approx(usual)


def test_absent_class() -> None:
    """A class without an image has no sensitivity and no AUC, and no say in means."""
    y, few = Y[:4], P[:4]
    assert_array_equal(np.isnan(metrics.sensitivity(y, few)), [False, False, True])
    assert_array_equal(np.isnan(metrics.auc_per_class(y, few)), [False, False, True])
    assert metrics.balanced_accuracy(y, few) == pytest.approx(3 / 4)
    assert metrics.macro_f1(y, few) == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert metrics.auc_ovr(y, few) == pytest.approx(1.0)
    assert np.isfinite(list(metrics.scores(y, few).values())).all()


def test_single_class() -> None:
    """One class alone has an accuracy but neither specificity nor AUC."""
    y, P = np.zeros(3, int), np.full((3, 1), 1.0)
    assert metrics.accuracy(y, P) == 1
    assert np.isnan(metrics.auc_ovr(y, P))
    assert np.isnan(metrics.specificity(y, P)).all()


def test_log_loss_is_finite() -> None:
    """A certain mistake costs -ln 1e-15, not infinity."""
    got = metrics.log_loss([0], [[0.0, 1.0]])
    assert got == pytest.approx(-np.log(1e-15))


def test_ece_of_calibrated_bins() -> None:
    """A bin right as often as it claims adds nothing; its upper edge is inside."""
    P = np.tile([0.8, 0.2], (5, 1))
    assert metrics.ece([0, 0, 0, 0, 1], P) == pytest.approx(0)
    edges = np.array([[0.6, 0.4], [0.58, 0.42]])  # 0.6 = 9/15 closes its bin
    assert metrics.ece([0, 1], edges) == pytest.approx(abs(1 - 0.6 - 0.58) / 2)


@pytest.mark.parametrize(
    ("y", "P", "message"),
    [
        ([0, 1], [[0.5, 0.5]], r"y \(2,\) and P \(1, 2\)"),
        ([0], [0.5], r"P \(1,\)"),
        ([], np.zeros((0, 2)), r"P \(0, 2\)"),
        ([2], [[0.5, 0.5]], "from 0 to 1; got int64 labels from 2 to 2"),
        ([-1], [[0.5, 0.5]], "labels from -1 to -1"),
        ([0.0], [[0.5, 0.5]], "float64 labels"),
        ([0], [[np.nan, 0.5]], "values from nan"),
        ([0], [[-0.5, 1.5]], "values from -0.5"),
        ([0], [[2.0, 1.0]], "predict_proba"),
    ],
)
def test_refusals(y: list, P: list, message: str) -> None:
    """Shapes, labels and rows that are no probabilities are refused."""
    with pytest.raises(UsageError, match=message):
        metrics.scores(y, P)
