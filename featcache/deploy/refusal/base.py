"""`Refusal`: what a model was trained on, and from where on an image is refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from featcache.deploy.refusal.distances import MOST_REFERENCES
from featcache.deploy.refusal.model import (
    LARGEST_SHARE,
    PARTS,
    Calibration,
    Model,
    TrainingRows,
    calibrate,
)
from featcache.deploy.refusal.record import only, texts
from featcache.deploy.refusal.rules import facts_of, header_reason, single_facts
from featcache.deploy.refusal.statistics import COLUMNS
from featcache.deploy.refusal.statistics import VERSION as STATISTICS
from featcache.errors import RunError, SplitError, UsageError

Array = NDArray[np.float64]
Header = Mapping[str, str]

VERSION = 1  # of what `Refusal.to_arrays` gives
SHARE = 0.01
_WIDTH = len(COLUMNS)
_FIELDS = {
    *("version", "statistics_version", "facts", "calibration", "ids", "labels"),
}
_AGAIN = "Pass the plain view of each image, as `featcache.load` returns it."


@dataclass(frozen=True)
class RefusalScores:
    """What is said of N images.

    Attributes:
        refused: (N,) bool.
        part: Of each, which part refused it: "header", "statistics", "distance" or "".
        reasons: Of each, why, in words; "" where it is not refused.
        scores: (N,) by name of ``PARTS``, beyond whose thresholds a row is refused.
        similar: Of each, ids, labels and cosine distances (0 to 2) of the nearest
            training images that are kept, the nearest first.
    """

    refused: NDArray[np.bool_]
    part: list[str]
    reasons: list[str]
    scores: dict[str, Array]
    similar: list[list[tuple[str, str, float]]]


@dataclass(frozen=True)
class Refusal:
    """What a model was trained on, and from where on an image is refused.

    Attributes:
        facts: By fact of the header the one value of the training images.
        model: Rules and distances, fitted on all training rows.
        calibration: The thresholds.
        ids: Of the training images that are kept for comparison, (M,).
        labels: Their labels, (M,).
    """

    facts: dict[str, str]
    model: Model
    calibration: Calibration
    ids: tuple[str, ...]
    labels: tuple[str, ...]

    @classmethod
    def fit(
        cls,
        X: ArrayLike,
        statistics: ArrayLike,
        headers: Sequence[Header],
        groups: ArrayLike,
        labels: ArrayLike,
        image_ids: Sequence[str],
        folds: ArrayLike,
        *,
        share: float = SHARE,
        seed: int = 0,
    ) -> Self:
        """Learns what training images look like, and calibrates thresholds.

        Each fold is scored by what is fitted on the other folds (of up to 5,000 images
        each part of a fold by all other images); a group counts by the largest of its
        scores. The threshold of each part is its k-th largest of these,
        with one k for all parts: the largest for which the groups beyond any of the
        thresholds are the wanted share of all.

        Args:
            X: Embeddings of the plain views, (N, D).
            statistics: Rows of `picture_statistics`, (N, 264).
            headers: Of each image, as of `header_facts`.
            groups: Group of each image, (N,).
            labels: Class of each image, (N,).
            image_ids: Of each image, (N,).
            folds: Its fold, (N,), 0 or above; at least two.
            share: Of in-distribution groups that may be refused, above 0 to 0.5. The
                header's facts, which no training image contradicts, are not in it.
            seed: Decides which training images are kept where there are over 5,000,
                and in which parts folds are divided.

        Raises:
            UsageError: Arguments of other shapes, not finite, or out of range.
            SplitError: A group is in two folds, or there is one fold.
        """
        if not 0 < share <= LARGEST_SHARE or seed < 0:
            raise UsageError(
                "a share of refused groups above 0 and up to 0.5, and a seed from 0",
                f"`share={share}`, `seed={seed}`",
                "Use `share=0.01`.",
            )
        data = checked_rows(X, statistics, groups, labels, folds, seed)
        if not len(headers) == len(image_ids) == len(data.X):
            raise _mismatch(f"{len(headers)} headers and {len(image_ids)} ids", data.X)
        calibration = calibrate(data.held_out_scores(), data.groups, share)
        rows = data.order(np.ones(len(data.X), bool))
        kept = rows[:MOST_REFERENCES]
        return cls(
            single_facts(headers),
            Model.fit(data, rows),
            calibration,
            tuple(str(image_ids[row]) for row in kept),
            tuple(data.labels[kept].tolist()),
        )

    def score(
        self, X: ArrayLike, statistics: ArrayLike, headers: Sequence[Header]
    ) -> RefusalScores:
        """Says of each image whether it is refused, and why.

        Args:
            X: Embeddings of the plain views, (N, D).
            statistics: Rows of `picture_statistics`, (N, 264).
            headers: Of each image, as of `header_facts`.

        Raises:
            UsageError: Arguments of other shapes, or not finite.
        """
        embeddings, plain = _matrices(X, statistics)
        width = self.model.mahalanobis.mean.size
        if len(headers) != len(embeddings) or embeddings.shape[1] != width:
            raise _mismatch(
                f"{len(headers)} headers for embeddings of {width} columns", embeddings
            )
        scores, nearest, apart = self.model.scores(embeddings, plain)
        answers = [
            self._answer(*row) for row in zip(plain, scores, headers, strict=True)
        ]
        return RefusalScores(
            np.array([bool(part) for part, _ in answers], bool),
            [part for part, _ in answers],
            [reason for _, reason in answers],
            dict(zip(PARTS, scores.T, strict=True)),
            [self._named(*pair) for pair in zip(nearest, apart, strict=True)],
        )

    def to_arrays(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """A record for JSON, and the arrays that belong to it."""
        record = {
            "version": VERSION,
            "statistics_version": STATISTICS,
            "facts": self.facts,
            "calibration": self.calibration.to_record(),
            "ids": list(self.ids),
            "labels": list(self.labels),
        }
        return record, self.model.to_arrays()

    @classmethod
    def from_arrays(cls, record: Any, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Reads what `to_arrays` gave.

        Raises:
            RunError: Something else: keys, types, shapes or values that do not fit.
        """
        try:
            only(record, _FIELDS, "a record")
            versions = record["version"], record["statistics_version"]
            if versions != (VERSION, STATISTICS):
                raise ValueError(f"a record of the versions {str(versions)[:100]}")
            model = Model.from_arrays(arrays)
            names = [texts(record[name], name) for name in ("ids", "labels")]
            if {*map(len, names)} != {len(model.neighbours.rows)}:
                raise ValueError("not one id and label for each reference row")
            calibration = Calibration.from_record(record["calibration"])
            return cls(facts_of(record["facts"]), model, calibration, *names)
        except (ValueError, OverflowError) as error:
            raise RunError(
                "thresholds of refusal as they were written",
                str(error),
                "Make the bundle again.",
            ) from error

    def _named(
        self, rows: NDArray[np.int64], apart: Array
    ) -> list[tuple[str, str, float]]:
        return [
            (self.ids[row], self.labels[row], float(distance))
            for row, distance in zip(rows, apart, strict=True)
        ]

    def _answer(
        self, statistics: Array, scores: Array, header: Header
    ) -> tuple[str, str]:
        """The part that refuses an image, and the reason; both empty for none."""
        plain, mahalanobis, neighbours = self.calibration.thresholds
        if reason := header_reason(self.facts, header):
            return "header", reason
        if scores[0] > plain:
            return "statistics", self.model.rules.reason(statistics, plain)
        if scores[1] > mahalanobis:
            return "distance", (
                "unlike the training images: Mahalanobis distance "
                f"{scores[1]:.1f} > {mahalanobis:.1f}"
            )
        if scores[2] > neighbours:
            k = self.model.neighbours.k
            return "distance", (
                f"unlike every training image: cosine distance {scores[2]:.3f} > "
                f"{neighbours:.3f} to neighbour {k}"
            )
        return "", ""


