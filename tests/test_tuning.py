"""What a head chooses, it chooses inside its training rows, by whole groups."""

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from toys import slow_but

from featcache import heads
from featcache.errors import HeadError
from featcache.evaluation import fitting
from featcache.heads import HEADS, embedded, linear, logistic, networks, tuning
from featcache.heads.base import COLUMNS, COMMON, TOO_FEW, fitted_scaler

SCORES = {"log_loss", "accuracy"}
TUNED = {
    "logreg": {},
    "svm": {"tune": True},
    "xgboost": {"tune": True},
    "softmax": {"tune": True},
    "mlp": {"tune": True},
    "embedded": {"transform": "tune", "pca": "tune"},
}


def clouds(n=120, width=8, *, distance=1.0, seed=0):
    """Three clouds of points (n, width), and patients of two rows each."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n) // 2 % 3
    X = rng.normal(size=(n, width)) + distance * np.eye(3, width)[codes]
    return X.astype(np.float32), codes, np.arange(n) // 2


def make(name, **more):
    options = TUNED[name] | more
    return quick(heads.make("logreg" if name == "embedded" else name, **options))


def quick(head):
    """The same with few epochs of a narrow network, where it is one."""
    short = {"epochs": 2, "units": (4,)}
    known = head.get_params(deep=False)
    return head.set_params(**{k: v for k, v in short.items() if k in known})


# Keras heads take longest; that they can be tuned at all is among the fast tests.
every_tuned_head = pytest.mark.parametrize(
    "name", slow_but(TUNED, *(name for name in TUNED if name not in ("softmax", "mlp")))
)


def test_the_row_says_whether_a_head_tunes_itself():
    """`tune=None` is what the table says, and the class's own default."""
    for name, row in HEADS.items():
        head = heads.make(name)
        assert head.tune == type(head)().tune == row.tune
    assert [name for name, row in HEADS.items() if row.tune] == ["logreg"]
    assert heads.make("svm", tune=True).tune
    assert not heads.make("logreg", tune=False).tune


@pytest.mark.parametrize("name", HEADS)
def test_candidates_are_settings_of_their_head(name):
    """A head that can tune itself knows what to try, and nothing else does."""
    head = heads.make(name, tune=True)
    for settings in head.candidates:
        head.set_params(**settings)
    assert head.tune == (bool(head.candidates) or name == "logreg")


@every_tuned_head
def test_what_is_chosen_has_the_smallest_inner_log_loss(name):
    """The record has a row a trial, and `chosen` is the best of them."""
    found = make(name).fit(*clouds()).tuning_
    losses = [row["log_loss"] for row in found["tried"]]
    assert len(losses) > 1
    best = found["tried"][int(np.argmin(losses))]
    assert found["selected"] == {k: v for k, v in best.items() if k not in SCORES}
    assert found["log_loss"] == min(losses)
    assert all(row.keys() >= SCORES for row in found["tried"])
    assert found["folds"] > 1


@every_tuned_head
def test_the_same_seed_tries_and_chooses_the_same(name):
    """Tuning is as deterministic as fitting."""
    once, again = (make(name, seed=3).fit(*clouds()).tuning_ for _ in range(2))
    assert once == again


@every_tuned_head
def test_with_one_group_a_class_the_defaults_are_taken_and_it_is_said(name):
    """There is nothing to hold out; the svm, which needs folds, is refused before."""
    X, codes, _ = clouds()
    if name == "svm":
        pytest.skip("cannot be calibrated without two groups of every class")
    head = make(name).fit(X, codes, codes)
    assert head.tuning_ == tuning.summary([], 0, TOO_FEW)
    plain = quick(heads.make("logreg" if name == "embedded" else name, tune=False))
    np.testing.assert_allclose(
        head.predict_proba(X), plain.fit(X, codes, codes).predict_proba(X), atol=1e-6
    )


@every_tuned_head
def test_the_tuner_never_sees_the_outer_fold_nor_splits_a_group(name, monkeypatch):
    """Held-out images do not reach it, and views of one image stay together."""
    X, codes, groups = clouds()
    views = np.stack([X, X + 0.1], axis=1)
    held = np.flatnonzero(groups % 5 == 0)
    train = np.flatnonzero(groups % 5)
    views[held] = np.nan  # whoever looks at them fails
    seen = []
    draw = tuning.group_folds

    def spy(codes, groups, **options):
        folds = draw(codes, groups, **options)
        seen.append((groups, folds))
        return folds

    monkeypatch.setattr(tuning, "group_folds", spy)
    head = make(name)
    none = np.arange(0)
    arguments = {"y": codes, "groups": groups, "n_classes": 3}
    fit = fitting.fit_predict(head, views, train=train, held_out=none, **arguments)
    assert fit.tuning == head.tuning_
    assert fit.tuning["tried"]
    assert seen
    for inner, folds in seen:
        assert set(inner) <= set(groups[train])
        for kept, out in folds:
            assert not set(inner[kept]) & set(inner[out])


# --- the path of logreg ---------------------------------------------------------


