"""``featcache ensemble``: a soft vote over runs, from their predictions alone."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from featcache.core.io import digest, sha256_file
from featcache.core.text import some
from featcache.dataset import splits
from featcache.errors import RunError, UsageError
from featcache.evaluation import calibration, identity, references, runs
from featcache.evaluation.identity import differences
from featcache.evaluation.record import (
    OK,
    SEVERAL,
    FeatureBlock,
    HeadIdentity,
    RunRecord,
    common_value,
)
from featcache.evaluation.runs import Run

ALL = "all"
HEAD = "ensemble"
REVISION = 1  # raised with any change that moves the numbers of ensembles
FITTED, EQUAL = "fitted", "equal"
_LEAST = 1e-15  # of a probability, as in the log-loss


@dataclass(frozen=True)
class EnsembleResult:
    """What a call did.

    Attributes:
        runs: The ensemble; with repeats one for each, repeat 0 first.
        new_run_ids: Ids of those that this call made; the rest was there.
        excluded: Why a run, or a repeat, is not in it, one line each.
    """

    runs: list[Run]
    new_run_ids: list[str]
    excluded: list[str]


def ensemble(
    reports: Path,
    members: Sequence[str],
    *,
    weights: str = FITTED,
    calibrate: bool = True,
    split: str | None = None,
    force: bool = False,
) -> EnsembleResult:
    """Averages the probabilities of runs, and records that as a run.

    Only the members' stored predictions are used. Fitted weights are those of the
    lowest log-loss on out-of-fold predictions: for each fold on those of the other
    folds, for the test part on those of all. Where the members were trained on
    repeats of their split too, there is an ensemble for each.

    Args:
        reports: ``reports/<dataset>``.
        members: Short ids of runs, or parts of ids that one run has; or "all" that
            can be compared, but for trivial ones (no network, a region alone, or no
            training), failed ones, ensembles, and those without out-of-fold
            predictions. Where a named one has none, the ensemble is judged on the
            test part alone; its weights have to be equal, and it is not calibrated.
        weights: "fitted" or "equal".
        calibrate: Calibrate the averages as ``train_head`` does.
        split: Name of the split to take "all" of; by default the newest run's.
        force: Make again what is there.

    Raises:
        RunError: Fewer than two members, members that cannot be compared, or one
            that is broken.
        UsageError: No such weights.
    """
    if weights not in (FITTED, EQUAL):
        raise UsageError(
            f"`weights` to be {FITTED} or {EQUAL}", repr(weights), "Choose one."
        )
    good, broken = runs.list_runs(reports)
    excluded = [str(error) for error in broken]
    every = ALL in members
    if every:
        candidates = _all(good, split, excluded)
    else:
        candidates = _named(reports, members, split)
    _refuse_unfit(candidates)
    selected = _on_shared_part(candidates, fitting=weights == FITTED or calibrate)
    _refuse_apart(selected)
    new_run_ids: list[str] = []
    done: list[Run] = []
    for member_runs in (selected, *_repeats(selected, good, excluded)):
        # The order they are named in is nothing.
        member_runs.sort(key=lambda run: run.run_id)
        record = _planned(member_runs, weights, calibrate)
        inputs = {"members": record.members, "head_is": record.head_is.to_json()}
        run_id = identity.make_id(HEAD, record.backbone, inputs)
        folder = reports / "runs" / run_id
        with runs.writing(folder):
            if force or not _is_done(folder, record):
                _make(folder, record, member_runs)
                new_run_ids.append(run_id)
        done.append(runs.load(folder))
    return EnsembleResult(done, new_run_ids, excluded)


def fit_weights(q: np.ndarray) -> np.ndarray:
    """Weights of the mixture with the lowest log-loss.

    The problem is convex. Each weight is multiplied by the mean of its share of the
    mixture, which never raises the loss; the largest such mean, less one, bounds how
    much lower the loss could still be (Cover, IEEE Trans. Inf. Theory 30, 1984).

    Args:
        q: (N, M) probability of the true class by each member.

    Returns:
        (M,) weights of at least 0 that sum to 1.
    """
    q = np.clip(q, _LEAST, None)
    w = np.full(q.shape[1], 1 / q.shape[1])
    for _ in range(10_000):
        gain = (q / (q @ w)[:, None]).mean(axis=0)
        w = w * gain
        if gain.max() - 1 < 1e-5:
            break
    return np.asarray(w / w.sum())


def _all(good: list[Run], split: str | None, excluded: list[str]) -> list[Run]:
    """Every run of one evaluation, the newest or of the named split, worth a vote."""
    able = [run for run in good if not run.failed and not run.record.is_baseline]
    able = runs.newest_first([run for run in able if run.record.head != HEAD])
    if split:
        able = [run for run in able if run.record.split.name == split]
    else:
        able = [
            run for run in able if run.record.split.base == able[0].record.split.base
        ]
        able = [run for run in able if not run.record.split.repeat]
    able = [r for r in able if r.record.evaluation_id == able[0].record.evaluation_id]
    excluded += [
        f"run {run.run_id} has no out-of-fold predictions"
        for run in able
        if not _has_folds(run)
    ]
    return [run for run in able if _has_folds(run)]


def _named(reports: Path, members: Sequence[str], split: str | None) -> list[Run]:
    named = [references.find(reports, name, split) for name in members]
    return list({run.run_id: run for run in named}.values())


class _Tested(Run):
    """A run of which only the test part is looked at."""

    @cached_property
    def table(self) -> pd.DataFrame:
        whole = super().table
        return whole[whole["split"] == runs.TEST]


def _has_folds(run: Run) -> bool:
    return bool((run.table["split"] == runs.TRAIN).any())


def _on_shared_part(selected: list[Run], *, fitting: bool) -> list[Run]:
    """The runs, on the part of the images that all have predictions of.

    Raises:
        RunError: That is the test part, where nothing may be fitted.
    """
    alone = [run.run_id for run in selected if not _has_folds(run)]
    if not alone:
        return selected
    if fitting:
        raise RunError(
            "fitting weights and calibrating need out-of-fold predictions of all "
            f"members, but {some(alone)} only predicted the test set",
            "Use `weights='equal'` and `calibrate=False` for an ensemble that is "
            "evaluated on the test set, or fine-tune with `fold='all'`.",
        )
    return [_Tested(run.folder, run.record) for run in selected]


def _refuse_unfit(selected: list[Run]) -> None:
    """Refuses what makes no ensemble."""
    unfit = [r.run_id for r in selected if r.failed or r.record.head == HEAD]
    if len(selected) < 2 or unfit:
        raise RunError(
            "two or more runs to average that neither failed nor are ensembles",
            some(unfit or [run.run_id for run in selected]) or "none",
            "featcache compare lists the runs; featcache train-head adds more.",
        )


def _refuse_apart(selected: list[Run]) -> None:
    """Refuses runs that were not judged alike, and says what differs."""
    first, *others = selected
    for run in others:
        differing = differences(first, run)
        if differing or run.record.evaluation_id != first.record.evaluation_id:
            raise RunError(
                "runs that were evaluated on the same images, labels, groups and folds",
                f"{first.run_id} and {run.run_id}, which differ in "
                f"{', '.join(differing) or 'their evaluation_id'}",
                "Choose runs of one split, or retrain one of the two.",
            )


def _repeats(
    selected: list[Run], good: list[Run], excluded: list[str]
) -> Iterator[list[Run]]:
    """The same recipes on the other repeats of the members' split."""
    if selected[0].record.split.repeat:
        return
    by_draw: dict[tuple[int, str], dict[str, Run]] = defaultdict(dict)
    for run in good:
        of_base = run.record.split.base == selected[0].record.split.base
        if of_base and run.record.split.repeat and not run.failed:
            by_draw[run.record.split.repeat, run.record.evaluation_id][
                run.record.recipe_id
            ] = run
    for (number, _), by_recipe in sorted(by_draw.items()):
        runs_of_draw = [by_recipe.get(run.record.recipe_id) for run in selected]
        whole = [run for run in runs_of_draw if run]
        if len(whole) < len(runs_of_draw):
            excluded.append(f"repeat {number}: not every member was trained on it")
        elif not differences(selected[0], whole[0], folds=False):
            _refuse_unfit(whole)
            _refuse_apart(whole)
            yield whole


