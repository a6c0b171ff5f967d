"""Heads: the trained part on top of frozen features.

A head is a scikit-learn classifier. This page is the table of them; importing it
loads neither scikit-learn nor TensorFlow, and neither does `describe` for the
Keras heads (it needs scikit-learn only).
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcache.registry import Registry

if TYPE_CHECKING:
    from featcache.heads.base import Head

__all__ = ["HEADS", "HeadRow", "describe", "load", "make"]


@dataclass(frozen=True)
class HeadRow:
    """One head.

    Attributes:
        path: ``module:Class`` of the head.
        kind: The library whose model file it writes: sklearn, xgboost or keras.
        about: One line for listings.
    """

    path: str
    kind: str
    about: str


def _keras(cls: str, about: str) -> HeadRow:
    return HeadRow(f"featcache.heads.networks:{cls}", "keras", about)


def _sklearn(cls: str, about: str) -> HeadRow:
    return HeadRow(f"featcache.heads.linear:{cls}", "sklearn", about)


HEADS: Registry[HeadRow] = Registry(
    "head",
    {
        "softmax-untrained": _keras(
            "UntrainedSoftmax", "random softmax layer, no training: near chance"
        ),
        "softmax": _keras("Softmax", "one trained softmax layer"),
        "mlp": _keras("Mlp", "dense 500-200, ReLU"),
        "mlp-dropout": _keras("MlpDropout", "dense 500-dropout 0.5-200, ReLU"),
        "logreg": _sklearn("LogReg", "L2 logistic regression"),
        "svm": _sklearn("Svm", "RBF support vector machine, calibrated"),
        "xgboost": HeadRow(
            "featcache.heads.boosted:XGBoost", "xgboost", "gradient-boosted trees"
        ),
        "majority": _sklearn(
            "Majority", "class shares of the training rows: the floor"
        ),
    },
    hint="Or give module:Class of a scikit-learn classifier.",
)
_CUSTOM = "featcache.heads.custom:CustomHead"


def make(name: str, *, seed: int = 0) -> "Head":
    """Builds an unfitted head.

    Args:
        name: A name of `HEADS`, or ``module:Class`` of a scikit-learn classifier.
        seed: Decides everything random in the head.

    Raises:
        UnknownNameError: The name is neither.
        HeadError: The class cannot serve as a head.
    """
    if ":" not in name:
        head: Head = _class(HEADS[name].path)(seed=seed)
        return head
    from featcache.heads.custom import CustomHead

    custom = CustomHead(name, seed=seed)
    custom.build()  # a class that cannot serve is refused before any work is done
    return custom


def describe(name: str, *, seed: int = 0) -> dict[str, Any]:
    """The identity of a head for a run's digest: its class and every parameter."""
    params = make(name, seed=seed).get_params(deep=False)
    return {"class": HEADS[name].path if name in HEADS else _CUSTOM, "params": params}


def load(folder: Path) -> "Head":
    """Reads the head that `Head.save` wrote into ``folder``.

    Raises:
        HeadError: There is none, or its model file is not safe to read.
    """
    from featcache.heads.base import read_record

    name = read_record(folder)["head"]
    head: Head = _class(HEADS[name].path if name in HEADS else _CUSTOM).load(folder)
    return head


def _class(path: str) -> Any:
    module, _, cls = path.partition(":")
    return getattr(importlib.import_module(module), cls)
