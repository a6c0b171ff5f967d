"""What a refusal is fitted from, and where its thresholds lie."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcache.core.text import counted, percent
from featcache.deploy.refusal.distances import (
    MOST_REFERENCES,
    Mahalanobis,
    Neighbours,
    sample_references,
)
from featcache.deploy.refusal.record import number, only
from featcache.deploy.refusal.rules import PlainRules

Array = NDArray[np.float64]

PARTS = ("statistics", "mahalanobis", "neighbours")  # that have a threshold
LARGEST_SHARE = 0.5
# Of their thresholds: within the range of nearly all training images, one standard
# deviation, and what storing the references rounds.
_LEAST = (1.0, 1.0, 1e-3)
# Images up to which a fold more or less moves the distances, and how fine it is then.
_MANY, _FINE = 5000, 20


@dataclass(frozen=True)
class TrainingRows:
    """Checked training rows.

    Attributes:
        X: Embeddings, (N, D).
        statistics: (N, 264).
        labels: Class of each row.
        groups: Group of each row.
        folds: Fold of each row; none divides a group.
        seed: Of the order in which rows are used.
    """

    X: NDArray[np.float32]
    statistics: Array
    labels: NDArray[np.str_]
    groups: NDArray[np.str_]
    folds: NDArray[np.int64]
    seed: int

    def order(self, of: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Some of the rows in the order of `sample_references`."""
        rows = np.flatnonzero(of)
        labels, groups = self.labels[rows], self.groups[rows]
        return rows[sample_references(labels, groups, self.seed, len(rows))]

    def held_out_scores(self) -> Array:
        """(N, 3) scores of each row by a model of the other folds."""
        scores = np.empty((len(self.X), len(PARTS)))
        parts = self._parts()
        for part in np.unique(parts):
            held_out = parts == part
            model = Model.fit(self, self.order(~held_out))
            rows = self.X[held_out], self.statistics[held_out]
            scores[held_out] = model.scores(*rows)[0]
        return scores

    def _parts(self) -> NDArray[np.int64]:
        """Folds of (N,); those of few images in several parts, of whole groups.

        A model of four fifths of 1,000 images puts a new image 3 % farther away than
        one of all of them does, so that its thresholds refuse half of the share.
        """
        folds = np.unique(self.folds)
        if len(self.X) > _MANY or len(folds) >= _FINE:
            return self.folds
        parts = -(-_FINE // len(folds))
        names, codes = np.unique(self.groups, return_inverse=True)
        turn = np.random.default_rng(self.seed).permutation(len(names))
        return np.asarray(self.folds * parts + turn[codes] % parts)


@dataclass(frozen=True)
class Model:
    """What is fitted on training rows, without thresholds."""

    rules: PlainRules
    mahalanobis: Mahalanobis
    neighbours: Neighbours

    @classmethod
    def fit(cls, data: TrainingRows, rows: NDArray[np.int64]) -> Self:
        """Fits on rows, in the order of `TrainingRows.order`."""
        return cls(
            PlainRules.fit(data.statistics[rows]),
            Mahalanobis.fit(data.X[rows]),
            Neighbours.fit(data.X[rows[:MOST_REFERENCES]]),
        )

    def scores(
        self, X: NDArray[np.float32], statistics: Array
    ) -> tuple[Array, NDArray[np.int64], Array]:
        """Scores embeddings (N, D) with their statistics (N, 264).

        Returns:
            (N, 3) scores in the order of ``PARTS``, (N, k) rows of the nearest
            references, the nearest first, and (N, k) cosine distances to them.
        """
        plain = self.rules.scores(statistics).max(axis=1)
        nearest, apart = self.neighbours.distance(X)
        scores = np.stack([plain, self.mahalanobis.distance(X), apart[:, -1]], axis=1)
        return scores, nearest, apart

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """As arrays that a file can hold."""
        parts = self.rules, self.mahalanobis, self.neighbours
        return {name: rows for part in parts for name, rows in part.to_arrays().items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Reads what `to_arrays` gave.

        Raises:
            ValueError: Something else.
        """
        model = cls(
            PlainRules.from_arrays(arrays),
            Mahalanobis.from_arrays(arrays),
            Neighbours.from_arrays(arrays),
        )
        only(arrays, set(model.to_arrays()), "arrays")
        widths = model.mahalanobis.mean.size, model.neighbours.rows.shape[1]
        if len(set(widths)) > 1:
            raise ValueError(f"embeddings of {widths[0]} and of {widths[1]} columns")
        return model


@dataclass(frozen=True)
class Calibration:
    """Thresholds of the parts, and what they were computed from.

    Attributes:
        thresholds: Of ``PARTS``; what is above is refused.
        share: Wanted share of refused groups of the training set's kind.
        expected: Share that the thresholds are expected to refuse of new groups.
        groups: Number of groups that were scored out-of-fold.
    """

    thresholds: tuple[float, ...]
    share: float
    expected: float
    groups: int

    @property
    def note(self) -> str:
        """A sentence where the wanted share is out of reach; else nothing."""
        if self.expected <= self.share:
            return ""
        needed = math.ceil(len(PARTS) / self.share) - 1
        return (
            f"With {counted(self.groups, 'group')}, up to "
            f"{percent(self.expected, 1)} of new groups like those of training may be "
            f"refused instead of {percent(self.share, 1)}; {needed} groups would be "
            "enough."
        )

    def to_record(self) -> dict[str, Any]:
        """As JSON keeps it."""
        limits = dict(zip(PARTS, self.thresholds, strict=True))
        return dataclasses.asdict(self) | {"thresholds": limits}

    @classmethod
    def from_record(cls, record: Any) -> Self:
        """Reads what `to_record` gave.

        Raises:
            ValueError: Something else.
        """
        only(record, {field.name for field in dataclasses.fields(cls)}, "a calibration")
        limits = record["thresholds"]
        only(limits, {*PARTS}, "thresholds")
        if type(record["groups"]) is not int:
            raise ValueError("groups is not a whole number")
        return cls(
            tuple(float(number(limits, part, 0, 1e300)) for part in PARTS),
            number(record, "share", 0, LARGEST_SHARE),
            number(record, "expected", 0, 1),
            int(number(record, "groups", 2, 1e12)),
        )


def calibrate(scores: Array, groups: ArrayLike, share: float) -> Calibration:
    """Thresholds for a share of groups, from scores of rows that were held out.

    With G groups, a new group is above the k-th largest score with a probability of at
    most k / (G + 1). One k serves all parts: the largest for which the groups at or
    above any threshold are at most ``share`` of G + 1; at least 1, where ``expected``
    says what comes of it. No threshold is so low that an image would be refused for
    next to nothing, where training images are all alike.

    Args:
        scores: (N, 3) in the order of ``PARTS``.
        groups: Group of each row, (N,).
        share: Of groups that may be refused.
    """
    names, codes = np.unique(np.asarray(groups), return_inverse=True)
    largest = np.full((len(names), scores.shape[1]), -np.inf)
    np.maximum.at(largest, codes, scores)
    order = np.argsort(-largest, axis=0, kind="stable")
    ranks = np.argsort(order, axis=0, kind="stable")
    # Groups that are among the k first of any part, for k = 1, 2, ...
    beyond = np.cumsum(np.bincount(ranks.min(axis=1), minlength=len(names)))
    k = max(int((beyond <= share * (len(names) + 1)).sum()), 1)
    thresholds = np.take_along_axis(largest, order[[k - 1]], axis=0)[0]
    thresholds = np.maximum(thresholds, _LEAST)
    expected = float(beyond[k - 1] / (len(names) + 1))
    return Calibration(tuple(thresholds.tolist()), share, expected, len(names))
