"""The rules that every head keeps, and a few that belong to one kind."""

import functools
import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from featcache import heads
from featcache.errors import HeadError, UnknownNameError, UsageError
from featcache.heads import HEADS, embedded, files, linear, networks
from featcache.heads.tuning import group_folds, scores

CUSTOM = "sklearn.naive_bayes:GaussianNB"
NAMES = [*HEADS, CUSTOM]
# What the battery runs on: every head, and heads on transformed embeddings.
CASES = {name: {} for name in NAMES} | {
    "softmax, sqrt": {"transform": "sqrt"},
    "logreg, l2, tuned pca": {"transform": "l2", "pca": "tune", "blocks": (3, 5)},
    "logreg, tuned transform, 4 components": {"transform": "tune", "pca": "4"},
    "svm, sqrt, 4 components": {"transform": "sqrt", "pca": 4, "tune": True},
    "xgboost, tuned transform": {"transform": "tune"},
    f"{CUSTOM}, 4 components": {"pca": 4},
}
TRAINED_IN_EPOCHS = ["softmax", "mlp", "mlp-dropout"]
LABELS = np.array(["COVID", "NORMAL", "Viral Pneumonia"])

# Keras 3.15 reads TensorFlow variables through an interface that NumPy deprecates.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)
every_head = pytest.mark.parametrize("name", CASES)


def _toy(n=90):
    """Three far-apart clouds of points (n, 8), and patients of two rows each."""
    rng = np.random.default_rng(0)
    codes = np.arange(n) // 2 % 3
    X = rng.normal(size=(n, 8)) + 4 * np.eye(8)[codes]
    X = X.astype(np.float32)
    X.flags.writeable = False  # whoever writes into the features fails
    return X, LABELS[codes], np.arange(n) // 2


X, Y, GROUPS = _toy()


def _make(name, seed=1):
    head = heads.make(name.partition(",")[0], seed=seed, **CASES[name])
    short = {"epochs": 8, "batch_size": 8}  # enough for clouds this far apart
    for key in head.get_params():
        _, _, setting = key.rpartition("__")
        if setting in short:
            head.set_params(**{key: short[setting]})
    return head


def _params(head):
    """All parameters, those of an inner head too, without the objects."""
    return {k: v for k, v in head.get_params().items() if not hasattr(v, "get_params")}


@functools.cache
def _fitted(name):
    return _make(name).fit(X, Y, GROUPS)


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
    before = _params(_make(name))
    assert before["seed"] == 1
    assert _params(clone(_fitted(name))) == _params(_fitted(name)) == before


@every_head
def test_probabilities_follow_the_sorted_classes_and_sum_to_one(name):
    """Columns are in the order of `classes_`, and `predict` takes the largest."""
    head = _fitted(name)
    proba = head.predict_proba(X)
    assert head.classes_.tolist() == sorted(LABELS)
    assert proba.shape == (len(X), 3)
    assert proba.dtype == np.float64
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-12)
    assert (head.predict(X) == head.classes_[proba.argmax(axis=1)]).all()


@every_head
def test_the_same_seed_gives_the_same_head(name):
    """Fitting twice gives the same probabilities."""
    again = _make(name).fit(X, Y, GROUPS).predict_proba(X)
    np.testing.assert_allclose(again, _fitted(name).predict_proba(X), atol=1e-6)


@pytest.mark.parametrize("name", ["softmax-untrained", "xgboost", "mlp-dropout"])
def test_another_seed_gives_another_head(name):
    """Where chance has a part, the seed decides it."""
    other = _make(name, seed=2).fit(X, Y, GROUPS).predict_proba(X)
    assert np.abs(other - _fitted(name).predict_proba(X)).max() > 1e-3


@every_head
def test_a_saved_head_predicts_the_same(name, tmp_path):
    """A head comes back from its folder with class, parameters and probabilities."""
    head = _fitted(name)
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
    y = np.searchsorted(LABELS, Y) * 10
    head = _make(name).fit(X, y)
    head.save(tmp_path)
    predicted = heads.load(tmp_path).predict(X)
    assert predicted.dtype.kind == "i"
    assert set(predicted) <= {0, 10, 20}


@every_head
def test_a_head_learns_what_is_easy_to_tell_apart(name):
    """All but the two floors of the table separate far-apart clouds."""
    accuracy = _fitted(name).score(X, Y)
    if name == "majority":
        assert accuracy == pytest.approx(1 / 3, abs=0.01)
    elif name == "softmax-untrained":
        assert accuracy < 0.9
    else:
        assert accuracy > 0.95


