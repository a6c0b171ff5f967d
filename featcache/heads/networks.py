"""Keras heads: the study's softmax layer and multi-layer perceptrons."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone

from featcache.core import keras_file
from featcache.core.tf import tensorflow
from featcache.errors import HeadError
from featcache.heads.base import COLUMNS, Head, Scale, fitted_scaler
from featcache.heads.descent import Descent, descent
from featcache.heads.files import damaged
from featcache.heads.rows import Matrix, Rows, blocks
from featcache.heads.tuning import Fold, grid, group_folds, scores, softening

ROWS_AT_ONCE = 8192
WATCHED = ("val_loss", "val_accuracy", "val_refined", "temperature")  # held-out rows


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
            stop = EarlyStopping(X[held_out], codes[held_out], self.patience)
            self.history_ = self._train(
                X, codes, train, epochs=self.epochs, stop=stop.is_due
            )
            if self.refit:
                self._train(X, codes, everything, epochs=int(stop.best["epoch"]))
            else:
                self.model_.set_weights(stop.weights)
            _soften(self.model_, stop.best["temperature"])

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
        stop: Callable[[Any, dict[str, float]], bool] = lambda *_: False,
    ) -> list[dict[str, float]]:
        """Trains a new ``model_`` on some rows; a history with one row an epoch."""
        self.model_ = self._network(X[rows])
        history: list[dict[str, float]] = []
        with self._descent() as descending:
            descending.start(self.model_.get_weights(), self.learning_rate, self.seed)
            for epoch in range(1, epochs + 1):
                order = rows[_order(len(rows), self.seed, epoch)]
                figures = descending.epoch(self._reader(X), order, codes[order])
                history.append({"epoch": epoch, **figures})
                self._refuse_not_finite(history[-1])
                self.model_.set_weights(descending.weights)
                if stop(self.model_, history[-1]):
                    break
        return history

    def _descent(self) -> Descent:
        dense = [layer for layer in self.model_.layers if hasattr(layer, "units")]
        widths = self.n_features_in_, *(layer.units for layer in dense)
        _, dropout = self._hidden()
        return descent(widths, dropout, self.batch_size, self.weight_decay)

    def _reader(self, X: Matrix) -> Callable[[np.ndarray], Any]:
        """What gives some rows of features, scaled."""
        scale = self.model_.get_layer("scale")
        return lambda rows: scale(X.read(rows) if isinstance(X, Rows) else X[rows])

    def _refuse_not_finite(self, row: dict[str, float]) -> None:
        if not np.isfinite(row["loss"]):
            raise HeadError(
                f"a finite loss when training {self.name}",
                f"{row['loss']} in epoch {row['epoch']}",
                f"Lower learning_rate (now {self.learning_rate}).",
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


def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    """The numbers 0..count-1 in the order of an epoch, by these seeds alone."""
    tf = tensorflow()
    shuffle = tf.random.experimental.index_shuffle
    return np.asarray(shuffle(tf.range(count), [seed, epoch], count - 1))


class EarlyStopping:
    """Stops by the log-loss of held-out rows after a temperature of its own.

    Args:
        X: (N, D) the held-out rows.
        codes: (N,) their class codes.
        patience: Epochs without a smaller one before stopping.

    Attributes:
        best: The history's row of the best epoch.
        weights: Of the network after it.
    """

    def __init__(self, X: Matrix, codes: np.ndarray, patience: int) -> None:
        self._X, self._codes, self._patience = X, codes, patience
        self.best: dict[str, float] = {}

    def is_due(self, model: Any, row: dict[str, float]) -> bool:
        """Adds the held-out rows' figures to an epoch's; whether it is the last."""
        proba = _probabilities(model, self._X)
        figures = *scores(self._codes, proba).values(), *softening(self._codes, proba)
        row |= dict(zip(WATCHED, figures, strict=True))
        if not self.best or row["val_refined"] < self.best["val_refined"]:
            self.best, self.weights = row, model.get_weights()
            return False
        return bool(row["epoch"] - self.best["epoch"] >= self._patience)


def _probabilities(model: Any, X: Matrix) -> np.ndarray:
    # Eager on purpose: tracing a graph costs more than these few products.
    parts = [model(block, training=False).numpy() for block in blocks(X, ROWS_AT_ONCE)]
    return np.concatenate(parts)


def _soften(model: Any, temperature: float) -> None:
    """Divides the logits by a temperature, in the weights of the last layer."""
    layer = model.get_layer("softmax")
    layer.set_weights([weights / temperature for weights in layer.get_weights()])
