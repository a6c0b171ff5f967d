"""The rules that every head keeps."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks
from toy_heads import CASES, CUSTOM, GROUPS, LABELS, X, Y, fitted, fitted_again, made
from toys import slow_but

from featcache import heads
from featcache.core.tf import tensorflow
from featcache.errors import HeadError
from featcache.heads import HEADS, embedded, files, networks

TRAINED_IN_EPOCHS = ["softmax", "mlp", "mlp-dropout"]

every_head = pytest.mark.parametrize("name", CASES)
# Where each case is fitted anew, these two take long, and much of them is in others.
LONG = ("mlp-dropout", "softmax, sqrt")
every_head_anew, every_head_of_ours_anew = (
    pytest.mark.parametrize(
        "name", slow_but(names, *(name for name in names if name not in LONG))
    )
    for names in (CASES, [name for name in CASES if CUSTOM not in name])
)


def _params(head):
    """All parameters, those of an inner head too, without the objects."""
    return {k: v for k, v in head.get_params().items() if not hasattr(v, "get_params")}


def test_the_table_lists_the_heads_in_the_order_of_the_study():
    """Names and their order are what users see; a head knows its own name."""
    assert list(HEADS) == [
        "softmax-untrained",
        "softmax",
        "mlp",
        "mlp-dropout",
        "logreg",
        "svm",
        "xgboost",
        "majority",
    ]
    assert [heads.make(name).name for name in HEADS] == list(HEADS)


@every_head
def test_a_head_can_be_cloned_and_fit_leaves_its_parameters_alone(name):
    """Parameters are what the caller gave, before and after `fit`."""
    before = _params(made(name))
    assert before["seed"] == 1
    assert _params(clone(fitted(name))) == _params(fitted(name)) == before


@every_head
def test_probabilities_follow_the_sorted_classes_and_sum_to_one(name):
    """Columns are in the order of `classes_`, and `predict` takes the largest."""
    head = fitted(name)
    proba = head.predict_proba(X)
    assert head.classes_.tolist() == sorted(LABELS)
    assert proba.shape == (len(X), 3)
    assert proba.dtype == np.float64
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-12)
    assert (head.predict(X) == head.classes_[proba.argmax(axis=1)]).all()


@every_head
def test_the_same_seed_gives_the_same_head(name):
    """Fitting twice gives the same probabilities, whatever the labels are called."""
    again = fitted_again(name).predict_proba(X)
    np.testing.assert_allclose(again, fitted(name).predict_proba(X), atol=1e-6)


@pytest.mark.parametrize("name", ["softmax-untrained", "mlp-dropout"])
def test_a_global_seed_does_not_reach_a_head(name):
    """What other code of the process gave to TensorFlow as its seed changes nothing."""
    tensorflow().random.set_seed(6)
    expected = fitted(name).predict_proba(X)
    tensorflow().random.set_seed(5)
    again = made(name).fit(X, Y, GROUPS).predict_proba(X)
    tensorflow().random.set_seed(6)  # what is fitted later had another seed, too
    np.testing.assert_array_equal(again, expected)


@pytest.mark.parametrize("name", ["softmax-untrained", "xgboost", "mlp-dropout"])
def test_another_seed_gives_another_head(name):
    """Where chance has a part, the seed decides it."""
    other = made(name, seed=2).fit(X, Y, GROUPS).predict_proba(X)
    assert np.abs(other - fitted(name).predict_proba(X)).max() > 1e-3


@every_head
def test_a_saved_head_predicts_the_same(name, tmp_path):
    """A head comes back from its folder with class, parameters and probabilities."""
    head = fitted(name)
    file = head.save(tmp_path)
    loaded = heads.load(tmp_path)
    rotation = {embedded.FILE} if "components" in name else set()
    expected = {files.RECORD, file} | rotation
    assert {path.name for path in tmp_path.iterdir()} == expected
    assert Path(file).suffix in {".skops", ".ubj", ".keras"}
    assert type(loaded) is type(head)
    assert json.dumps(_params(loaded)) == json.dumps(_params(head))
    assert loaded.tuning_ == head.tuning_
    assert loaded.classes_.tolist() == head.classes_.tolist()
    np.testing.assert_allclose(
        loaded.predict_proba(X), head.predict_proba(X), atol=1e-6
    )


@every_head
def test_integer_labels_come_back_as_integers_after_a_reload(name, tmp_path):
    """Labels may be of any type that scikit-learn takes."""
    fitted_again(name).save(tmp_path)
    predicted = heads.load(tmp_path).predict(X)
    assert predicted.dtype.kind == "i"
    assert set(predicted) <= {0, 10, 20}


@every_head
def test_a_head_learns_what_is_easy_to_tell_apart(name):
    """All but the two floors of the table separate far-apart clouds."""
    accuracy = fitted(name).score(X, Y)
    if name == "majority":
        assert accuracy == pytest.approx(1 / 3, abs=0.01)
    elif name == "softmax-untrained":
        assert accuracy < 0.9
    else:
        assert accuracy > 0.95


@every_head_anew
def test_the_unit_of_the_features_does_not_matter(name):
    """Scaling lives in the head: features times 1024 give the same probabilities."""
    scaled = made(name).fit(X * 1024, Y, GROUPS)
    np.testing.assert_allclose(
        scaled.predict_proba(X * 1024), fitted(name).predict_proba(X), atol=1e-3
    )


@every_head
def test_a_row_is_predicted_the_same_alone_and_among_others(name):
    """Scaling knows the training rows only, not the rows it predicts."""
    far = np.vstack([X[:1], 1e4 + X[1:]])
    head = fitted(name)
    np.testing.assert_allclose(
        head.predict_proba(far)[:1], head.predict_proba(X[:1]), atol=1e-6
    )


@every_head_of_ours_anew
def test_features_that_never_vary_teach_nothing(name):
    """A constant matrix gives every row the same probabilities, and no warning."""
    proba = made(name).fit(np.ones_like(X), Y, GROUPS).predict_proba(X[:5] * 0 + 1)
    assert np.ptp(proba, axis=0).max() < 1e-6


@every_head_anew
def test_a_class_absent_from_training_has_no_column(name):
    """`classes_` are the classes seen."""
    seen = Y != "NORMAL"
    head = made(name).fit(X[seen], Y[seen], GROUPS[seen])
    assert head.classes_.tolist() == ["COVID", "Viral Pneumonia"]
    assert head.predict_proba(X).shape == (len(X), 2)


@every_head
def test_one_class_is_refused(name):
    """There is nothing to learn from one class."""
    with pytest.raises(HeadError, match=r"two classes.*only COVID in 90 training rows"):
        made(name).fit(X, np.full(len(X), "COVID"))


@every_head
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused_and_counted(name, value):
    """A rotten row is named in number, in training and in prediction."""
    bad = X.copy()
    bad[[3, 5], 0] = value
    with pytest.raises(HeadError, match="in 2 of 90 rows"):
        made(name).fit(bad, Y)
    with pytest.raises(HeadError, match="in 2 of 90 rows"):
        fitted(name).predict_proba(bad)


@every_head
def test_history_has_one_row_an_epoch_where_there_are_epochs(name):
    """Rows count epochs from 1; other heads have none."""
    rows = fitted(name).history_
    assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))
    assert bool(rows) == (name.partition(",")[0] in TRAINED_IN_EPOCHS)
    columns = ["epoch", "loss", "accuracy", *networks.WATCHED]
    assert all(list(row) == columns for row in rows)


# --- scikit-learn's own battery -----------------------------------------------------

OURS = "raises HeadError, which is no ValueError"


def _expected_failures(head):
    ours = dict.fromkeys(
        [
            "check_estimators_nan_inf",
            "check_classifiers_one_label",
            "check_fit2d_1sample",
        ],
        OURS,
    )
    floor = {"check_classifiers_train": "looks at no feature"}
    return ours | (floor if head.name == "majority" else {})


@parametrize_with_checks(
    [heads.make(name) for name in ("majority", "logreg", CUSTOM)]
    + [heads.make(CUSTOM, transform="sqrt")],
    expected_failed_checks=_expected_failures,
)
def test_scikit_learn_takes_a_head_for_one_of_its_own(estimator, check):
    """The contract of an estimator, as scikit-learn tests it."""
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(
    [heads.make("logreg", transform="tune")],
    expected_failed_checks=_expected_failures,
)
def test_scikit_learn_takes_a_head_that_tunes_itself_too(estimator, check):
    """The contract holds where the embedding is chosen inside."""
    check(estimator)
