"""The choice of thresholds on out-of-fold predictions, and what they cost.

What they cost is estimated on images that had no say in them: for each fold the
threshold comes from the other folds, as one that is evaluated on the images it was
chosen on looks better than it is. The threshold that is stated is the mean of these:
one chosen anew on all folds would be another than those that were evaluated, and varies
more (docs/decisions/0053-operating-points.md).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcache.errors import UsageError
from featcache.evaluation import metrics
from featcache.evaluation.figures import Figure, groups_of, shares
from featcache.evaluation.metrics.base import Array, Labels, ratio
from featcache.evaluation.operating_points import thresholds
from featcache.evaluation.operating_points.base import (
    Kind,
    Mask,
    OperatingPoint,
    OperatingPoints,
    PredictiveValues,
    Triage,
)
from featcache.evaluation.operating_points.rates import (
    groups_needed,
    predictive_values,
    rates,
)


@dataclass(frozen=True)
class PointOptions:
    """What thresholds have to keep to.

    Attributes:
        sensitivity: Of the point "sensitivity" and of ruling out, 0 to 1.
        specificity: Of ruling in, 0 to 1.
        prevalences: Further prevalences of a class at which predictive values are
            stated, each between 0 and 1; that of the data is always stated.
        unit: What groups are, as texts name them: a plural in s.
    """

    sensitivity: float = 0.95
    specificity: float = 0.95
    prevalences: Mapping[str, Sequence[float]] = field(default_factory=dict)
    unit: str = "groups"

    def __post_init__(self) -> None:
        for name in ("sensitivity", "specificity"):
            if not 0 < (share := getattr(self, name)) <= 1:
                raise UsageError(
                    f"`{name}` above 0 and at most 1", f"{share:g}", "0.95 is usual."
                )
        wrong = [p for some in self.prevalences.values() for p in some if not 0 < p < 1]
        if wrong:
            raise UsageError(
                "prevalences between 0 and 1", f"{wrong[0]:g}", "10 % is 0.1."
            )


def operating_points(
    y: ArrayLike,
    p: ArrayLike,
    groups: ArrayLike,
    folds: ArrayLike,
    classes: Sequence[str],
    options: PointOptions | None = None,
) -> OperatingPoints:
    """Chooses the thresholds of every class, and estimates what they cost.

    Args:
        y: Class of each image, (N,).
        p: Its out-of-fold probabilities, (N, C).
        groups: Its group, (N,).
        folds: Its fold, (N,).
        classes: Names of the C classes.
        options: What thresholds have to keep to.

    Raises:
        UsageError: The arrays do not fit together.
    """
    y, p = metrics.checked(y, p)
    options = options or PointOptions()
    data = _OutOfFold(
        y, p, np.asarray(groups), np.asarray(folds), list(classes), options
    )
    columns = range(len(classes))
    plain = [(c, kind) for c in columns for kind in _PLAIN]
    pairs = [(c, kind) for c in columns for kind in _PAIR]
    cut = data.cross_fitted(pairs)
    return OperatingPoints(
        points=data.points(plain, data.cross_fitted(plain)),
        triage=data.triage(data.points(pairs, cut), cut),
    )


_PLAIN: tuple[Kind, ...] = ("sensitivity", "youden")
_PAIR: tuple[Kind, ...] = ("rule_out", "rule_in")


@dataclass(frozen=True, eq=False)
class _OutOfFold:
    """Out-of-fold predictions on which thresholds are chosen."""

    y: Labels
    p: Array
    groups: NDArray[Any]
    folds: NDArray[Any]
    classes: list[str]
    options: PointOptions

    def points(
        self, wanted: Sequence[tuple[int, Kind]], cut: Array
    ) -> list[OperatingPoint]:
        """The points of these classes and kinds, with their `cross_fitted`."""
        columns = [c for c, _ in wanted]
        inside = self.y[:, None] == np.array(columns, np.int64)
        by_point = rates(
            self.p[:, columns] >= cut,
            inside,
            np.isfinite(cut),
            self.groups,
            [self._reason(c) for c in columns] * 2,
            self._doubt_of_rates(columns, cut),
        )
        return [
            self._point(c, kind, self._by_fold(cut[:, k]), *by_point[k])
            for k, (c, kind) in enumerate(wanted)
        ]

    def triage(self, pairs: Sequence[OperatingPoint], cut: Array) -> list[Triage]:
        """Pairs of points for ruling out and ruling in, with the share in between."""
        result = []
        for c, name in enumerate(self.classes):
            low, high = cut[:, 2 * c], cut[:, 2 * c + 1]
            score, reason = self.p[:, c], self._reason(c)
            parts = np.stack([score < low, score >= high], axis=1)
            parts = np.column_stack([parts, ~parts.any(axis=1)])
            usable = np.isfinite(low)[:, None] & np.ones_like(parts)
            out, into, between = shares(
                parts,
                usable,
                self.groups,
                reasons=[reason] * 3,
                added=self._doubt_of_parts(c, cut[:, 2 * c : 2 * c + 2]),
            )
            result.append(
                Triage(
                    class_name=name,
                    rule_out=pairs[2 * c],
                    rule_in=pairs[2 * c + 1],
                    ruled_out=out,
                    ruled_in=into,
                    between=between,
                )
            )
        return result

    def cross_fitted(self, wanted: Sequence[tuple[int, Kind]]) -> Array:
        """The threshold (N, M) that the other folds give for each image."""
        cut = np.full((len(self.y), len(wanted)), math.nan)
        for fold in np.unique(self.folds):
            here = self.folds == fold
            cut[here] = [self._threshold(c, kind, ~here) for c, kind in wanted]
        return cut

    def _threshold(self, c: int, kind: Kind, rows: Mask) -> float:
        inside, score = self.y[rows] == c, self.p[rows, c]
        if kind == "youden":
            return thresholds.youden(inside, score)
        low = thresholds.at_sensitivity(inside, score, self.options.sensitivity)
        if kind == "sensitivity":
            return low
        high = thresholds.at_specificity(inside, score, self.options.specificity)
        if high < low:
            return (low + high) / 2
        return low if kind == "rule_out" else high

    def _point(
        self,
        c: int,
        kind: Kind,
        by_fold: list[float],
        sensitivity: Figure,
        specificity: Figure,
    ) -> OperatingPoint:
        rule_in = kind == "rule_in"
        target = self.options.specificity if rule_in else self.options.sensitivity
        count = int(self._groups_outside[c] if rule_in else self._groups_inside[c])
        needed = None if kind == "youden" else groups_needed(target)
        attainable = needed is not None and count >= needed
        note = self._reason(c) if self._is_without_threshold(c) else ""
        if not (note or attainable or kind == "youden"):
            rate = "specificity" if rule_in else "sensitivity"
            note = shortfall(rate, target, count, self.options.unit)
        return OperatingPoint(
            class_name=self.classes[c],
            column=c,
            kind=kind,
            target=None if kind == "youden" else target,
            threshold=self._stated(c, kind, by_fold),
            sensitivity=sensitivity,
            specificity=specificity,
            predictive=self._predictive(c, sensitivity, specificity),
            attainable=None if kind == "youden" else attainable,
            groups=count,
            groups_needed=needed,
            note=note,
            fold_thresholds=by_fold,
        )

    def _stated(self, c: int, kind: Kind, by_fold: list[float]) -> float:
        """The threshold for new images; that of all images where no fold has one."""
        mean = thresholds.between(self.p[:, c], by_fold)
        if math.isfinite(mean):
            return mean
        return self._threshold(c, kind, np.ones(len(self.y), bool))

    def _doubt_of_rates(self, columns: list[int], cut: Array) -> ArrayLike:
        """Variance that the choice of M thresholds adds to their rates, (2 M,)."""
        inside = self.y[:, None] == np.array(columns, np.int64)
        cases, others = inside.sum(axis=0), (~inside).sum(axis=0)
        results = []
        for limits in self._limits(columns, cut):
            flags = self.p[:, columns] >= limits
            hits, passed = (flags & inside).sum(axis=0), (~flags & ~inside).sum(axis=0)
            both = ratio(hits, cases), ratio(passed, others)
            results.append(np.concatenate(both))
        return _doubt(results)

    def _doubt_of_parts(self, c: int, cut: Array) -> ArrayLike:
        """The same of the shares ruled out, ruled in, and between, (3,)."""
        score, results = self.p[:, c], []
        for low, high in self._limits([c, c], cut):
            out, into = (score < low).mean(), (score >= high).mean()
            results.append(np.array([out, into, 1 - out - into]))
        return _doubt(results)

    def _limits(self, columns: list[int], cut: Array) -> list[Array]:
        """M thresholds of each fold that has any, and last the stated ones."""
        _, first = np.unique(self.folds, return_index=True)
        limits = [row for row in cut[first] if np.isfinite(row).any()]
        stated = [
            thresholds.between(self.p[:, c], list(column))
            for c, column in zip(columns, cut[first].T, strict=True)
        ]
        return [*limits, np.array(stated)]

    def _by_fold(self, cut: Array) -> list[float]:
        """The threshold that was used in each fold, from `cross_fitted`."""
        _, first = np.unique(self.folds, return_index=True)
        return [float(value) for value in cut[first]]

    def _predictive(
        self, c: int, sensitivity: Figure, specificity: Figure
    ) -> list[PredictiveValues]:
        own = float((self.y == c).mean())
        stated = self.options.prevalences.get(self.classes[c], ())
        of_data = [own] if 0 < own < 1 else []
        return [
            PredictiveValues(
                prevalence=prevalence, of_data=k < len(of_data), ppv=ppv, npv=npv
            )
            for k, prevalence in enumerate([*of_data, *stated])
            for ppv, npv in [predictive_values(sensitivity, specificity, prevalence)]
        ]

    def _is_without_threshold(self, c: int) -> bool:
        return bool((self.y == c).all() or not (self.y == c).any())

    def _reason(self, c: int) -> str:
        """Why there is no threshold of a class, or no rate at it."""
        name = self.classes[c]
        if not (self.y == c).any():
            return f"no image of {name}"
        if (self.y == c).all():
            return f"every image is of {name}"
        return f"{name}, or all else, is in one fold only"

    @cached_property
    def _groups_inside(self) -> NDArray[np.int64]:
        return groups_of(self.y[:, None] == np.arange(len(self.classes)), self.groups)

    @cached_property
    def _groups_outside(self) -> NDArray[np.int64]:
        return groups_of(self.y[:, None] != np.arange(len(self.classes)), self.groups)


def _doubt(results: list[Array]) -> ArrayLike:
    """What the choice of thresholds adds to the variance of rates.

    Out of fold, a rate is the mean over the folds, of thresholds that differ; stated is
    one threshold. It is what the two differ by on all images, squared, and the variance
    of a mean of so many folds.

    Args:
        results: Rates on all images with the thresholds of each fold, and last with
            those that are stated.
    """
    *of_folds, stated = results
    if len(of_folds) < 2:
        return 0.0
    away = np.mean(of_folds, axis=0) - stated
    return np.asarray(away**2 + np.var(of_folds, axis=0, ddof=1) / len(of_folds))


def shortfall(rate: str, target: float, count: int, unit: str) -> str:
    """Says that so few groups cannot show the target."""
    needed = groups_needed(target)
    if needed is None:
        return f"Not attainable: no number of {unit} shows a {rate} of 1."
    those = f"{count} {unit if count != 1 else unit[:-1]}"
    return (
        f"Not attainable with {those}: a {rate} of {target:g} needs at least "
        f"{needed} without {'a miss' if rate == 'sensitivity' else 'a false alarm'}."
    )
