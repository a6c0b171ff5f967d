"""Stochastic gradient descent of a small dense network, compiled once for all fits.

Keras compiles each network that it trains anew, and takes its batches one by one; for
networks this small, that is most of the time.
"""

import threading
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from featcache.core.tf import as_written, no_retracing_advice, tensorflow

MOMENTUM, DECAY = 0.9, 1e-6  # Nesterov; the rate is divided by 1 + DECAY x step
ROWS_AT_ONCE = 2048  # about, between which Ctrl-C is heard


class Descent:
    """Trains dense layers with ReLU between them on scaled rows.

    A step is that of Keras' SGD with Nesterov momentum: weights first lose a share of
    themselves, then move down the gradient of the mean log-loss of a batch.

    Args:
        widths: Of the rows, of the hidden layers, and of the classes.
        dropout: Share dropped after the first hidden layer.
        batch_size: Rows a step.
        weight_decay: Share of itself, times the rate, that a weight loses at each step.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        dropout: float,
        batch_size: int,
        weight_decay: float,
    ) -> None:
        tf = tensorflow()
        shapes = [shape for pair in pairwise(widths) for shape in (pair, pair[1:])]
        self._weights = [tf.Variable(tf.zeros(shape)) for shape in shapes]
        self._velocities = [tf.Variable(tf.zeros(shape)) for shape in shapes]
        self._dropout, self._size = dropout, batch_size
        self._weight_decay = weight_decay
        self._in_use = threading.Lock()
        self._run = tf.function(
            as_written(self._steps),
            input_signature=[
                tf.TensorSpec([None, widths[0]], tf.float32),
                tf.TensorSpec([None], tf.int64),
                tf.TensorSpec([], tf.float32),
                tf.TensorSpec([], tf.int64),
                tf.TensorSpec([], tf.int64),
            ],
        )

    def __enter__(self) -> "Descent":
        self._in_use.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self._in_use.release()

    def start(self, weights: list[np.ndarray], rate: float, seed: int) -> None:
        """Begins anew at some weights: kernel and bias of each layer."""
        tf = tensorflow()
        for variable, value in zip(self._weights, weights, strict=True):
            variable.assign(value)
        for velocity in self._velocities:
            velocity.assign(tf.zeros_like(velocity))
        self._step, self._rate, self._seed = 0, rate, seed

    @property
    def weights(self) -> list[np.ndarray]:
        """Kernel and bias of each layer."""
        return [variable.numpy() for variable in self._weights]

    def epoch(
        self, rows: Any, order: np.ndarray, codes: np.ndarray
    ) -> dict[str, float]:
        """One pass; mean loss and accuracy of the rows as they are trained on.

        Args:
            rows: Gives the scaled rows (n, D) of some indices (n,).
            order: (N,) indices.
            codes: (N,) class codes of the rows in this order.
        """
        loss = right = 0.0
        chunk = self._size * max(1, ROWS_AT_ONCE // self._size)
        for start in range(0, len(order), chunk):
            some = slice(start, start + chunk)
            with no_retracing_advice():
                sums = self._run(
                    rows(order[some]), codes[some], self._rate, self._seed, self._step
                )
            self._step += -(-len(order[some]) // self._size)
            loss, right = loss + float(sums[0]), right + float(sums[1])
        return {"loss": loss / len(order), "accuracy": right / len(order)}

    def _steps(self, rows: Any, codes: Any, rate: Any, seed: Any, step: Any) -> Any:
        """A step for each batch; sums of losses and of right answers."""
        tf = tensorflow()
        count = tf.shape(rows)[0]

        def one(start: Any, step: Any, loss: Any, right: Any) -> Any:
            batch = rows[start : start + self._size]
            targets = codes[start : start + self._size]
            with tf.GradientTape() as tape:
                logits = self._logits(batch, tf.stack([seed, step]))
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
                mean = tf.reduce_mean(losses)
            slopes = tape.gradient(mean, self._weights)
            self._move(slopes, rate / (1 + DECAY * tf.cast(step, tf.float32)))
            is_right = tf.cast(tf.argmax(logits, axis=1) == targets, tf.float32)
            sums = loss + tf.reduce_sum(losses), right + tf.reduce_sum(is_right)
            return start + self._size, step + 1, *sums

        zero = tf.constant(0.0)
        *_, loss, right = tf.while_loop(
            lambda start, *_: start < count, one, (tf.constant(0), step, zero, zero)
        )
        return loss, right

    def _logits(self, rows: Any, seed: Any) -> Any:
        tf = tensorflow()
        layers = list(zip(self._weights[::2], self._weights[1::2], strict=True))
        for depth, (kernel, bias) in enumerate(layers, start=1):
            rows = tf.nn.bias_add(tf.matmul(rows, kernel), bias)
            if depth < len(layers):
                rows = tf.nn.relu(rows)
            if depth == 1 and self._dropout:
                rows = tf.nn.experimental.stateless_dropout(rows, self._dropout, seed)
        return rows

    def _move(self, slopes: list[Any], rate: Any) -> None:
        tf = tensorflow()
        for weight, velocity, slope in zip(
            self._weights, self._velocities, slopes, strict=True
        ):
            if self._weight_decay:
                weight.assign_sub(weight * self._weight_decay * rate)
            tf.raw_ops.ResourceApplyKerasMomentum(
                var=weight.handle,
                accum=velocity.handle,
                lr=rate,
                grad=slope,
                momentum=MOMENTUM,
                use_nesterov=True,
            )


# As many as a head that tunes itself takes turns with.
descent = lru_cache(maxsize=4)(Descent)