@every_head
def test_the_unit_of_the_features_does_not_matter(name):
    """Scaling lives in the head: features times 1024 give the same probabilities."""
    scaled = _make(name).fit(X * 1024, Y, GROUPS)
    np.testing.assert_allclose(
        scaled.predict_proba(X * 1024), _fitted(name).predict_proba(X), atol=1e-3
    )


@every_head
def test_a_row_is_predicted_the_same_alone_and_among_others(name):
    """Scaling knows the training rows only, not the rows it predicts."""
    far = np.vstack([X[:1], 1e4 + X[1:]])
    head = _fitted(name)
    np.testing.assert_allclose(
        head.predict_proba(far)[:1], head.predict_proba(X[:1]), atol=1e-6
    )


@pytest.mark.parametrize("name", [name for name in CASES if CUSTOM not in name])
def test_features_that_never_vary_teach_nothing(name):
    """A constant matrix gives every row the same probabilities, and no warning."""
    proba = _make(name).fit(np.ones_like(X), Y, GROUPS).predict_proba(X[:5] * 0 + 1)
    assert np.ptp(proba, axis=0).max() < 1e-6


@every_head
def test_a_class_absent_from_training_has_no_column(name):
    """`classes_` are the classes seen."""
    seen = Y != "NORMAL"
    head = _make(name).fit(X[seen], Y[seen], GROUPS[seen])
    assert head.classes_.tolist() == ["COVID", "Viral Pneumonia"]
    assert head.predict_proba(X).shape == (len(X), 2)


@every_head
def test_one_class_is_refused(name):
    """There is nothing to learn from one class."""
    with pytest.raises(HeadError, match=r"two classes.*only COVID in 90 training rows"):
        _make(name).fit(X, np.full(len(X), "COVID"))


@every_head
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused_and_counted(name, value):
    """A rotten row is named in number, in training and in prediction."""
    bad = X.copy()
    bad[[3, 5], 0] = value
    with pytest.raises(HeadError, match="in 2 of 90 rows"):
        _make(name).fit(bad, Y)
    with pytest.raises(HeadError, match="in 2 of 90 rows"):
        _fitted(name).predict_proba(bad)


@every_head
def test_history_has_one_row_an_epoch_where_there_are_epochs(name):
    """Rows count epochs from 1; other heads have none."""
    rows = _fitted(name).history_
    assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))
    assert bool(rows) == (name.partition(",")[0] in TRAINED_IN_EPOCHS)
    columns = ["epoch", "loss", "accuracy", *networks.WATCHED]
    assert all(list(row) == columns for row in rows)


# --- names ---------------------------------------------------------------------


def test_an_unknown_name_offers_the_nearest_and_any_classifier():
    """The error names the way out."""
    with pytest.raises(UnknownNameError, match=r"Did you mean logreg.*module:Class"):
        heads.make("logregg")


def test_a_description_is_json_and_tells_parameters_apart():
    """A run's digest is made of it."""
    described = [heads.describe(name, seed=s) for name in NAMES for s in (0, 1)]
    assert len({json.dumps(d, sort_keys=True) for d in described}) == 2 * len(NAMES)
    assert heads.describe("svm") == {
        "class": "featcache.heads.linear:Svm",
        "params": {
            "C": 3.0,
            "gamma": 1.0,
            "scale": "columns",
            "seed": 0,
            "tune": False,
        },
    }


def test_a_description_of_a_head_that_tunes_itself_tells_what_it_tries(monkeypatch):
    """Other candidates are another head; without tuning they do not matter."""
    tuned, plain = (heads.describe("svm", tune=tune) for tune in (True, False))
    assert "candidates" not in plain
    monkeypatch.setattr(linear.Svm, "candidates", [{"C": 1.0}])
    assert heads.describe("svm", tune=False) == plain
    assert heads.describe("svm", tune=True) == tuned | {"candidates": [{"C": 1.0}]}
    assert tuned["candidates"] != [{"C": 1.0}]


def test_a_description_of_a_transform_that_is_chosen_tells_the_choice(monkeypatch):
    """As of a head: other numbers of components to try are another head."""
    known = heads.describe("logreg", pca="tune")
    assert heads.describe("logreg", pca="tune") == known
    monkeypatch.setattr(embedded, "COMPONENTS", (3,))
    assert heads.describe("logreg", pca="tune") != known