def _planned(members: list[Run], weights: str, calibrate: bool) -> RunRecord:
    """What the record says before any weight is fitted."""
    records = [run.record for run in members]
    first = records[0]  # the evaluation and its images are those of all members
    head_is = HeadIdentity(
        head=HEAD,
        revision=REVISION,
        params={"weights": weights, "calibrate": calibrate},
    )
    recipes = sorted(run.record.recipe_id for run in members)
    return RunRecord(
        dataset=first.dataset,
        backbone=common_value([r.backbone for r in records]) or SEVERAL,
        features=_blocks(records),
        taps=sorted({tap for record in records for tap in record.taps}),
        views=max(record.views for record in records),
        policy=common_value([r.policy for r in records]),
        tta=any(record.tta for record in records),
        classes=first.classes,
        exclude=common_value([r.exclude for r in records]) or [],
        seed=common_value([r.seed for r in records]) or 0,
        n_images=first.n_images,
        n_groups=first.n_groups,
        split=first.split,
        evaluation_id=first.evaluation_id,
        head=HEAD,
        head_is=head_is,
        recipe_id=digest({"recipes": recipes, **head_is.to_json()}),
        members=[run.run_id for run in members],
        member_digests=[sha256_file(run.folder / runs.PREDICTIONS) for run in members],
    )


