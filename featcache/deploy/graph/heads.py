"""Heads as layers, one function per kind of head."""

from functools import singledispatch
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC

from featcache.deploy.graph.layers import (
    constant,
    dense,
    standardised,
    two_columns,
)
from featcache.deploy.graph.trees import Trees
from featcache.deploy.model import PassOn
from featcache.errors import ExportError
from featcache.heads.boosted import XGBoost
from featcache.heads.custom import CustomHead
from featcache.heads.embedded import L2, SQRT, Embedded, Embedding
from featcache.heads.kernel import pair_weights, sides
from featcache.heads.linear import LogReg, Majority, Svm
from featcache.heads.networks import KerasHead


@singledispatch
def head_proba(head: Any, x: Any) -> Any:
    """A fitted head's probabilities, built from its numbers.

    Args:
        head: Of ``featcache.heads``; its class decides which function builds it.
        x: Symbolic features (N, D), float32.

    Returns:
        Symbolic (N, n), in the order of ``head.classes_``.

    Raises:
        ExportError: There is no graph of such a head.
    """
    raise ExportError(
        "a head that can be built as a graph",
        type(head).__name__,
        "Use logreg, svm, xgboost, softmax or mlp.",
    )


@head_proba.register
def _custom(head: CustomHead, x: Any) -> Any:
    raise ExportError(
        "a head of featcache's own, whose numbers can be built as a graph",
        f"{head.path}, whose computation only its own code knows",
        "Use logreg, svm, xgboost, softmax or mlp; predict and bundle work with any "
        "head.",
    )


@head_proba.register
def _passed_on(head: PassOn, x: Any) -> Any:
    return x


@head_proba.register
def _majority(head: Majority, x: Any) -> Any:
    prior = head.model_["classify"].class_prior_
    return dense(x, np.zeros((x.shape[1], len(prior))), prior)


@head_proba.register
def _logistic(head: LogReg, x: Any) -> Any:
    import keras

    scaler, model = head.model_["scale"], head.model_["classify"]
    logits = dense(standardised(x, scaler), model.coef_.T, model.intercept_)
    return two_columns(logits) if len(model.coef_) == 1 else keras.ops.softmax(logits)


@head_proba.register
def _keras(head: KerasHead, x: Any) -> Any:
    import keras

    passive = keras.layers.InputLayer | keras.layers.Dropout
    for layer in head.model_.layers:
        if not isinstance(layer, passive):
            # A name of its own: an ensemble has several such heads.
            config = {k: v for k, v in layer.get_config().items() if k != "name"}
            again = type(layer).from_config(config)
            x = again(x)
            again.set_weights(layer.get_weights())
    return x


@head_proba.register
def _boosted(head: XGBoost, x: Any) -> Any:
    import keras

    margins = Trees.of(head.model_.get_booster()).margins(x)
    if margins.shape[1] > 1:
        return keras.ops.softmax(margins)
    # As XGBoost does, in float32: near 1, what is left for the other class is coarse.
    second = keras.ops.sigmoid(margins)
    return keras.ops.concatenate([1.0 - second, second], axis=1)


@head_proba.register
def _support_vectors(head: Svm, x: Any) -> Any:
    import keras

    scaler, model = head.model_["scale"], head.model_["classify"]
    calibrated = model.calibrated_classifiers_[0]
    margins = _margins(calibrated.estimator, standardised(x, scaler))
    slope = constant([-one.a_ for one in calibrated.calibrators])
    intercept = constant([-one.b_ for one in calibrated.calibrators])
    lines = margins * slope + intercept
    if len(slope) == 1:
        return two_columns(lines)
    # The sigmoids over their sum, safe where all are tiny.
    return keras.ops.softmax(keras.ops.log_sigmoid(lines))


def _margins(machine: SVC | Pipeline, z: Any) -> Any:
    """The decision function (N, 1), or with more than two classes (N, n)."""
    import keras

    ops = keras.ops
    if isinstance(machine, Pipeline):  # on the kernel with landmarks alone
        mapping, linear = machine["map"], machine["machine"]
        kernel = _kernel(z, mapping.gamma, mapping.components_)
        return dense(
            kernel, mapping.normalization_.T @ linear.coef_.T, linear.intercept_
        )
    kernel = _kernel(z, machine._gamma, machine.support_vectors_)
    pairs = dense(kernel, pair_weights(machine), machine.intercept_)
    if len(machine.classes_) == 2:
        return pairs
    # scikit-learn's votes of the pairs, with the sum of margins to break ties.
    first, second = sides(len(machine.classes_))
    votes = dense(ops.cast(ops.less(pairs, 0), "float32"), second - first)
    confidence = dense(pairs, first - second)
    votes = votes + constant(first.sum(axis=0))
    return votes + confidence / (3.0 * (ops.abs(confidence) + 1.0))


def _kernel(z: Any, gamma: float, vectors: np.ndarray) -> Any:
    """The RBF kernel (N, S) of rows with vectors (S, D)."""
    import keras

    ops = keras.ops
    lengths = ops.sum(ops.square(z), axis=1, keepdims=True)
    products = dense(z, 2 * gamma * vectors.T, -gamma * (vectors**2).sum(axis=1))
    return ops.exp(products - lengths * float(gamma))


@head_proba.register
def _embedded(head: Embedded, x: Any) -> Any:
    return head_proba(head.head_, _transformed(head.model_, x))


def _transformed(embedding: Embedding, x: Any) -> Any:
    import keras

    ops = keras.ops
    if embedding.transform == SQRT:
        x = ops.sign(x) * ops.sqrt(ops.abs(x))
    elif embedding.transform == L2:
        widths = embedding.blocks or (x.shape[1],)
        ends = np.cumsum(widths).tolist()
        parts = [x[:, end - n : end] for end, n in zip(ends, widths, strict=True)]
        x = ops.concatenate([_unit(part) for part in parts], axis=1)
    if embedding.rotation is None:
        return x
    scaler, pca = embedding.rotation["scale"], embedding.rotation["pca"]
    turned = pca.components_.T
    return dense(standardised(x, scaler), turned, -(pca.mean_ @ turned))


def _unit(x: Any) -> Any:
    import keras

    ops = keras.ops
    length = ops.sqrt(ops.sum(ops.square(x), axis=1, keepdims=True))
    return x / ops.where(ops.greater(length, 0), length, ops.ones_like(length))
