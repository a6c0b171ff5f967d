"""Heads and calibration as graphs: the numbers of the fitted heads, exactly."""

import functools
import json

import numpy as np
import pytest
from toy_heads import CASES, CUSTOM, GROUPS, X, Y, fitted, made
from toys import slow_but

from featcache.core.tf import tensorflow
from featcache.deploy.graph import calibrated, head_proba
from featcache.deploy.graph.layers import rounded_to_float16
from featcache.deploy.graph.trees import Trees
from featcache.errors import ExportError
from featcache.evaluation.calibration import Calibrator
from featcache.heads.base import Head

OWN = [case for case in CASES if CUSTOM not in case]
FAST = ("softmax, sqrt", "logreg", "svm", "xgboost", "logreg, l2, tuned pca")
ROWS = np.concatenate(
    [X, 3 * np.random.default_rng(1).normal(size=(500, X.shape[1]))]
).astype(np.float32)
CALIBRATORS = [
    Calibrator(),
    Calibrator("temperature", {"temperature": 1.7}),
    Calibrator("temperature", {"temperature": 0.5}),
    Calibrator("sigmoid", {"slope": [1.3, 0.7, 0.9], "intercept": [0.1, -0.2, 0.3]}),
]


@functools.cache
def fitted_on_two(name: str) -> Head:
    """The head of a case on two of the classes, of unequal size."""
    rows = (Y != "COVID") & (np.arange(len(Y)) % 9 < 7)
    return made(name).fit(X[rows], Y[rows], GROUPS[rows])


def computed(build, rows: np.ndarray) -> list[np.ndarray]:
    """What graphs of layers, made by ``build`` of an input, give for rows."""
    tensorflow()
    import keras

    x = keras.Input(rows.shape[1:])
    model = keras.Model(x, dict(enumerate(build(x))))
    return [np.asarray(one) for one in model(rows, training=False).values()]


@pytest.mark.parametrize("case", slow_but(OWN, *FAST))
@pytest.mark.parametrize("head_of", [fitted, fitted_on_two])
def test_graph_equals_head(case, head_of):
    """The graph gives what the head and each calibrator give, in float32."""
    head = head_of(case)
    n = len(head.classes_)
    calibrators = [
        Calibrator(c.method, {k: v[:n] if isinstance(v, list) else v
                              for k, v in c.parameters.items()})
        for c in CALIBRATORS
    ]  # fmt: skip

    def build(x):
        p = head_proba(head, x)
        return [calibrated(p, one) for one in calibrators]

    expected = head.predict_proba(ROWS)
    for one, p in zip(calibrators, computed(build, ROWS), strict=True):
        # A low temperature multiplies the rounding of logits that are far apart.
        np.testing.assert_allclose(p, one(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize("calibrator", CALIBRATORS, ids=lambda one: one.method)
def test_calibrator_of_certain_probabilities(calibrator):
    """Probabilities of 0, of 1 and next to them are calibrated as in float64."""
    P = np.array([[1, 0, 0], [1 - 3e-9, 2e-9, 1e-9], [0.5, 0.5, 0], [1e-20, 0, 1]])
    # Older Keras takes no model whose output is its input itself.
    (p,) = computed(lambda x: [calibrated(1 * x, calibrator)], P.astype(np.float32))
    np.testing.assert_allclose(p, calibrator(P), rtol=0, atol=2e-5)


@pytest.mark.slow
def test_trees_split_at_the_threshold_itself():
    """A value equal to a threshold goes right, the next smaller float32 left."""
    booster = fitted("xgboost").model_.get_booster()
    trees = Trees.of(booster)
    thresholds = {
        (column, value)
        for columns, values in zip(trees.features, trees.thresholds, strict=True)
        for column, value in zip(columns, values, strict=True)
    }
    rows = np.zeros((2 * len(thresholds), X.shape[1]), np.float32)
    for n, (column, value) in enumerate(sorted(thresholds)):
        rows[2 * n : 2 * n + 2, column] = value, np.nextafter(value, np.float32(-9e9))
    (margins,) = computed(lambda x: [trees.margins(x)], rows)
    expected = fitted("xgboost").model_.predict(rows, output_margin=True)
    np.testing.assert_allclose(margins, expected, rtol=0, atol=1e-5)


def test_base_margins_are_recorded_as_a_probability_for_two_classes():
    """XGBoost's start is turned into log-odds for two classes, and kept for more."""
    booster = fitted_on_two("xgboost").model_.get_booster()
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    (recorded,) = json.loads(learner["learner_model_param"]["base_score"])
    assert recorded != 0.5
    np.testing.assert_allclose(
        Trees.of(booster).base, np.log(recorded / (1 - recorded))
    )


def test_float16_is_rounded_in_float32():
    """Rounding without a cast equals the cast, ties, tiny and largest numbers too."""
    rng = np.random.default_rng(0)
    size = 10.0 ** rng.uniform(-9, 4.8, (4000, 1))
    ties = np.float32([1 + 2**-11, 1 + 3 * 2**-11, 2**-25, 3 * 2**-25, 0, 65504])
    rows = np.concatenate([rng.choice([-1, 1], size.shape) * size, ties[:, None]])
    rows = rows.astype(np.float32)
    (rounded,) = computed(lambda x: [rounded_to_float16(x)], rows)
    np.testing.assert_array_equal(rounded, rows.astype(np.float16).astype(np.float32))


def test_classifier_of_others_is_refused():
    """A scikit-learn classifier by name has no graph, and the error says why."""
    with pytest.raises(ExportError, match="only its own code knows"):
        computed(lambda x: [head_proba(fitted(CUSTOM), x)], X)
    with pytest.raises(ExportError, match="got object"):
        computed(lambda x: [head_proba(object(), x)], X)
