"""Calibration as layers."""

from collections.abc import Callable
from typing import Any

import numpy as np

from featcache.deploy.graph.layers import constant, dense
from featcache.evaluation.calibration import FLOOR, Calibrator


def calibrated(p: Any, calibrator: Calibrator) -> Any:
    """What a calibrator makes of symbolic probabilities (N, C)."""
    apply, parameters = _KINDS[calibrator.method], calibrator.parameters
    return apply(p, **{name: constant(value) for name, value in parameters.items()})


def _temperature(p: Any, temperature: np.ndarray) -> Any:
    import keras

    return keras.ops.softmax(_log(p) / temperature)


def _sigmoid(p: Any, slope: np.ndarray, intercept: np.ndarray) -> Any:
    import keras

    # What is left for the other classes, summed up: 1 - p would be 0 too early.
    others = dense(p, 1 - np.eye(p.shape[1]))
    lines = (_log(p) - _log(others)) * slope + intercept
    return keras.ops.softmax(keras.ops.log_sigmoid(lines))


def _log(p: Any) -> Any:
    import keras

    return keras.ops.log(keras.ops.clip(p, FLOOR, 1.0))


_KINDS: dict[str, Callable[..., Any]] = {
    "none": lambda p: p,
    "temperature": _temperature,
    "sigmoid": _sigmoid,
}