def test_a_description_tells_embeddings_apart():
    """Text and number of components are one; one block is as good as none."""
    plain = heads.describe("logreg")
    assert heads.describe("logreg", transform="none", blocks=(8,)) == plain
    sqrt = heads.describe("logreg", transform="sqrt", pca="4", blocks=(8,))
    assert sqrt == plain | {"embedding": {"transform": "sqrt", "pca": 4}}
    two = heads.describe("logreg", transform="l2", blocks=[4, 4])
    assert two["params"]["scale"] == two["embedding"]["blocks"] == (4, 4)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"transform": "cube"}, "a transform of: none, sqrt, l2, tune; got 'cube'"),
        ({"pca": 0}, "1 or more components; got 0"),
        ({"pca": "many"}, "1 or more components; got 'many'"),
    ],
)
def test_an_embedding_that_does_not_exist_is_refused(asked, message):
    """Before any work."""
    with pytest.raises(UsageError, match=message):
        heads.make("logreg", **asked)


def test_more_components_than_rows_or_columns_are_refused():
    """The error names the most there can be."""
    with pytest.raises(HeadError, match=r"at most 8 components.*got 9"):
        heads.make("logreg", pca=9).fit(X, Y, GROUPS)


def test_each_block_of_a_row_gets_length_one():
    """3-4-5 triangles; a row of zeros stays."""
    rows = np.array([[3, 4, 0, 5, 12], [0, 0, 1, 0, 0]], np.float32)
    units = embedded.Embedding("l2", "none", (3, 2)).fit(rows)
    np.testing.assert_allclose(units, [[0.6, 0.8, 0, 5 / 13, 12 / 13], [0, 0, 1, 0, 0]])


def test_the_square_root_keeps_the_sign():
    """-4 becomes -2."""
    rows = np.array([[-4.0, 9.0]])
    assert embedded.Embedding("sqrt", "none").fit(rows).tolist() == [[-2, 3]]


def test_all_principal_components_are_only_a_rotation():
    """A head on all of them is the head without PCA: nothing is whitened."""
    plain = heads.make("logreg", tune=False).fit(X, Y).predict_proba(X)
    rotated = heads.make("logreg", tune=False, pca=8).fit(X, Y).predict_proba(X)
    np.testing.assert_allclose(rotated, plain, atol=1e-3)


