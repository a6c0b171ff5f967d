"""Inside the heads: their folds, their networks and their trees."""

import numpy as np
import pytest
from toy_heads import GROUPS, LABELS, X, Y, fitted

from featcache import heads
from featcache.errors import HeadError
from featcache.heads import networks
from featcache.heads.tuning import group_folds, scores

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
    folds = fitted("svm").model_["classify"].cv
    assert len(folds) == 5
    assert all(not set(GROUPS[kept]) & set(GROUPS[held]) for kept, held in folds)


def test_the_svm_refuses_a_class_of_one_group():
    """A class of one patient cannot be calibrated by group."""
    with pytest.raises(HeadError, match=r"two groups per class.*logreg"):
        heads.make("svm").fit(X, Y, np.searchsorted(LABELS, Y))


@pytest.mark.parametrize("classes", [2, 3])
def test_the_svm_answers_as_scikit_learn_does(classes):
    """Its margins by matrix products are those that libsvm computes one by one."""
    rows = np.isin(Y, LABELS[:classes])
    noise = np.random.default_rng(0).normal(scale=2, size=(rows.sum(), 8))
    near = X[rows] + noise.astype(np.float32)
    head = heads.make("svm").fit(near, Y[rows], GROUPS[rows])
    expected = head.model_.predict_proba(near)
    assert expected.max(axis=1).min() < 0.8
    np.testing.assert_allclose(head.predict_proba(near), expected, rtol=0, atol=1e-9)


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
    layers = [layer.name for layer in fitted("mlp-dropout").model_.layers]
    assert layers == ["features", "scale", "dense_1", "dropout_1", "dense_2", "softmax"]


def test_a_keras_file_stands_alone(tmp_path):
    """Plain Keras gives the head's probabilities from unscaled features."""
    head = fitted("mlp")  # TensorFlow starts in here, ahead of Keras
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
    whole = fitted("mlp").predict_proba(X)
    monkeypatch.setattr(networks, "ROWS_AT_ONCE", 7)
    np.testing.assert_allclose(fitted("mlp").predict_proba(X), whole, atol=1e-6)


def test_a_loss_that_explodes_is_an_error_and_not_a_model():
    """NaN weights predict nothing."""
    with pytest.raises(HeadError, match=r"finite loss.*Lower learning_rate"):
        networks.Mlp(learning_rate=1e30, epochs=3).fit(X, Y, GROUPS)


# --- XGBoost ----------------------------------------------------------------------


def test_contributions_of_the_trees_sum_to_their_margins(tmp_path):
    """A loaded booster explains itself exactly (TreeSHAP)."""
    import xgboost

    fitted("xgboost").save(tmp_path)
    booster = heads.load(tmp_path).model_.get_booster()
    matrix = xgboost.DMatrix(X)
    parts = booster.predict(matrix, pred_contribs=True)
    margins = booster.predict(matrix, output_margin=True)
    np.testing.assert_allclose(parts.sum(axis=-1), margins, atol=1e-4)
