"""A run's model says of an image what training said of it."""

import numpy as np
import pytest
from toys import slow_but

from featcache.commands.explain import explain
from featcache.evaluation.runs import PROBABILITY, TEST
from featcache.heads import HEADS

CASES = {
    **{name: (name, ["toynet@32"], {"views": 0}) for name in HEADS},
    "views": ("logreg", ["toynet@32"], {}),
    "without tta": ("logreg", ["toynet@32"], {"tta": False}),
    "taps": ("logreg", ["toynet@32"], {"taps": "all", "views": 0}),
    "regions": ("logreg", ["toynet@32"], {"taps": "features:grid3", "views": 0}),
    "two sizes": ("svm", ["toynet@32+toynet@40"], {"taps": "all", "transform": "sqrt"}),
    "components": ("mlp", ["toynet@40"], {"pca": 4, "transform": "l2"}),
    "baseline": ("logreg", ["metadata"], {"views": 0}),
    "custom": ("sklearn.neighbors:KNeighborsClassifier", ["toynet@32"], {"views": 0}),
}


def largest_difference(run, model, candidates):
    """Between predictions.csv and the model, over the test set."""
    table = run.table[run.table["split"] == TEST]
    expected = table[[PROBABILITY + name for name in run.classes]].to_numpy(float)
    p = model.predict_proba([candidates[one] for one in table["image_id"]])
    assert len(table)
    return np.abs(p - expected).max()


FAST = [name for name in CASES if name not in ("components", "softmax", "mlp-dropout")]


@pytest.mark.parametrize("case", slow_but(CASES, *FAST))
def test_the_test_set_is_predicted_as_in_training(case, trained, opened, candidates):
    """Every head, view, tap, transform and baseline gives predictions.csv again."""
    head, features, options = CASES[case]
    run = trained(head, features, **options)
    assert largest_difference(run, opened(run), candidates) < 1e-6


def test_an_ensemble_is_predicted_as_it_was(team, opened, candidates):
    """Members, their weights and the calibration of the mean are applied in turn."""
    assert largest_difference(team, opened(team), candidates) < 1e-6


def test_explain_shows_the_answer_of_the_model(
    trained, opened, extracted, toy_network, candidates
):
    """On a test image and on a new one: calibrated, and the mean over views."""
    run = trained("logreg")
    table = run.table[run.table["split"] == TEST]
    known = candidates[table["image_id"].iloc[0]]
    path = extracted.ok.set_index("image_id")["path"][known.image_id]
    explained = explain(
        extracted, run, images=[path], of="all", mean=0, files=[toy_network]
    )
    (expected,) = opened(run).predict_proba([known])
    shown = {one.label: one.probability for one in explained.maps}
    np.testing.assert_allclose([shown[c] for c in run.classes], expected, atol=1e-12)


@pytest.mark.slow
def test_a_fine_tuned_network_is_predicted_as_it_was(finetuned, opened, candidates):
    """The whole network, its views and its calibration."""
    assert largest_difference(finetuned, opened(finetuned), candidates) < 1e-6


@pytest.mark.slow
def test_a_fine_tuned_network_is_refused_by_frozen_features(finetuned, opened):
    """It was trained on the training images; the frozen network was not."""
    names = [(one.name, one.store is not None) for one in opened(finetuned).networks]
    assert names == [("toynet", False), ("toynet", True)]