def test_describing_the_heads_loads_no_tensorflow():
    """The table is plain; descriptions need scikit-learn only."""
    code = (
        "import sys; from featcache import heads; assert 'sklearn' not in sys.modules;"
        "[heads.describe(name) for name in heads.HEADS];"
        "assert not {'tensorflow', 'keras', 'xgboost'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- folds inside a head ---------------------------------------------------------


def test_inner_folds_hold_out_whole_groups_and_every_row_once():
    """No group stands on both sides, and both sides know every class."""
    codes = np.searchsorted(LABELS, Y)
    folds = group_folds(codes, GROUPS, folds=5, seed=0)
    assert sorted(np.concatenate([held for _, held in folds])) == list(range(len(Y)))
    for kept, held in folds:
        assert not set(GROUPS[kept]) & set(GROUPS[held])
        assert len(kept) + len(held) == len(Y)
        assert set(codes[kept]) == set(codes[held]) == {0, 1, 2}


def test_a_fold_that_would_hold_out_a_whole_class_is_left_out():
    """A class that lives in one group is always trained on."""
    codes = np.repeat([0, 1], [40, 2])
    groups = np.append(np.arange(40), [40, 40])
    folds = group_folds(codes, groups, folds=10, seed=0)
    assert len(folds) == 9
    assert all(set(codes[kept]) == {0, 1} for kept, _ in folds)


def test_too_few_groups_give_no_folds():
    """Then there is no validation part."""
    codes = np.repeat([0, 1], 20)
    assert group_folds(codes, codes, folds=10, seed=0) == []


def test_the_svm_is_calibrated_on_whole_groups():
    """Sigmoids are fitted on margins of other patients."""
    folds = _fitted("svm").model_["classify"].cv
    assert len(folds) == 5
    assert all(not set(GROUPS[kept]) & set(GROUPS[held]) for kept, held in folds)


def test_the_svm_refuses_a_class_of_one_group():
    """A class of one patient cannot be calibrated by group."""
    with pytest.raises(HeadError, match=r"two groups of every class.*logreg"):
        heads.make("svm").fit(X, Y, np.searchsorted(LABELS, Y))


def _trainings(monkeypatch):
    """The rows and epochs of each training of a network, as they come."""
    seen = []
    train = networks.Softmax._train

    def spy(self, X, codes, rows, **options):
        seen.append((rows, options["epochs"]))
        return train(self, X, codes, rows, **options)

    monkeypatch.setattr(networks.Softmax, "_train", spy)
    return seen


def test_early_stopping_watches_whole_groups_of_a_tenth(monkeypatch):
    """The rows held out share no patient with the rows trained on."""
    seen = _trainings(monkeypatch)
    head = networks.Softmax(epochs=3, refit=False).fit(X, Y, GROUPS)
    ((train, epochs),) = seen
    held = np.setdiff1d(np.arange(len(X)), train)
    assert epochs == 3
    assert not set(GROUPS[train]) & set(GROUPS[held])
    assert 0.05 < len(held) / len(X) < 0.2
    scale = head.model_.get_layer("scale")
    np.testing.assert_allclose(
        np.ravel(scale.mean), X[train].mean(axis=0), rtol=1e-5, atol=1e-6
    )


def _hard():
    """Two clouds of points (60, 40) so close that they are soon known by heart."""
    codes = np.arange(60) % 2
    noise = np.random.default_rng(0).normal(size=(60, 40))
    return (noise + 0.15 * codes[:, None]).astype(np.float32), codes


def test_after_early_stopping_all_rows_train_for_as_many_epochs(monkeypatch):
    """No row is lost to the choice; the scaling is that of all rows, too."""
    seen = _trainings(monkeypatch)
    hard, codes = _hard()
    head = networks.Softmax(epochs=60, patience=3, batch_size=8).fit(hard, codes)
    refined = [row["val_refined"] for row in head.history_]
    (first, most), (second, epochs) = seen
    assert (len(first), len(second)) == (54, 60)
    assert most == 60 > len(refined)
    assert epochs == np.argmin(refined) + 1 == len(refined) - 3
    scale = head.model_.get_layer("scale")
    np.testing.assert_allclose(np.ravel(scale.mean), hard.mean(axis=0), atol=1e-6)


def test_a_network_too_sure_of_itself_is_softened():
    """The temperature of the best epoch divides what the last layer gives."""
    hard, codes = _hard()
    options = {"epochs": 30, "batch_size": 8, "refit": False}
    head = networks.Softmax(**options).fit(hard, codes)
    best = min(head.history_, key=lambda row: row["val_refined"])
    assert best["temperature"] > 1
    assert best["val_refined"] < best["val_loss"]
    held = group_folds(codes, np.arange(60), folds=10, seed=0)[0][1]
    found = scores(codes[held], head.predict_proba(hard[held]))
    assert found["log_loss"] == pytest.approx(best["val_refined"], abs=1e-5)
    assert found["accuracy"] == pytest.approx(best["val_accuracy"])


def test_without_groups_to_spare_all_epochs_run_on_all_rows():
    """One group a class leaves nothing to validate on."""
    head = networks.Softmax(epochs=7).fit(X, Y, np.searchsorted(LABELS, Y))
    assert len(head.history_) == 7
    assert "val_loss" not in head.history_[0]


# --- Keras heads ------------------------------------------------------------------


def test_a_network_is_one_flat_graph_with_stable_names():
    """Fine-tuning and explanations find the layers by name."""
    layers = [layer.name for layer in _fitted("mlp-dropout").model_.layers]
    assert layers == ["features", "scale", "dense_1", "dropout_1", "dense_2", "softmax"]


def test_a_keras_file_stands_alone(tmp_path):
    """Plain Keras gives the head's probabilities from unscaled features."""
    head = _fitted("mlp")  # TensorFlow starts in here, ahead of Keras
    import keras

    model = keras.saving.load_model(tmp_path / head.save(tmp_path))
    np.testing.assert_allclose(model(X), head.predict_proba(X), atol=1e-6)
    assert not model.compiled


def test_a_column_that_never_varied_in_training_is_not_blown_up():
    """A dead feature map that lights up at test moves by its value, not by 1e7."""
    dead = np.hstack([X, np.full((len(X), 1), 3, np.float32)])
    scale = networks.network(dead, 3).get_layer("scale")
    row = np.append(X[0], 5)[None]
    assert np.asarray(scale(row))[0, -1] == pytest.approx(2)


def test_prediction_in_blocks_is_prediction(monkeypatch):
    """Long matrices go through in blocks."""
    whole = _fitted("mlp").predict_proba(X)
    monkeypatch.setattr(networks, "ROWS_AT_ONCE", 7)
    np.testing.assert_allclose(_fitted("mlp").predict_proba(X), whole, atol=1e-6)


def test_a_loss_that_explodes_is_an_error_and_not_a_model():
    """NaN weights predict nothing."""
    with pytest.raises(HeadError, match=r"finite loss.*Lower learning_rate"):
        networks.Mlp(learning_rate=1e30, epochs=3).fit(X, Y, GROUPS)


# --- XGBoost ----------------------------------------------------------------------


def test_contributions_of_the_trees_sum_to_their_margins(tmp_path):
    """A loaded booster explains itself exactly (TreeSHAP)."""
    import xgboost

    _fitted("xgboost").save(tmp_path)
    booster = heads.load(tmp_path).model_.get_booster()
    matrix = xgboost.DMatrix(X)
    parts = booster.predict(matrix, pred_contribs=True)
    margins = booster.predict(matrix, output_margin=True)
    np.testing.assert_allclose(parts.sum(axis=-1), margins, atol=1e-4)


# --- any classifier ---------------------------------------------------------------


class NeedsGroups(ClassifierMixin, BaseEstimator):
    """Remembers the groups it was given."""

    def fit(self, X, y, groups=None):
        """Keeps the groups."""
        self.classes_, self.groups_ = np.unique(y), groups
        return self

    def predict_proba(self, X):
        """The same for every row."""
        return np.tile([0.5, 0.25, 0.25], (len(X), 1))


class Stubborn(NeedsGroups):
    """Holds a part that no safe file can hold."""

    def fit(self, X, y):
        """Keeps the part."""
        self.classes_, self.part_ = np.unique(y), Decimal(1)
        return self


def test_groups_reach_a_classifier_that_takes_them():
    """Groups are passed on, and only where they are welcome."""
    head = heads.make(f"{__name__}:NeedsGroups").fit(X, Y, GROUPS)
    assert (head.model_["classify"].groups_ == GROUPS).all()


def test_the_seed_reaches_a_classifier_that_takes_one():
    """`random_state` is the seed, and there is one thread."""
    head = heads.make("sklearn.ensemble:RandomForestClassifier", seed=7)
    assert head.build().get_params()["random_state"] == 7
    assert head.build().get_params()["n_jobs"] == 1


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("sklearn.svm:", "expected module:Class"),
        ("no_such_module:Thing", "No module named 'no_such_module'"),
        ("sklearn.svm:Nope", "no such name"),
        ("sklearn.svm:SVR", "expected a scikit-learn classifier SVR"),
        ("subprocess:Popen", "expected a scikit-learn classifier Popen"),
        ("sklearn.svm:LinearSVC", "Wrap it in CalibratedClassifierCV"),
        ("sklearn.ensemble:VotingClassifier", "default for every argument"),
    ],
)
def test_a_class_that_cannot_serve_is_refused_before_any_work(path, message):
    """Each refusal says what is missing."""
    with pytest.raises(HeadError, match=message):
        heads.make(path)


# --- safe files -------------------------------------------------------------------


def test_a_model_that_no_safe_file_can_hold_is_not_saved(tmp_path):
    """Nothing is ever pickled instead."""
    head = heads.make(f"{__name__}:Stubborn").fit(X, Y)
    with pytest.raises(HeadError, match=r"decimal\.Decimal.*never pickled"):
        head.save(tmp_path)
    with pytest.raises(HeadError, match="a saved head"):
        heads.load(tmp_path)


def test_a_file_with_foreign_types_is_not_read(tmp_path):
    """A logreg file rebuilds scikit-learn, NumPy and SciPy, and nothing else."""
    import skops.io

    _fitted("logreg").save(tmp_path)
    skops.io.dump(NeedsGroups().fit(X, Y), tmp_path / "model.skops")
    with pytest.raises(HeadError, match=r"got .*NeedsGroups"):
        heads.load(tmp_path)


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
    + [heads.make("logreg", transform="tune")],
    expected_failed_checks=_expected_failures,
)
def test_scikit_learn_takes_a_head_for_one_of_its_own(estimator, check):
    """The contract of an estimator, as scikit-learn tests it."""
    check(estimator)
