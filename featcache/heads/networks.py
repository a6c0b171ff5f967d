"""Keras heads: the study's softmax layer and multi-layer perceptrons."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone

from featcache.core import keras_file
from featcache.core.tf import as_written, no_retracing_advice, tensorflow
from featcache.errors import HeadError
from featcache.heads.base import COLUMNS, Head, Scale, fitted_scaler
from featcache.heads.files import damaged
from featcache.heads.rows import Matrix, Rows, blocks
from featcache.heads.tuning import Fold, grid, group_folds, scores, softening

ROWS_AT_ONCE = 8192
ROWS_A_READ = 2048  # of a matrix that is not copied, about
WATCHED = ("val_loss", "val_accuracy", "val_refined", "temperature")  # held-out rows
STEPS_AT_ONCE = 128  # an epoch in one or a few calls, yet Ctrl-C is heard


class KerasHead(Head):
    """A flat functional graph: features, scale, dense_1 ... softmax.

    Attributes:
        model_: The Keras model, without optimizer; it takes unscaled features.
    """

    file = "model.keras"
    streams = True
    scale: Scale = COLUMNS

    def _network(self, X: Matrix) -> Any:
        units, dropout = self._hidden()
        return network(
            X,
            len(self.classes_),
            units,
            dropout=dropout,
            scale=self.scale,
            seed=self.seed,
        )

    def _hidden(self) -> tuple[Sequence[int], float]:
        return (), 0.0

    def _proba(self, X: np.ndarray) -> np.ndarray:
        with _on_cpu():
            return _probabilities(self.model_, X)

    def _write(self, path: Path) -> None:
        self.model_.save(path)

    def _read(self, path: Path) -> None:
        try:
            keras_file.refuse_unsafe(path)
            with _on_cpu():
                self.model_ = _keras().saving.load_model(
                    path, compile=False, safe_mode=True
                )
        except Exception as error:  # Keras raises anything
            raise damaged(path, error) from error


class UntrainedSoftmax(KerasHead):
    """A softmax layer with random weights on scaled features (version 0)."""

    name = "softmax-untrained"

    def _fit(self, X: Matrix, codes: np.ndarray, groups: np.ndarray) -> None:
        with _on_cpu():
            self.model_ = self._network(X)


@dataclass(kw_only=True, eq=False, repr=False)
class Softmax(KerasHead):
    """One softmax layer, trained as in the study's version 1.

    Stochastic gradient descent with Nesterov momentum 0.9 and decay 1e-6. About a
    tenth of the training rows, whole groups, is held out to find the best epoch and a
    temperature; then the network is trained anew on all rows for as many epochs
    (Goodfellow et al., Deep Learning, 2016, algorithm 7.2) and the temperature is
    folded into its last layer. The best epoch is the one with the smallest log-loss
    after a temperature of its own (Berta et al., Rethinking Early Stopping: Refine,
    Then Calibrate, 2025): the plain log-loss rises while the network still learns to
    tell the classes apart, for it grows too sure of itself. With too few groups for
    that, all rows train to the end.

    ``history_`` is of the epochs before the training anew: ``loss`` and ``accuracy``
    of the rows trained on, and of the held-out rows ``val_loss``, ``val_accuracy``,
    ``val_refined`` (the log-loss after the temperature) and ``temperature``. The row
    with the smallest ``val_refined`` tells epochs and temperature of the network.

    Args:
        tune: Choose some of the following inside the training rows.
        epochs: Most passes over the training rows.
        patience: Epochs without a better ``val_refined`` before stopping.
        refit: Train anew on all rows; if not, the weights of the best epoch are kept.
        learning_rate: Step at the start.
        weight_decay: Share of itself, times the step, that a weight loses at each.
        batch_size: Rows a step.
        scale: See ``base.fitted_scaler``.
        seed: Decides weights, order, dropout, the validation part and inner folds.
    """

    tune: bool = False
    epochs: int = 20
    patience: int = 5
    refit: bool = True
    learning_rate: float = 0.01
    weight_decay: float = 0.0
    batch_size: int = 32
    scale: Scale = COLUMNS
    seed: int = 0

    name = "softmax"
    candidates = grid(learning_rate=(0.01, 0.001), weight_decay=(0.0, 0.1))

    def _fit(self, X: Matrix, codes: np.ndarray, groups: np.ndarray) -> None:
        folds = group_folds(codes, groups, folds=10, seed=self.seed)
        everything = np.arange(len(X))
        with _on_cpu():
            if not folds:
                self.history_ = self._train(X, codes, everything, epochs=self.epochs)
                return
            train, held_out = folds[0]
            stop = _early_stopping(
                _keras(), X[held_out], codes[held_out], patience=self.patience
            )
            self.history_ = self._train(
                X, codes, train, epochs=self.epochs, callbacks=[stop]
            )
            if self.refit:
                self._train(X, codes, everything, epochs=stop.best_epoch + 1)
            _soften(self.model_, self.history_[stop.best_epoch]["temperature"])

    def _search(
        self, X: Matrix, codes: np.ndarray, groups: np.ndarray, folds: list[Fold]
    ) -> dict[str, Any]:
        # Settings compare as well without the training anew, in half of the time.
        quick = clone(self).set_params(refit=False)
        return super(Softmax, quick)._search(X, codes, groups, folds)

    def _train(
        self,
        X: Matrix,
        codes: np.ndarray,
        rows: np.ndarray,
        *,
        epochs: int,
        callbacks: Sequence[Any] = (),
    ) -> list[dict[str, float]]:
        """Trains a new ``model_`` on some rows; a history with one row an epoch."""
        keras, tf = _keras(), tensorflow()
        self.model_ = self._network(X[rows])
        # A second model on the same layers is compiled, so that the kept one stays
        # free of optimizer state.
        trainer = keras.Model(self.model_.input, self.model_.output)
        trainer.compile(
            self._optimizer(keras),
            "sparse_categorical_crossentropy",
            metrics=["accuracy"],
            steps_per_execution=min(-(-len(rows) // self.batch_size), STEPS_AT_ONCE),
        )
        with no_retracing_advice():
            history = trainer.fit(
                _batches(tf, X, codes, rows, size=self.batch_size, seed=self.seed),
                epochs=epochs,
                callbacks=list(callbacks),
                shuffle=False,
                verbose=0,
            ).history
        if not np.isfinite(history["loss"][-1]):
            raise HeadError(
                f"a finite loss when training {self.name}",
                f"{history['loss'][-1]} in epoch {len(history['loss'])}",
                f"Lower learning_rate (now {self.learning_rate}).",
            )
        return _by_epoch(history)

    def _optimizer(self, keras: Any) -> Any:
        # The old ``decay`` argument: rate / (1 + decay * step).
        schedule = keras.optimizers.schedules.InverseTimeDecay(
            self.learning_rate, decay_steps=1, decay_rate=1e-6
        )

        class OneReplicaSgd(keras.optimizers.SGD):  # type: ignore[misc]
            # Summing over replicas leaks each fit's graph and weights in TensorFlow
            # up to 2.21 (tensorflow/tensorflow#97697); we only have one.
            def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
                return grads_and_vars

        return OneReplicaSgd(
            schedule,
            momentum=0.9,
            nesterov=True,
            weight_decay=self.weight_decay or None,
        )


@dataclass(kw_only=True, eq=False, repr=False)
class Mlp(Softmax):
    """Two hidden layers, as in the study's version 2.

    It waits longer than one layer does: a deep network, with dropout above all, gets
    better by fits and starts.

    Args:
        units: Widths of the hidden layers.
        dropout: Share dropped after the first hidden layer.
    """

    units: Sequence[int] = (500, 200)
    dropout: float = 0.0
    patience: int = 10

    name = "mlp"

    def _hidden(self) -> tuple[Sequence[int], float]:
        return self.units, self.dropout


@dataclass(kw_only=True, eq=False, repr=False)
class MlpDropout(Mlp):
    """The same with dropout 0.5 after the first layer (version 2b)."""

    dropout: float = 0.5

    name = "mlp-dropout"


def network(
    X: Matrix,
    n_classes: int,
    units: Sequence[int] = (),
    *,
    dropout: float = 0.0,
    scale: Scale = COLUMNS,
    seed: int = 0,
) -> Any:
    """Builds an untrained head.

    Args:
        X: (N, D) training rows; their mean and variance become the ``scale`` layer.
        n_classes: Width of the softmax.
        units: Widths of the hidden layers.
        dropout: Share dropped after the first hidden layer.
        scale: See ``base.fitted_scaler``.
        seed: Decides the Glorot-uniform weights and the dropout.

    Returns:
        A Keras model from (N, D) features to (N, n_classes) probabilities.
    """
    keras = _keras()
    layers, glorot = keras.layers, keras.initializers.GlorotUniform
    # StandardScaler leaves constant columns alone; Normalization.adapt would blow
    # them up by 1e7.
    scaler = fitted_scaler(X, scale)
    inputs = layers.Input((X.shape[1],), name="features")
    outputs = layers.Normalization(
        mean=scaler.mean_.tolist(),
        variance=np.square(scaler.scale_).tolist(),
        name="scale",
    )(inputs)
    for depth, width in enumerate(units, start=1):
        outputs = layers.Dense(
            width,
            activation="relu",
            kernel_initializer=glorot(seed + depth),
            name=f"dense_{depth}",
        )(outputs)
        if depth == 1 and dropout:
            outputs = layers.Dropout(dropout, seed=seed, name="dropout_1")(outputs)
    outputs = layers.Dense(
        n_classes, activation="softmax", kernel_initializer=glorot(seed), name="softmax"
    )(outputs)
    return keras.Model(inputs, outputs, name="head")


def _keras() -> Any:
    tensorflow()  # first, so that it starts quietly and with its thread limit
    import keras

    return keras


def _on_cpu() -> Any:
    # Heads are too small to gain from a GPU, and workers side by side would fight
    # for it.
    return tensorflow().device("CPU:0")


def _batches(
    tf: Any, X: Matrix, codes: np.ndarray, rows: np.ndarray, *, size: int, seed: int
) -> Any:
    """Batches of (features, codes) of some rows, shuffled anew each time it is read.

    The orders depend on the seed alone: ``Dataset.shuffle`` mixes in what other code of
    the process may have given to ``tf.random.set_seed``.
    """
    targets, rows = tf.constant(codes), tf.constant(rows)
    epoch = tf.Variable(0)

    def shuffled(_: Any) -> Any:
        order = tf.random.experimental.index_shuffle(
            tf.range(len(rows)), [seed, epoch.assign_add(1)], len(rows) - 1
        )
        return tf.data.Dataset.from_tensor_slices(tf.gather(rows, order))

    once = tf.data.Dataset.from_tensors(0).flat_map(as_written(shuffled))
    counted = once.apply(tf.data.experimental.assert_cardinality(len(rows)))
    if isinstance(X, Rows):
        return _read_batches(tf, X, targets, counted, size)
    features = tf.constant(X)
    return counted.batch(size).map(
        as_written(lambda some: (tf.gather(features, some), tf.gather(targets, some)))
    )


def _read_batches(tf: Any, X: Rows, targets: Any, order: Any, size: int) -> Any:
    """Batches of (features, codes) in an order, of which only some are in memory."""
    n_batches = int(order.cardinality().numpy() + size - 1) // size

    def read(some: Any) -> Any:
        features = tf.numpy_function(X.read, [some], tf.float32)
        features.set_shape([None, X.shape[1]])
        several = features, tf.gather(targets, some)
        return tf.data.Dataset.from_tensor_slices(several).batch(size)

    several = order.batch(size * max(1, ROWS_A_READ // size))
    batches = several.flat_map(as_written(read))
    return batches.apply(tf.data.experimental.assert_cardinality(n_batches))


def _early_stopping(keras: Any, X: Matrix, codes: np.ndarray, *, patience: int) -> Any:
    """Stops by the log-loss of held-out rows after a temperature of its own."""

    class Refined(keras.callbacks.EarlyStopping):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
            proba = _probabilities(self.model, X)
            figures = *scores(codes, proba).values(), *softening(codes, proba)
            logs.update(zip(WATCHED, figures, strict=True))
            super().on_epoch_end(epoch, logs)

    return Refined(
        "val_refined", mode="min", patience=patience, restore_best_weights=True
    )


def _probabilities(model: Any, X: Matrix) -> np.ndarray:
    # Eager on purpose: tracing a graph costs more than these few products.
    parts = [model(block, training=False).numpy() for block in blocks(X, ROWS_AT_ONCE)]
    return np.concatenate(parts)


def _soften(model: Any, temperature: float) -> None:
    """Divides the logits by a temperature, in the weights of the last layer."""
    layer = model.get_layer("softmax")
    layer.set_weights([weights / temperature for weights in layer.get_weights()])


def _by_epoch(history: dict[str, list[float]]) -> list[dict[str, float]]:
    logged = ("loss", "accuracy", *WATCHED)
    columns = [name for name in logged if name in history]
    return [
        {"epoch": n + 1, **{name: float(history[name][n]) for name in columns}}
        for n in range(len(history["loss"]))
    ]
