"""What the graphs of heads are made of; all in float32."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from sklearn.preprocessing import StandardScaler

# Normal numbers of float16; its largest is just below the next power.
_POWERS = np.exp2(np.arange(-14, 16)).astype(np.float32)
_STEPS = 1024.0  # of float16 between two powers of two


def constant(values: ArrayLike) -> np.ndarray:
    """Numbers as float32, which a saved graph holds exactly."""
    return np.asarray(values, np.float32)


def dense(x: Any, kernel: np.ndarray, bias: ArrayLike | None = None) -> Any:
    """The product of ``x`` (..., D) and a matrix (D, U), plus a bias (U,)."""
    import keras

    layer = keras.layers.Dense(kernel.shape[1], use_bias=bias is not None)
    y = layer(x)
    layer.set_weights([constant(w) for w in (kernel, bias) if w is not None])
    return y


def standardised(x: Any, scaler: "StandardScaler") -> Any:
    """Less the means and divided by the scales, as scikit-learn does in float32."""
    return (x - constant(scaler.mean_)) / constant(scaler.scale_)


def two_columns(margin: Any) -> Any:
    """Probabilities (N, 2) of the log-odds (N, 1) of the second class."""
    import keras

    return keras.ops.softmax(dense(margin, np.array([[0.0, 1.0]])))


def rounded_to_float16(x: Any) -> Any:
    """The nearest numbers of float16, ties to even, computed in float32.

    A cast to float16 and back would say the same, but ONNX Runtime and OpenVINO drop
    it. Each number is divided by the distance of its neighbours, a power of two.
    """
    import keras

    ops = keras.ops
    reached = ops.less_equal(_POWERS, ops.expand_dims(ops.abs(x), -1))
    power = ops.max(ops.cast(reached, "float32") * _POWERS, axis=-1)
    power = ops.maximum(power, float(_POWERS[0]))
    return ops.round(x / power * _STEPS) * (power / _STEPS)
