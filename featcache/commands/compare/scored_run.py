"""A run's predictions, scored once for all that the leaderboard says of it."""

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from featcache.dataset.regions import INSIDE
from featcache.evaluation import metrics
from featcache.evaluation.metrics import Draws
from featcache.evaluation.record import FeatureBlock, RunRecord, common_value
from featcache.evaluation.runs import TEST, TRAIN, Predictions, Run
from featcache.evaluation.selection import rank_key
from featcache.features import store
from featcache.heads import NONE


@dataclass(frozen=True, eq=False)
class ScoredRun:
    """A run's predictions on one part, its images in the order of their ids.

    Attributes:
        run: The run.
        part: The predictions, (N,) and (N, C).
        folds: (N,) folds; 0 in the test set.
        of_part: Name of the part.
    """

    run: Run
    part: Predictions
    folds: np.ndarray
    of_part: str = TRAIN
    _others: dict[str, "ScoredRun"] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, run: Run, part: str = TRAIN) -> "ScoredRun":
        """Reads a run's out-of-fold predictions, or those on the test set.

        Raises:
            RunError: Its predictions are damaged.
        """
        table = run.table[run.table["split"] == part]
        order = np.argsort(table["image_id"].to_numpy(str), kind="stable")
        predictions = run.predictions(part)
        sorted_part = Predictions(
            predictions.y[order], predictions.p[order], predictions.groups[order]
        )
        folds = table["fold"].to_numpy(int)[order].clip(0)
        return cls(run, sorted_part, folds, part)

    def on(self, part: str) -> "ScoredRun":
        """The same run on a part, which is read and scored once."""
        if part == self.of_part:
            return self
        if part not in self._others:
            self._others[part] = ScoredRun.of(self.run, part)
        return self._others[part]

    @cached_property
    def right(self) -> np.ndarray:
        """Whether each image is predicted right, (N,)."""
        return np.asarray(self.part.p.argmax(axis=1) == self.part.y)

    @cached_property
    def scores(self) -> dict[str, float]:
        """Every score of ``metrics.METRICS``."""
        return metrics.scores(self.part.y, self.part.p)

    @cached_property
    def draws(self) -> Draws:
        """The same on resamples of groups, equal ones for all runs of a leaderboard."""
        return metrics.bootstrap(self.part.y, self.part.p, self.part.groups)

    def posterior(self, metric: str) -> np.ndarray:
        """A score on draws of the Bayesian bootstrap, equal ones for all runs, (B,)."""
        return metrics.bayesian_bootstrap(
            self.part.y, self.part.p, self.part.groups, metric
        )

    @property
    def is_baseline(self) -> bool:
        """Whether it is a control and no result of a network."""
        return self.run.record.is_baseline

    @property
    def sees_subject(self) -> bool:
        """Whether it is shown what masks show, and nothing else."""
        return all(block.region == INSIDE for block in self.run.record.features)

    @property
    def accuracy_by_fold(self) -> np.ndarray:
        """(folds,) shares of the images that are predicted right."""
        images = np.bincount(self.folds)
        return np.bincount(self.folds, self.right)[images > 0] / images[images > 0]

    def rank_key(self, metric: str) -> tuple[bool, bool, float, str]:
        """Sorts the best first, controls last; what has no score after the rest."""
        return rank_key(self.run, self.scores, metric)


def described(scored_run: ScoredRun) -> dict[str, Any]:
    """The fields that say what a run is, and how many images it was judged on."""
    record, blocks = scored_run.run.record, scored_run.run.record.features
    networks = [block for block in blocks if block.weights != "none"]
    return {
        "run": scored_run.run.short_id,
        "run_id": scored_run.run.run_id,
        "backbone": record.backbone,
        "weights": record.weights,
        "input_size": record.input_size,
        "preprocess": common_value([_scaling(one) for one in networks or blocks]),
        "unproven": any(one.canary == "absent" for one in blocks),
        "head": record.head,
        "views": record.views,
        "policy": _policy(record),
        "taps": ",".join(record.taps),
        "tta": record.tta,
        "options": ", ".join([*_storage(blocks), *_options(record), *record.options]),
        "split": record.split.name,
        "n": len(scored_run.right),
        "n_groups": scored_run.draws.groups,
    }


def _scaling(block: FeatureBlock) -> str | None:
    """The input scaling of features, its numbers to three digits."""
    if block.preprocess is None:
        return None
    return re.sub(
        r"\d+\.\d+", lambda number: f"{float(number[0]):.3g}", block.preprocess
    )


def _policy(record: RunRecord) -> str | None:
    """The options of the views' recipe; None where there are no views."""
    recipe = record.policy if record.views else None
    return " ".join(store.recipe_options(recipe)) if recipe else None


def _storage(blocks: list[FeatureBlock]) -> list[str]:
    """In words, which of the features are not computed or kept in float32."""
    types = {name for block in blocks for name in (block.precision, block.dtype)}
    return sorted(types - {"float32"})


def _options(record: RunRecord) -> list[str]:
    """In words, what tells runs of one head on the same features apart."""
    params, embedding = record.head_is.params, record.head_is.embedding
    transform = embedding.transform if embedding else NONE
    pca = embedding.pca if embedding else NONE
    calibration = record.calibration
    words = {
        f"{len(record.members)} members": record.members,
        "equal weights": record.members and params.get("weights") == "equal",
        f"{len(record.taps)} taps": record.taps,
        "plain view alone": record.views and not record.tta,
        "tuned": record.tuning,
        f"transform {transform}": transform != NONE,
        f"pca {pca}": pca != NONE,
        calibration.method if calibration else "": calibration and calibration.kept,
    }
    return [text for text, is_so in words.items() if is_so]


def scored(scored_run: ScoredRun) -> dict[str, Any]:
    """Each score with its interval, and the accuracy on the test set."""
    part, row = scored_run.part, dict[str, Any]()
    ends = metrics.intervals(part.y, part.p, part.groups, draws=scored_run.draws)
    for name, value in scored_run.scores.items():
        row |= _with_ends(name, value, ends[name])
    return row


def unscored() -> dict[str, Any]:
    """The same fields for a run without out-of-fold predictions, and of no repeats."""
    row: dict[str, Any] = {"repeats": 1, "accuracy_mean": np.nan}
    for name in metrics.METRICS:
        row |= _with_ends(name, np.nan, (None, None))
    return row | {"accuracy_sd": None, "p_repeats": None}


def tested(scored_run: ScoredRun) -> dict[str, Any]:
    """The accuracy on the test set, and the run's times."""
    record, test = scored_run.run.record, scored_run.run.predictions(TEST)
    row: dict[str, Any] = {"n_test": len(test.y)}
    row |= _with_ends("test_accuracy", None, (None, None))
    if len(test.y):
        right = test.p.argmax(axis=1) == test.y
        ends = metrics.group_bootstrap(right, test.groups)
        row |= _with_ends("test_accuracy", float(right.mean()), ends)
    return row | {
        "fit_seconds": record.fit_seconds,
        "predict_seconds": record.predict_seconds,
        "is_baseline": scored_run.is_baseline,
        "trainable_parameters": record.trainable_parameters,
    }


def _with_ends(
    name: str, value: float | None, ends: tuple[float | None, float | None]
) -> dict[str, float | None]:
    return {name: value, f"{name}_low": ends[0], f"{name}_high": ends[1]}
