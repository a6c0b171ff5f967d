"""The svm on more rows than a whole kernel is fitted on: landmarks, and a warning."""

import numpy as np
import pytest
from toy_heads import GROUPS, X, Y

from featcache import heads
from featcache.core.tf import tensorflow
from featcache.deploy.graph import head_proba
from featcache.heads import linear
from featcache.heads.nystroem import Landmarks
from featcache.heads.rows import Rows
from featcache.heads.tuning import scores

TWO = np.flatnonzero(Y != "COVID")
NOTE = "the kernel is approximated by 40 of them"


def landmarks_svm(**options):
    return heads.make("svm", **options).set_params(exact_rows=20, components=40)


def trained(rows=slice(None), **options):
    with pytest.warns(linear.ApproximationWarning, match=NOTE):
        return landmarks_svm(**options).fit(X[rows], Y[rows], GROUPS[rows])


def graph_of(head):
    """The head's graph as a Keras model."""
    tensorflow()
    import keras

    x = keras.Input(X.shape[1:])
    return keras.Model(x, head_proba(head, x))


def test_it_says_that_it_is_an_approximation():
    """In a warning, and in what the record of a run keeps of its tuning."""
    assert NOTE in trained().tuning_["note"]
    head = trained(tune=True)
    assert NOTE in head.tuning_["note"]
    assert len(head.tuning_["tried"]) == len(linear.Svm.candidates)


def test_up_to_the_limit_the_kernel_is_whole():
    """No warning, and support vectors."""
    head = heads.make("svm").set_params(exact_rows=len(X)).fit(X, Y, GROUPS)
    fitted = head.model_["classify"].calibrated_classifiers_[0]
    assert hasattr(fitted.estimator, "support_vectors_")
    assert head.tuning_ == {}


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("tune", [False, True])
def test_it_is_nearly_as_good_as_the_whole_kernel(classes, tune):
    """On clouds that overlap, by log-loss and by right answers for other patients."""
    rng = np.random.default_rng(0)
    groups = np.arange(900) // 2
    codes = groups % classes
    Z = (rng.normal(size=(900, 8)) + 2 * np.eye(8)[codes]).astype(np.float32)
    out = groups // classes % 2 == 0
    exact, near = (heads.make("svm", tune=tune) for _ in range(2))
    exact.fit(Z[~out], codes[~out], groups[~out])
    near.set_params(exact_rows=100, components=100)
    with pytest.warns(linear.ApproximationWarning):
        near.fit(Z[~out], codes[~out], groups[~out])
    whole, few = (
        scores(codes[out], one.predict_proba(Z[out])) for one in (exact, near)
    )
    assert whole["accuracy"] > 0.7
    assert few["accuracy"] > whole["accuracy"] - 0.02
    assert few["log_loss"] < whole["log_loss"] + 0.03


def test_with_all_rows_as_landmarks_the_kernel_is_exact():
    """Inner products of what the machine sees are the kernel."""
    landmarks = Landmarks.of(X, 0.05, most=len(X), seed=0)
    seen = landmarks.describe(Rows(X))
    distances = np.square(X[:, None].astype(float) - X).sum(axis=2)
    np.testing.assert_allclose(
        seen @ seen.T, np.exp(-0.05 * distances), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("rows", [slice(None), TWO])
def test_it_is_saved_and_read_and_built_as_a_graph(rows, tmp_path):
    """A file of safe types gives the same numbers, and so does the exported graph."""
    head = trained(rows)
    head.save(tmp_path)
    expected = head.predict_proba(X)
    np.testing.assert_array_equal(heads.load(tmp_path).predict_proba(X), expected)
    np.testing.assert_allclose(graph_of(head)(X), expected, rtol=0, atol=1e-5)


def test_rows_or_an_array_give_the_same():
    """The approximation does not depend on how the features are held."""
    with pytest.warns(linear.ApproximationWarning):
        streamed = landmarks_svm().fit(Rows(X), Y, GROUPS)
    np.testing.assert_allclose(
        streamed.predict_proba(X), trained().predict_proba(X), rtol=0, atol=1e-4
    )
