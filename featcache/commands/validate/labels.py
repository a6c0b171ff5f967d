"""External labels as classes of a model."""

import difflib
import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from featcache.core.text import some, spelling_key
from featcache.errors import DatasetError, UnknownNameError


def map_labels(
    labels: Sequence[str], classes: Sequence[str], mapping: Mapping[str, str]
) -> NDArray[np.int64]:
    """The class index of each label.

    Nothing is guessed: a label is a class of exactly that name, or is mapped to one.

    Args:
        labels: Of the external images.
        classes: Of the model.
        mapping: External label to class; several labels may become one class.

    Returns:
        (N,) class indices.

    Raises:
        UnknownNameError: A mapping from a label that no image has, or to no class.
        DatasetError: A label that is no class; the nearest class is offered.
    """
    existing = sorted(set(labels))
    for label, name in mapping.items():
        if label not in existing:
            raise _unknown(label, existing, "a label of the external set")
        if name not in classes:
            raise _unknown(name, classes, "a class of the model")
    strange = [one for one in existing if one not in mapping and one not in classes]
    if strange:
        raise DatasetError(
            f"{some([repr(one) for one in strange])} in the external set, which "
            f"{'is no class' if len(strange) == 1 else 'are no classes'} of the model "
            f"({some(list(classes), 12)})",
            _hint(strange, classes),
        )
    column = {name: c for c, name in enumerate(classes)}
    return np.array([column[mapping.get(one, one)] for one in labels], np.int64)


def near_names(name: str, names: Sequence[str]) -> list[str]:
    """The names that are written most alike: case, spaces and signs do not count."""
    by_key: dict[str, str] = {}
    for one in names:
        by_key.setdefault(_key(one), one)
    close = difflib.get_close_matches(_key(name), by_key, 3, 0.6)
    return [by_key[key] for key in close]


def _key(name: str) -> str:
    return re.sub(r"[\W_]+", "", spelling_key(name))


def _hint(strange: Sequence[str], classes: Sequence[str]) -> str:
    pairs = [(one, near) for one in strange for near in near_names(one, classes)[:1]]
    if not pairs:
        return (
            "Map each to a class with `mapping='LABEL=CLASS'`, or leave its images out "
            f"with `exclude='label={strange[0]}'`."
        )
    return "Did you mean " + some([f"`mapping='{a}={b}'`" for a, b in pairs]) + "?"


def _unknown(name: str, names: Sequence[str], what: str) -> UnknownNameError:
    near = near_names(name, names)
    return UnknownNameError(
        f"`mapping` to name {what}: {some(list(names), 12)}",
        repr(name),
        f"Did you mean {' or '.join(near)}?" if near else "Choose one of them.",
    )
