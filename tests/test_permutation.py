"""A head cannot know what is not in the features: the last net against a leak."""

import numpy as np
import pytest

from featcache import heads
from featcache.evaluation import fitting, metrics
from featcache.heads import HEADS
from featcache.heads.tuning import group_folds

CASES = (
    {name: {} for name in HEADS}
    | {f"{name}, tuned": {"tune": True} for name in ("svm", "xgboost", "softmax")}
    | {"logreg, tuned embedding": {"transform": "tune", "pca": "tune"}}
)
VIEWS = 2
FEW, MANY = 75, 300  # patients
# Those that take long only on many patients, where the interval is narrower.
LONG = ("mlp", "mlp-dropout", "softmax, tuned")
TRIALS = [
    pytest.param(
        name,
        patients,
        id=f"{name}-{patients}",
        marks=[pytest.mark.slow] * (patients == MANY),
    )
    for patients in (FEW, MANY)
    for name in CASES
    if patients == MANY or name not in LONG
]


def dataset(patients, width=80, seed=0):
    """Patients of one to three images in two views, far more alike than classes are.

    Whoever has seen a patient knows the label of all its rows.
    """
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    y = rng.permutation(np.arange(patients) % 3)[groups]
    patient = rng.normal(size=(patients, width))[groups]
    noise = rng.normal(size=(len(groups), VIEWS, width))
    return (patient[:, None] + 0.1 * noise).astype(np.float32), y, groups


def out_of_fold(name, X, y, groups):
    """Which images are predicted right when their patient is held out."""
    right = np.zeros(len(y), bool)
    for train, held in group_folds(y, groups, folds=3, seed=0):
        head = heads.make(name.partition(",")[0], **CASES[name])
        if head.tune and "epochs" in head.get_params():
            head.set_params(epochs=3)  # many short trainings
        fit = fitting.fit_predict(
            head,
            X,
            y=y,
            groups=groups,
            train=train,
            held_out=held,
            n_classes=3,
            tta=True,
        )
        right[held] = fit.p.argmax(axis=1) == y[held]
    return right


@pytest.mark.parametrize(("name", "patients"), TRIALS)
def test_labels_that_are_shuffled_over_patients_cannot_be_learnt(name, patients):
    """The interval of the accuracy covers chance, or lies below it."""
    X, y, groups = dataset(patients)
    low, _ = metrics.group_bootstrap(out_of_fold(name, X, y, groups), groups)
    assert low <= np.bincount(y).max() / len(y)


@pytest.mark.parametrize(
    ("name", "patients"),
    [one for one in TRIALS if one.values[1] == MANY or not CASES[one.values[0]]],
)
def test_rows_of_one_patient_that_are_there_many_times_do_not_help(name, patients):
    """Ten patients' images, each put in ten times, gain nothing: chance it stays."""
    X, y, groups = dataset(patients)
    rows = np.repeat(np.arange(len(y)), np.where(groups < 10, 10, 1))
    right = out_of_fold(name, X[rows], y[rows], groups[rows])
    low, _ = metrics.group_bootstrap(right, groups[rows])
    assert low <= np.bincount(y[rows]).max() / len(rows)


@pytest.mark.parametrize(
    ("name", "patients"),
    [("logreg", FEW), ("svm", FEW), ("xgboost", FEW), ("svm", MANY)],
)
def test_a_leak_would_be_seen(name, patients):
    """The same data with every row in a group of its own is learnt by heart."""
    X, y, _ = dataset(patients)
    alone = np.arange(len(y))
    low, _ = metrics.group_bootstrap(out_of_fold(name, X, y, alone), alone)
    assert low > 0.6
