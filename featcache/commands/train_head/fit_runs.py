"""Folds side by side, and a record of each run when it is whole."""

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from featcache.commands.train_head.forecast import (
    Forecast,
    Timings,
    effort_of,
    past_records,
)
from featcache.commands.train_head.plan import RunPlan, TrainingData
from featcache.core.parallel import one_thread
from featcache.core.progress import SILENT, Reporter
from featcache.core.workers import Workers
from featcache.dataset import splits
from featcache.evaluation import calibration, fitting, runs
from featcache.evaluation.fitting import Fit
from featcache.evaluation.record import FAILED, OK, RunRecord, TuningInfo
from featcache.features.mapping import map_images

# What warnings of libraries mean for a run.
_MEANING = {
    "ConvergenceWarning": "The solver stopped before it converged, so the "
    "probabilities are approximate; give the head more iterations.",
}

Outcomes = dict[int, Fit | str]


def train(
    todo: Sequence[RunPlan],
    *,
    workers: Workers,
    force: bool = False,
    reporter: Reporter = SILENT,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Runs all folds of all jobs side by side; records each run when it is whole.

    Args:
        todo: The runs.
        workers: Where the folds are fitted.
        force: Replace runs that have come to be there meanwhile.
        reporter: Hears of the fits done, as "fits".
        check: Called before a run is written; raises if it must not be.
    """
    tasks = [(plan, part) for plan in todo for part in plan.parts]
    # The shortest go first, so that there is soon something to see.
    tasks.sort(key=lambda task: effort_of(task[0].record).order)
    outcomes: dict[Path, Outcomes] = {plan.folder: {} for plan in todo}
    homes = dict.fromkeys(plan.folder.parent.parent for plan in todo)
    n_jobs = workers.count
    timings = Timings(past_records(homes), n_jobs)
    forecast = Forecast([effort_of(plan.record) for plan, _ in tasks], n_jobs, timings)
    n_ended = 0
    with workers.scratch(todo[0].folder.parent.parent) as temp:
        matrices = _matrices(todo, temp)
        calls = [_call(*task, matrices, temp) for task in tasks]
        with closing(workers.run(fitting.fit_predict, calls)) as results:
            for done, (number, result) in enumerate(results, 1):
                plan, part = tasks[number]
                outcomes[plan.folder][part] = result
                seconds = result.seconds if isinstance(result, Fit) else None
                forecast.end(number, seconds)
                if len(outcomes[plan.folder]) == len(plan.parts):
                    check()
                    _record(plan, outcomes[plan.folder], temp, force)
                    _report_warnings(plan, outcomes[plan.folder], reporter)
                    n_ended += 1
                    if len(todo) > 1:
                        ended = f"{n_ended} of {len(todo)} runs: {_ended(plan)}"
                        reporter.ended(forecast.after(ended))
                if forecast.following is not None:
                    text = _described(*tasks[forecast.following])
                    reporter.doing(forecast.after(text))
                reporter.progress("fits", done, len(tasks))


def _described(plan: RunPlan, part: int) -> str:
    """A fit in words."""
    where = "all training images" if part == splits.TEST else f"fold {part}"
    return f"{plan.name} on {plan.data.backbone}, {where}"


def _ended(plan: RunPlan) -> str:
    """What came of a run, in words."""
    record, repeat = runs.load(plan.folder).record, plan.record.split.repeat
    name = f"{plan.name} on {plan.data.backbone}"
    name += f", repeat {repeat}" if repeat else ""
    if record.status == FAILED:
        return f"{name} failed ({record.reason})"
    score = record.scores[runs.TRAIN]
    return f"{name}, accuracy {score['accuracy']:.3f}"


def _matrices(todo: Sequence[RunPlan], temp: Path) -> dict[TrainingData, np.ndarray]:
    """Each matrix once, in a file that all processes map: none is sent to them."""
    matrices = dict.fromkeys(plan.data for plan in todo)
    return {
        data: map_images(data.selection, temp / f"{number}.npy")
        for number, data in enumerate(matrices)
    }


def _call(
    plan: RunPlan, part: int, matrices: dict[TrainingData, np.ndarray], temp: Path
) -> dict[str, Any]:
    """The arguments of one fit; see ``evaluation.fit_predict``."""
    in_train = (plan.fold_of != part) & (plan.fold_of != splits.TEST)
    return {
        "head": plan.options.head(plan.name, plan.data.selection.dims),
        "X": matrices[plan.data],
        "y": plan.data.codes,
        "groups": plan.data.groups,
        "train": np.flatnonzero(in_train),
        "held_out": np.flatnonzero(plan.fold_of == part),
        "n_classes": len(plan.record.classes),
        "tta": plan.record.tta,
        "save_to": temp / plan.folder.name if part == splits.TEST else None,
    }


def _record(plan: RunPlan, outcomes: Outcomes, temp: Path, force: bool) -> None:
    """Writes the run; one that failed in any part is written as failed."""
    record = runs.stamped(plan.record)
    reasons = [o for o in outcomes.values() if isinstance(o, str)]
    fits = {k: o for k, o in outcomes.items() if isinstance(o, Fit)}
    with runs.writing(plan.folder):
        if not force and runs.is_done(plan.folder):
            return  # another process was faster
        if reasons:
            failed = replace(record, status=FAILED, reason=reasons[0])
            with runs.saving(plan.folder, failed):
                return
        with one_thread():
            p, record = _with_results(record, plan, fits)
        with runs.saving(plan.folder, record) as folder:
            _write(folder, plan, fits, p)
            for file in (temp / plan.folder.name).iterdir():
                shutil.move(file, folder / file.name)


def _report_warnings(plan: RunPlan, outcomes: Outcomes, reporter: Reporter) -> None:
    """One line for each warning of a library, with the run and the number of fits."""
    fits = [outcome for outcome in outcomes.values() if isinstance(outcome, Fit)]
    counts = Counter(text for fit in fits for text in fit.warnings)
    for text, count in counts.items():
        meaning = _MEANING.get(text.partition(":")[0], "")
        reporter.message(
            f"{plan.folder.name}: {text} In {count} of {len(plan.parts)} fits. "
            f"{meaning}".rstrip()
        )


def _with_results(
    record: RunRecord, plan: RunPlan, fits: dict[int, Fit]
) -> tuple[np.ndarray, RunRecord]:
    """The predictions as they are published, and the record with their results."""
    p = np.zeros((len(plan.fold_of), len(plan.record.classes)))
    for part, fit in fits.items():
        p[plan.fold_of == part] = fit.p
    y, groups, calibrated = plan.data.codes, plan.data.groups, None
    if plan.calibrate:
        p, calibrated = calibration.calibrate_predictions(p, y, groups, plan.fold_of)
    refit = fits[splits.TEST]
    tuning = [(k, fits[k].tuning) for k in plan.parts if fits[k].tuning]
    return p, replace(
        record,
        status=OK,
        model=refit.model_file,
        fit_seconds=round(refit.fit_seconds, 3),
        fold_seconds=[round(fits[k].fit_seconds, 3) for k in plan.parts[:-1]],
        predict_seconds=round(sum(f.predict_seconds for f in fits.values()), 3),
        tuning=[TuningInfo(fold=k, **tried) for k, tried in tuning],
        calibration=calibrated,
        scores=runs.scores(p, y=y, groups=groups, folds=plan.fold_of),
    )


def _write(folder: Path, plan: RunPlan, fits: dict[int, Fit], p: np.ndarray) -> None:
    table = runs.predictions_table(
        plan.data.images, plan.fold_of, p, plan.record.classes
    )
    table.to_csv(folder / runs.PREDICTIONS, index=False)
    history = [{"fold": k, **row} for k in plan.parts for row in fits[k].history]
    if history:
        pd.DataFrame(history).to_csv(folder / "history.csv", index=False)
