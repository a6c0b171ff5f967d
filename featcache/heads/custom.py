"""Any scikit-learn classifier as a head, by ``module:Class(argument=value)``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin, is_classifier
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import has_fit_parameter

from featcache.core.io import digest
from featcache.errors import HeadError
from featcache.heads import estimators
from featcache.heads.base import COLUMNS, Scale, SklearnHead
from featcache.heads.files import Allowed, ours
from featcache.heads.rows import Matrix


@dataclass(kw_only=True, eq=False, repr=False)
class CustomHead(SklearnHead):
    """A scikit-learn classifier on scaled features.

    A ``random_state`` that is not given becomes the seed and ``n_jobs`` 1, where it has
    them; its ``fit`` gets the groups if it accepts them.

    Args:
        path: ``module:Class``, or with arguments ``module:Class(argument=value)``; see
            ``estimators.to_text``.
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
        model = estimators.from_text(self.path)
        if not is_classifier(model):
            raise estimators.not_a_classifier(self.path, repr(type(model)))
        if not hasattr(model, "predict_proba"):
            raise HeadError(
                f"{self.path} to provide probabilities",
                "no predict_proba",
                "Wrap it in CalibratedClassifierCV.",
            )
        params = model.get_params()
        fixed = {
            name: self.seed
            for name, value in params.items()
            if name.rpartition("__")[2] == "random_state" and value is None
        }
        # Of logistic regression n_jobs does nothing, and is on its way out.
        if "n_jobs" in params and type(model) is not LogisticRegression:
            fixed["n_jobs"] = 1
        return model.set_params(**fixed)

    def _classifier(
        self, Z: Matrix, codes: np.ndarray, groups: np.ndarray
    ) -> ClassifierMixin:
        model = self.build()
        also = {"groups": groups} if has_fit_parameter(model, "groups") else {}
        return model.fit(Z, codes, **also)

    def _allowed(self) -> Allowed:
        """Estimators, and what its own file needed when it was written."""
        recorded = getattr(self, "_recorded", None)  # not before a file is read

        def allowed(name: str) -> bool:
            known = recorded is None or name in recorded
            return known and (ours(name) or estimators.is_data(name, self.path))

        return allowed

    def _record(self) -> dict[str, Any]:
        types = {"types": self._types, "types_sha256": digest(self._types)}
        return super()._record() | types

    def restore(self, record: dict[str, Any], folder: Path) -> Self:
        """Takes up what `save` wrote, if its file needs no type but those of then.

        Raises:
            HeadError: It is of a package that nobody here trusts, is no classifier, or
                has a model file of other types.
        """
        estimators.refuse_unknown(self.path)
        self.build()
        types = record["types"]
        if digest(types) != record["types_sha256"]:
            raise ValueError("types that were changed after they were written")
        self._recorded = frozenset(types)
        return super().restore(record, folder)