def test_the_path_has_45_values_from_a_millionth_to_a_hundred_thousand():
    """Evenly spaced in the logarithm."""
    assert len(linear.PATH) == 45
    assert (linear.PATH[0], linear.PATH[-1]) == (1e-6, 1e5)
    np.testing.assert_allclose(np.diff(np.log10(linear.PATH)), 0.25, atol=0.002)


def test_noise_wants_a_strong_penalty_and_clear_classes_a_weak_one():
    """The path finds both, far from the default of 1.5 / D."""
    noise, codes, groups = clouds(distance=0)
    clear = 6 * np.eye(3, 8, dtype=np.float32)[codes]
    clear += np.random.default_rng(0).normal(0, 0.1, clear.shape)
    strong = heads.make("logreg").fit(noise, codes, groups).tuning_["selected"]["C"]
    weak = heads.make("logreg").fit(clear, codes, groups).tuning_["selected"]["C"]
    assert strong < 0.01
    assert weak > 10


def test_the_walk_ends_between_two_values_that_are_no_better():
    """A few of the 45 are tried, in their order, and the best is not the last."""
    tried = heads.make("logreg").fit(*clouds(distance=1)).tuning_["tried"]
    numbers = [linear.PATH.index(trial["C"]) for trial in tried]
    best = int(np.argmin([trial["log_loss"] for trial in tried]))
    assert numbers == sorted(numbers)
    assert len(numbers) < 15
    assert numbers[best - 1 : best + 2] == [numbers[best] + n for n in (-1, 0, 1)]


@pytest.mark.parametrize("lowest", [0, 7, 10, 23])
@pytest.mark.parametrize("first", [0, 10, 11, 23])
def test_a_walk_finds_where_a_loss_is_smallest(first, lowest):
    """From wherever it starts, to either end, and no setting is tried twice."""
    tried = []
    tuning.walk_down(lambda n: tried.append(n) or abs(n - lowest), 24, first)
    assert lowest in tried
    assert len(tried) == len(set(tried)) < 18


def test_each_log_loss_on_the_path_is_that_of_a_fit_at_its_own_c():
    """Where the last value ended does not matter: scikit-learn from zero agrees."""
    X, codes, groups = clouds(distance=2)
    for classes in (2, 3):
        rows = codes < classes
        head = heads.make("logreg").fit(X[rows], codes[rows], groups[rows])
        Z = StandardScaler().fit_transform(X[rows].astype(float))
        folds = tuning.inner_folds(codes[rows], groups[rows], most=5, seed=0)
        for trial in head.tuning_["tried"]:
            model = LogisticRegression(C=trial["C"], tol=1e-8, max_iter=5000)
            alone = tuning.held_out_scores(
                codes[rows],
                folds,
                lambda fold, model=model, Z=Z, y=codes[rows]: model.fit(
                    Z[fold[0]], y[fold[0]]
                ).predict_proba(Z[fold[1]]),
            )
            assert trial["log_loss"] == pytest.approx(alone["log_loss"], abs=1e-4)


def test_a_fit_that_did_not_converge_says_so(monkeypatch):
    """Few steps are not an optimum."""
    monkeypatch.setattr(logistic, "MOST_STEPS", 2)
    with pytest.warns(ConvergenceWarning, match="C=100 has not converged"):
        heads.make("logreg", tune=False).set_params(C=100).fit(*clouds())


def test_the_chosen_c_is_fitted_on_all_training_rows():
    """The head is scikit-learn's on standardised columns, with that C."""
    X, codes, groups = clouds()
    head = heads.make("logreg").fit(X, codes, groups)
    C = head.tuning_["selected"]["C"]
    plain = make_pipeline(StandardScaler(), LogisticRegression(C=C)).fit(X, codes)
    np.testing.assert_allclose(head.predict_proba(X), plain.predict_proba(X), atol=1e-3)
    model = head.model_["classify"]
    margins = head.model_["scale"].transform(X) @ model.coef_.T + model.intercept_
    e = np.exp(margins - margins.max(axis=1, keepdims=True))
    np.testing.assert_allclose(
        e / e.sum(axis=1, keepdims=True), head.predict_proba(X), atol=1e-6
    )


def test_more_columns_than_rows_change_nothing_but_the_time(monkeypatch):
    """The rotation onto the span of the rows is exact; coefficients are for D."""
    X, codes, groups = clouds(60, 200, distance=2)
    head = make("logreg").fit(X, codes, groups)
    monkeypatch.setattr(linear, "_span", lambda Z: np.eye(Z.shape[1], dtype=Z.dtype))
    plain = make("logreg").fit(X, codes, groups)
    assert head.tuning_["selected"] == plain.tuning_["selected"]
    np.testing.assert_allclose(head.predict_proba(X), plain.predict_proba(X), atol=2e-3)
    assert head.model_["classify"].coef_.shape == (3, 200)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_kernel_in_memory_changes_nothing_but_the_time(classes, monkeypatch):
    """The svm is the same where the kernel of its rows is too large to keep."""
    X, codes, groups = clouds()
    rows = codes < classes
    given = X[rows], codes[rows], groups[rows]
    head = make("svm").fit(*given)
    monkeypatch.setattr(linear, "MOST_ROWS", 0)
    plain = make("svm").fit(*given)
    assert head.tuning_["selected"] == plain.tuning_["selected"]
    np.testing.assert_allclose(head.predict_proba(X), plain.predict_proba(X), atol=1e-3)


