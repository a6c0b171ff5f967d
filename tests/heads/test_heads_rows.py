"""Large features: heads read them block by block, with the same numbers."""

import tracemalloc

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from toy_heads import CASES, CUSTOM, GROUPS, X, Y, made
from toys import slow_but

from featcache import heads
from featcache.errors import HeadError
from featcache.evaluation import fitting
from featcache.heads import rows as feature_rows
from featcache.heads import streamed
from featcache.heads.embedded import components_of
from featcache.heads.rows import Rows, moments

FAST = ("logreg", "majority", "svm", "xgboost", "logreg, l2, tuned pca", CUSTOM)
KEPT = np.flatnonzero(np.arange(len(X)) % 5 < 4)


# --- rows -------------------------------------------------------------------------


def test_rows_are_read_in_their_order_through_their_steps():
    """Index upon index, and two steps, the second of another width."""
    rows = Rows(X, KEPT)[np.array([5, 3, 9, 3])].then(np.abs)
    halves = rows.then(lambda block: block[:, :4] / 2, 4)
    expected = np.abs(X[KEPT][[5, 3, 9, 3]])
    np.testing.assert_array_equal(np.asarray(rows), expected)
    np.testing.assert_array_equal(np.asarray(halves), expected[:, :4] / 2)
    assert halves.shape == (4, 4)
    np.testing.assert_array_equal(np.asarray(halves[1:3]), expected[1:3, :4] / 2)
    np.testing.assert_allclose(
        halves @ np.ones((4, 1)), expected[:, :4].sum(1)[:, None] / 2
    )


def test_blocks_hold_every_row_once():
    """The last one is shorter."""
    parts = list(Rows(X, KEPT).blocks(10))
    assert [len(part) for part in parts] == [10] * 7 + [2]
    np.testing.assert_array_equal(np.concatenate(parts), X[KEPT])


def test_moments_are_those_of_all_numbers():
    """Over blocks, in float64."""
    mean, variance = moments(Rows(X))
    np.testing.assert_allclose([mean, variance], [X.mean(), X.var()], rtol=1e-5)


def test_only_large_features_become_rows(monkeypatch):
    """At the limit they are still an array."""
    monkeypatch.setattr(feature_rows, "LARGE", X.size)
    assert feature_rows.uncopied(X) is X
    assert isinstance(feature_rows.take(X, np.arange(len(X))), np.ndarray)
    monkeypatch.setattr(feature_rows, "LARGE", X.size - 1)
    assert isinstance(feature_rows.uncopied(X), Rows)
    assert isinstance(feature_rows.take(X, np.arange(len(X))), Rows)


# --- heads ------------------------------------------------------------------------


@pytest.mark.parametrize("case", slow_but(CASES, *FAST))
def test_a_head_is_the_same_on_rows(case, monkeypatch):
    """Trained and asked through `Rows` in small blocks, it gives what it gave."""
    expected = made(case).fit(X[KEPT], Y[KEPT], GROUPS[KEPT]).predict_proba(X)
    monkeypatch.setattr(Rows.blocks, "__defaults__", (16,))
    head = made(case).fit(Rows(X, KEPT), Y[KEPT], GROUPS[KEPT])
    assert head.n_features_in_ == X.shape[1]
    # Trees split elsewhere where quantiles come from several blocks, and logistic
    # regression of classes this far apart is as exact as its solver's last step.
    tolerance = 0.03 if "xgboost" in case else 1e-4
    np.testing.assert_allclose(
        head.predict_proba(Rows(X)), expected, rtol=0, atol=tolerance
    )


@pytest.mark.parametrize("name", ["logreg", "xgboost"])
def test_two_classes_on_rows(name):
    """What has one column of margins has the same one."""
    two = np.flatnonzero(Y != "COVID")
    for tune in (False, True):
        whole, streamed = (heads.make(name, tune=tune) for _ in range(2))
        whole.fit(X[two], Y[two], GROUPS[two])
        streamed.fit(Rows(X, two), Y[two], GROUPS[two])
        assert whole.tuning_.get("selected") == streamed.tuning_.get("selected")
        np.testing.assert_allclose(
            streamed.predict_proba(X), whole.predict_proba(X), rtol=0, atol=1e-5
        )


def test_rows_that_are_not_finite_are_refused():
    """As those of an array are, with their number."""
    bad = X.copy()
    bad[[3, 50], 1] = np.nan, np.inf
    with pytest.raises(HeadError, match=f"in 2 of {len(X)} rows"):
        heads.make("logreg").fit(Rows(bad), Y)


@pytest.mark.parametrize(
    "name", slow_but(["logreg", "softmax", CUSTOM], "logreg", CUSTOM)
)
def test_a_fold_of_large_features_gives_the_same(name, monkeypatch):
    """`fit_predict` with and without copies, of two views of each image."""
    views = np.stack([X, X + 0.1], axis=1)
    held_out = np.isin(GROUPS, GROUPS[::7])

    def fold():
        head = heads.make(name)
        return fitting.fit_predict(
            head.set_params(epochs=2) if name == "softmax" else head,
            views,
            y=np.unique(Y, return_inverse=True)[1],
            groups=GROUPS,
            train=np.flatnonzero(~held_out),
            held_out=np.flatnonzero(held_out),
            n_classes=3,
            tta=True,
        ).p

    expected = fold()
    monkeypatch.setattr(feature_rows, "LARGE", 100)
    np.testing.assert_allclose(fold(), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("logreg", {"tune": False}),
        ("logreg", {"tune": False, "transform": "sqrt"}),
        ("logreg", {"tune": False, "pca": 4}),
        ("xgboost", {}),
    ],
)
def test_no_copy_of_large_features_is_made(name, options, monkeypatch):
    """All arrays that exist at once are less than one copy of the features."""
    monkeypatch.setattr(feature_rows, "LARGE", 2**17)
    monkeypatch.setattr(streamed, "SAMPLED", 512)
    monkeypatch.setattr(Rows.blocks, "__defaults__", (512,))
    rng = np.random.default_rng(0)
    many = rng.normal(size=(60_000, 64)).astype(np.float32)
    many[:, :10] += 2 * many[:, :1]  # so that it is among the first components
    codes = (many[:, 0] + rng.normal(size=len(many)) > 0).astype(int)
    head = heads.make(name, **options)
    if name == "xgboost":
        head.set_params(trees=2)
    heads.make(name, **options).fit(X, Y)  # libraries are loaded
    tracemalloc.start()
    try:
        head.fit(many, codes)
        assert tracemalloc.get_traced_memory()[1] < many.nbytes / 2
    finally:
        tracemalloc.stop()
    assert (head.predict(many) == codes).mean() > 0.6


def test_components_of_blocks_are_those_of_pca():
    """Directions, variances and what they give, as of scikit-learn."""
    Z = StandardScaler().fit_transform(X).astype(np.float32)
    expected, pca = PCA(3, svd_solver="full").fit(Z), PCA(3)
    np.testing.assert_allclose(
        components_of(Rows(Z), pca), expected.transform(Z), rtol=0, atol=1e-4
    )
    for name in (
        "components_", "explained_variance_", "explained_variance_ratio_",
        "singular_values_", "noise_variance_", "mean_",
    ):  # fmt: skip
        np.testing.assert_allclose(
            getattr(pca, name), getattr(expected, name), rtol=1e-4, atol=1e-5
        )