def checked_rows(
    X: ArrayLike,
    statistics: ArrayLike,
    groups: ArrayLike,
    labels: ArrayLike,
    folds: ArrayLike,
    seed: int,
) -> TrainingRows:
    """The rows that a refusal is fitted on; see `Refusal.fit`.

    Raises:
        UsageError: Arguments of other shapes, or not finite.
        SplitError: A group is in two folds, or there is one fold.
    """
    embeddings, plain = _matrices(X, statistics)
    fold_of = np.asarray(folds)
    names = [np.asarray(column).astype(str) for column in (labels, groups)]
    shapes = {column.shape for column in (*names, fold_of)}
    if shapes != {(len(embeddings),)} or fold_of.dtype.kind not in "iu":
        raise _mismatch(f"labels, groups and folds of {sorted(shapes)}", embeddings)
    if fold_of.min(initial=0) < 0 or len(np.unique(fold_of)) < 2:
        raise SplitError(
            "at least two folds, numbered from 0",
            f"{np.unique(fold_of)[:5].tolist()}",
            "Pass the training images alone, without the test set.",
        )
    pairs = np.unique(np.stack([names[1], fold_of.astype(str)]), axis=1)[0]
    if straddling := len(pairs) - len(np.unique(pairs)):
        raise SplitError(
            "every group to be in one fold",
            f"{straddling} in several",
            "Use groups and folds of the same split.",
        )
    numbers = fold_of.astype(np.int64)
    return TrainingRows(embeddings, plain, names[0], names[1], numbers, seed)


def _matrices(X: ArrayLike, statistics: ArrayLike) -> tuple[NDArray[np.float32], Array]:
    embeddings = np.asarray(X, np.float32)
    plain = np.asarray(statistics, np.float64)
    if embeddings.ndim != 2 or plain.shape != (len(embeddings), _WIDTH):
        raise _mismatch(f"statistics {plain.shape}", embeddings)
    if not (np.isfinite(embeddings).all() and np.isfinite(plain).all()):
        raise UsageError("finite embeddings and statistics", "NaN or infinity", _AGAIN)
    return embeddings, plain


def _mismatch(got: str, embeddings: NDArray[np.float32]) -> UsageError:
    expected = f"one row of each for every embedding, and {_WIDTH} statistics"
    return UsageError(expected, f"embeddings {embeddings.shape}, {got}", _AGAIN)
