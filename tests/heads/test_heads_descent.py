"""The compiled descent takes the steps that Keras would."""

from itertools import pairwise

import numpy as np
import pytest

from featcache.core.tf import tensorflow
from featcache.heads import descent as module
from featcache.heads.descent import descent


def _rows(n=23, width=4, classes=3):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, width)).astype(np.float32), rng.integers(0, classes, n)


def _train(widths, X, codes, *, epochs=2, rate=0.1, dropout=0.0, weight_decay=0.0):
    """Rows and figures of the last epoch after a training in the order of the rows."""
    tf = tensorflow()
    rng = np.random.default_rng(1)
    shapes = [s for pair in pairwise(widths) for s in (pair, pair[1:])]
    start = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    with descent(widths, dropout, 5, weight_decay) as descending:
        descending.start(start, rate, 7)
        for _ in range(epochs):
            figures = descending.epoch(
                lambda some: tf.constant(X[some]), np.arange(len(X)), codes
            )
        return start, descending.weights, figures


def _by_hand(X, codes, weights, *, epochs, rate, weight_decay):
    """Nesterov's descent of one layer in batches of five, in float64."""
    weights = [part.astype(float) for part in weights]
    velocities = [np.zeros_like(part) for part in weights]
    steps = 0
    for _ in range(epochs):
        for start in range(0, len(X), 5):
            rows, targets = X[start : start + 5], codes[start : start + 5]
            p = np.exp(rows @ weights[0] + weights[1])
            p /= p.sum(axis=1, keepdims=True)
            p[np.arange(len(rows)), targets] -= 1
            now = rate / (1 + 1e-6 * steps)
            slopes = rows.T @ p / len(rows), p.mean(axis=0)
            for part, velocity, slope in zip(weights, velocities, slopes, strict=True):
                part -= weight_decay * now * part
                velocity *= 0.9
                velocity -= now * slope
                part += 0.9 * velocity - now * slope
            steps += 1
    return weights


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_its_steps_are_those_written_by_hand(weight_decay):
    """Momentum, decay and the last, smaller batch; each training begins anew."""
    X, codes = _rows()
    options = {"epochs": 3, "rate": 0.2, "weight_decay": weight_decay}
    for _ in range(2):
        start, weights, _ = _train((4, 3), X, codes, **options)
        for ours, theirs in zip(
            weights, _by_hand(X, codes, start, **options), strict=True
        ):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_a_training_that_exploded_leaves_nothing_behind():
    """The next one of its shape is as if it were the first."""
    X, codes = _rows()
    _, first, _ = _train((4, 3), X, codes)
    _, weights, _ = _train((4, 3), X, codes, rate=1e38, epochs=9)
    assert not np.isfinite(weights[0]).all()
    _, again, _ = _train((4, 3), X, codes)
    np.testing.assert_array_equal(first[0], again[0])


def test_blocks_of_rows_do_not_change_it(monkeypatch):
    """What is read at once is no part of the training, dropout included."""
    X, codes = _rows()
    whole = _train((4, 6, 3), X, codes, dropout=0.5)
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 10)
    parts = _train((4, 6, 3), X, codes, dropout=0.5)
    for ours, theirs in zip(whole[1], parts[1], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert parts[2] == pytest.approx(whole[2], rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_keras_trains_the_same_network(weight_decay):
    """Two hidden layers with dropout: the same weights, loss and accuracy."""
    X, codes = _rows()
    start, weights, figures = _train(
        (4, 6, 5, 3), X, codes, dropout=0.5, weight_decay=weight_decay
    )
    tensorflow()  # first, so that Keras does not start it with all threads
    import keras

    layers = keras.layers
    network = keras.Sequential(
        [
            layers.Input((4,)),
            layers.Dense(6, "relu"),
            layers.Dropout(0.5, seed=7),
            layers.Dense(5, "relu"),
            layers.Dense(3, "softmax"),
        ]
    )
    network.set_weights(start)
    network.compile(
        keras.optimizers.SGD(
            keras.optimizers.schedules.InverseTimeDecay(0.1, 1, 1e-6),
            momentum=0.9,
            nesterov=True,
            weight_decay=weight_decay or None,
        ),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    history = network.fit(
        X, codes, batch_size=5, epochs=2, shuffle=False, verbose=0
    ).history
    for ours, theirs in zip(weights, network.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)
    assert figures == pytest.approx({k: v[-1] for k, v in history.items()}, rel=1e-5)
