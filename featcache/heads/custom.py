"""Any scikit-learn classifier as a head, by ``module:Class``."""

import importlib
import inspect
import re
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import has_fit_parameter

from featcache.errors import HeadError
from featcache.heads.base import SklearnHead


class CustomHead(SklearnHead):
    """A scikit-learn classifier with its default arguments on scaled features.

    ``random_state`` becomes the seed and ``n_jobs`` 1, where it has them; its
    ``fit`` gets the groups if it accepts them.

    Args:
        path: ``module:Class``.
        seed: Decides everything random in the classifier.
    """

    name = "custom"

    def __init__(
        self, path: str = "sklearn.neighbors:KNeighborsClassifier", *, seed: int = 0
    ) -> None:
        super().__init__(seed=seed)
        self.path = path

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

    def _build(self, codes: np.ndarray, groups: np.ndarray) -> Any:
        return Pipeline([("scale", StandardScaler()), ("classify", self.build())])

    def _fit(self, X: np.ndarray, codes: np.ndarray, groups: np.ndarray) -> None:
        model = self._build(codes, groups)
        takes_groups = has_fit_parameter(model["classify"], "groups")
        also = {"classify__groups": groups} if takes_groups else {}
        self.model_ = model.fit(X, codes, **also)

    def _trusted(self) -> set[str]:
        self.build()  # a record that names anything but a classifier earns no trust
        return super()._trusted() | {self.path.partition(":")[0].partition(".")[0]}


def _find(path: str) -> type[Any]:
    if not re.fullmatch(r"\w+(\.\w+)*:\w+", path):
        raise HeadError(
            "module:Class",
            repr(path),
            "For example sklearn.neighbors:KNeighborsClassifier.",
        )
    module, _, cls = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), cls, None)
    except ImportError as error:
        raise HeadError(
            f"a module {module} that can be imported",
            str(error),
            "Install it, or put its folder on PYTHONPATH.",
        ) from error
    if not (inspect.isclass(found) and issubclass(found, ClassifierMixin)):
        raise HeadError(
            f"a scikit-learn classifier {cls} in {module}",
            "no such name" if found is None else repr(found),
            "Name a class built on sklearn.base.ClassifierMixin.",
        )
    return found


def _instance(cls: type[Any], path: str) -> Any:
    try:
        model = cls()
    except TypeError as error:
        raise HeadError(
            f"{path} to have a default for every argument",
            str(error),
            "Give them in a subclass of your own.",
        ) from error
    if not hasattr(model, "predict_proba"):
        raise HeadError(
            f"{path} to give probabilities",
            "no predict_proba",
            "Wrap it in CalibratedClassifierCV in a class of your own.",
        )
    return model
