"""Numbers and texts of a record from elsewhere: checked before they are used.

All raise ValueError with what is wrong.
"""

from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_LONGEST = 1000  # letters of a text


def array(
    arrays: Mapping[str, NDArray[Any]],
    name: str,
    dtype: DTypeLike,
    shape: tuple[int | None, ...],
) -> NDArray[Any]:
    """One of the arrays: of this type and shape, finite.

    Args:
        arrays: By name.
        name: Of the array.
        dtype: Its type.
        shape: Its shape; None for any size from 1.
    """
    value = arrays.get(name)
    if not isinstance(value, np.ndarray) or value.dtype != np.dtype(dtype):
        raise ValueError(f"no array {name} of {np.dtype(dtype)}")
    sizes = zip_longest(value.shape, shape, fillvalue=-1)
    if not value.size or any(want not in (None, n) for n, want in sizes):
        raise ValueError(f"{name} of shape {value.shape}")
    if not np.isfinite(value).all():
        raise ValueError(f"{name} with NaN or infinity")
    return value


def unit_rows(value: NDArray[Any], name: str) -> None:
    """Checks that each row has a norm of 1, or is 0."""
    norms = np.linalg.norm(value.astype(np.float64), axis=-1)
    if (np.abs(norms - 1) > 0.01).any(where=norms != 0):
        raise ValueError(f"rows of {name} that are not of unit norm")


def number(record: Mapping[str, Any], name: str, low: float, high: float) -> float:
    """A finite number from ``low`` to ``high``."""
    value = record.get(name)
    if type(value) not in (int, float):
        raise ValueError(f"{name} is not a number")
    value = float(value or 0)
    if not low <= value <= high:  # NaN is not
        raise ValueError(f"{name} is not a number from {low:g} to {high:g}")
    return value


def texts(values: object, name: str) -> tuple[str, ...]:
    """A list of texts that are not long."""
    if not isinstance(values, list) or not all(
        isinstance(text, str) and len(text) <= _LONGEST for text in values
    ):
        raise ValueError(f"{name} is not a list of short texts")
    return tuple(values)


def only(record: object, names: set[str], what: str) -> None:
    """Checks that a mapping has these keys and no other."""
    if not isinstance(record, Mapping) or set(record) != names:
        keys = sorted(map(str, record)) if isinstance(record, Mapping) else record
        raise ValueError(f"{what} with {str(keys)[:200]}")
