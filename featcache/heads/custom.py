"""Any scikit-learn classifier as a head, by ``module:Class``."""

import importlib
import inspect
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import has_fit_parameter

from featcache.errors import HeadError
from featcache.heads.base import COLUMNS, Scale, SklearnHead


@dataclass(kw_only=True, eq=False, repr=False)
class CustomHead(SklearnHead):
    """A scikit-learn classifier with its default arguments on scaled features.

    ``random_state`` becomes the seed and ``n_jobs`` 1, where it has them; its
    ``fit`` gets the groups if it accepts them.

    Args:
        path: ``module:Class``.
        scale: See ``base.fitted_scaler``.
        seed: Decides everything random in the classifier.
    """

    path: str = "sklearn.neighbors:KNeighborsClassifier"
    scale: Scale = COLUMNS
    seed: int = 0

    name = "custom"

    def build(self) -> Any:
        """The unfitted classifier.

        Raises:
            HeadError: It cannot be imported, is no classifier, or gives no
                probabilities.
        """
        model = _instance(_find(self.path), self.path)
        fixed = {"random_state": self.seed, "n_jobs": 1}
        return model.set_params(
            **{key: fixed[key] for key in fixed.keys() & model.get_params().keys()}
        )

    def _classifier(
        self, Z: np.ndarray, codes: np.ndarray, groups: np.ndarray
    ) -> ClassifierMixin:
        model = self.build()
        also = {"groups": groups} if has_fit_parameter(model, "groups") else {}
        return model.fit(Z, codes, **also)

    def _trusted(self) -> frozenset[str]:
        self.build()  # a record that names anything but a classifier earns no trust
        return super()._trusted() | {self.path.partition(":")[0].partition(".")[0]}


def _find(path: str) -> type[Any]:
    if not re.fullmatch(r"\w+(\.\w+)*:\w+", path):
        raise HeadError(
            "module:Class",
            repr(path),
            "Write it like sklearn.neighbors:KNeighborsClassifier.",
        )
    module, _, cls = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), cls, None)
    except ImportError as error:
        raise HeadError(
            f"an importable module {module}",
            str(error),
            "Install it, or add its folder to PYTHONPATH.",
        ) from error
    if not (inspect.isclass(found) and issubclass(found, ClassifierMixin)):
        raise HeadError(
            f"a scikit-learn classifier {cls} in {module}",
            "no such name" if found is None else repr(found),
            "Use a class derived from sklearn.base.ClassifierMixin.",
        )
    return found


def _instance(cls: type[Any], path: str) -> Any:
    try:
        model = cls()
    except TypeError as error:
        raise HeadError(
            f"{path} to have a default for every argument",
            str(error),
            "Set them in a subclass of your own.",
        ) from error
    if not hasattr(model, "predict_proba"):
        raise HeadError(
            f"{path} to provide probabilities",
            "no predict_proba",
            "Write a class that wraps it in CalibratedClassifierCV.",
        )
    return model