def _blocks(records: list[RunRecord]) -> list[FeatureBlock]:
    """The features of all members, each once."""
    blocks = {
        # What is fine-tuned has no contract.
        (
            *(b.contract_id, b.backbone, b.weights, b.input_size, b.preprocess),
            *(b.resize, b.tap, b.image_region),
        ): b
        for record in records
        for b in record.features
    }
    return list(blocks.values())


def _is_done(folder: Path, record: RunRecord) -> bool:
    """Whether it was made of these predictions of its members."""
    if not runs.is_done(folder):
        return False
    return runs.load(folder).record.member_digests == record.member_digests


def _make(folder: Path, record: RunRecord, members: list[Run]) -> None:
    """Fits the weights, averages, scores, and writes the run."""
    started = time.perf_counter()
    tables = [run.table.set_index("image_id") for run in members]
    table = tables[0]
    names = [name for name in table if str(name).startswith(runs.PROBABILITY)]
    member_proba = np.stack(
        [t.loc[table.index, names].to_numpy(float) for t in tables], 1
    )
    code = {label: i for i, label in enumerate(record.classes)}
    y, groups = table["label"].map(code).to_numpy(int), table["group"].to_numpy()
    folds = table["fold"].to_numpy(int)
    p, weights = _averaged(member_proba, y, folds, record.head_is.params["weights"])
    calibrated = None
    if record.head_is.params["calibrate"]:
        p, calibrated = calibration.calibrate_predictions(p, y, groups, folds)
    record = replace(
        runs.stamped(record),
        status=OK,
        member_weights=weights,
        calibration=calibrated,
        scores=runs.scores(p, y=y, groups=groups, folds=folds),
        **_seconds(members, time.perf_counter() - started),
    )
    with runs.saving(folder, record) as temp:
        published = runs.predictions_table(
            table.reset_index(), folds, p, record.classes
        )
        published.to_csv(temp / runs.PREDICTIONS, index=False)


def _averaged(
    member_proba: np.ndarray, y: np.ndarray, folds: np.ndarray, weights: str
) -> tuple[np.ndarray, dict[str, list[float]]]:
    """Averages that no image had a say in, and the weights of each part.

    Args:
        member_proba: (N, M, C) predictions of the members.
        y: (N,) class indices; those of the test part are not looked at.
        folds: (N,) folds, or `splits.TEST`.
        weights: "fitted" or "equal".
    """
    p = np.empty(member_proba[:, 0].shape)
    members, used = member_proba.shape[1], {}
    for part in sorted({*folds.tolist(), splits.TEST}):
        others = (folds != part) & (folds != splits.TEST)
        w = np.full(members, 1 / members)
        if weights == FITTED:
            w = fit_weights(member_proba[others, :, y[others]])
        p[folds == part] = np.einsum("nmc,m->nc", member_proba[folds == part], w)
        used[runs.TEST if part == splits.TEST else str(part)] = w.tolist()
    return p, used


def _seconds(members: list[Run], own: float) -> dict[str, Any]:
    """What the members cost, and the fit of the weights."""
    records = [run.record for run in members]
    fits = [record.fold_seconds for record in records]
    return {
        "fit_seconds": round(own + sum(r.fit_seconds for r in records), 3),
        "fold_seconds": [round(sum(of), 3) for of in zip(*fits, strict=False)],
        "predict_seconds": round(sum(r.predict_seconds for r in records), 3),
    }