# --- networks ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("proba", "log_loss", "temperature"),
    [
        ([[0.9, 0.1], [0.9, 0.1]], np.log(2), tuning.HOTTEST),  # one right, one wrong
        ([[0.9, 0.1], [0.1, 0.9]], -np.log(0.9), 1),  # both right: not made surer
        ([[64 / 65, 1 / 65]] * 3, 0.6365, 6),  # two of three right: 2 to 1, not 2^6
    ],
)
def test_a_temperature_takes_away_what_is_too_sure(proba, log_loss, temperature):
    """Odds of 64 that are right two times in three become odds of 2, 64 ** (1 / 6)."""
    codes = np.array([0, 1, 0])[: len(proba)]
    found = tuning.softening(codes, np.array(proba))
    assert found == pytest.approx((log_loss, temperature), rel=1e-2)


@pytest.mark.slow
def test_networks_are_compared_without_training_anew(monkeypatch):
    """One training a candidate and fold; only the chosen one trains on all its rows."""
    trained = []
    train = networks.Softmax._train

    def spy(self, X, codes, rows, **options):
        trained.append(len(rows))
        return train(self, X, codes, rows, **options)

    monkeypatch.setattr(networks.Softmax, "_train", spy)
    head = make("softmax").fit(*clouds())
    tries = len(head.candidates) * head.tuning_["folds"]
    assert len(trained) == tries + 2
    assert max(trained[:tries]) < 80
    assert trained[-1] == 120
    assert head.refit


# --- embeddings -------------------------------------------------------------------


def test_a_common_scale_keeps_the_weight_of_each_column():
    """Deviations 1 and 3 are divided by the root of their mean square, sqrt(5)."""
    X = np.array([[1, 3], [-1, -3], [1, 3], [-1, -3]], np.float32)
    np.testing.assert_allclose(fitted_scaler(X, COLUMNS).scale_, [1, 3])
    np.testing.assert_allclose(fitted_scaler(X, COMMON).scale_, np.sqrt([5, 5]))


def test_the_embedding_that_tells_the_classes_apart_is_chosen():
    """Classes differ in direction; the length of a row is noise that drowns them."""
    rng = np.random.default_rng(0)
    codes = np.arange(150) % 3
    X = np.eye(3, 8)[codes] + rng.normal(0, 0.3, (150, 8))
    X *= np.exp(rng.normal(0, 3, (150, 1)))
    head = heads.make("logreg", transform="tune").fit(X, codes)
    assert head.tuning_["selected"]["transform"] == "l2"
    assert [row["transform"] for row in head.tuning_["tried"]] == [*embedded.TRANSFORMS]
    assert head.tuning_["head"] == head.head_.tuning_


def test_a_head_that_tunes_itself_is_not_folded_twice(monkeypatch):
    """Its own inner log-loss is the score of the embedding."""
    X, codes, groups = clouds()
    monkeypatch.setattr(embedded, "held_out_scores", None)  # whoever calls it fails
    head = heads.make("logreg", transform="tune").fit(X, codes, groups)
    best = head.tuning_["tried"][0]
    alone = heads.make("logreg").fit(X, codes, groups).tuning_
    assert best["log_loss"] == pytest.approx(alone["log_loss"])
    assert best["C"] == alone["selected"]["C"]


def test_only_numbers_of_components_that_fit_are_tried():
    """100 columns have 64 components, but not 128."""
    X, codes, groups = clouds(width=100)
    head = heads.make("logreg", pca="tune").fit(X, codes, groups)
    assert [row["pca"] for row in head.tuning_["tried"]] == ["none", 64]


def test_the_choices_of_a_wrapped_head_name_every_setting():
    """Transform, components and the head's own."""
    chosen = make("embedded").fit(*clouds()).tuning_["selected"]
    assert set(chosen) == {"transform", "pca", "C"}


def test_a_wide_block_weighs_no_more_than_a_narrow_one():
    """Blocks of 1 and 3 columns (mean 2): each sums to a variance of 2."""
    X, _, _ = clouds(width=4)
    Z = fitted_scaler(X, (1, 3)).transform(X)
    np.testing.assert_allclose(Z.var(axis=0), [2, 2 / 3, 2 / 3, 2 / 3], rtol=1e-5)


@pytest.mark.parametrize("transform", ["none", "l2"])
def test_blocks_that_do_not_fit_the_features_are_refused(transform):
    """Their widths sum to the number of columns."""
    head = heads.make("logreg", blocks=(3, 4), transform=transform)
    with pytest.raises(HeadError, match=r"sum to 8 features; got \[3, 4\]"):
        head.fit(*clouds())
