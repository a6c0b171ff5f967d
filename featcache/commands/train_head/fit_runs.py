"""Folds side by side, and a record of each run when it is whole."""

import shutil
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from featcache.commands.train_head.plan import Job, Material
from featcache.core.parallel import one_thread, side_by_side
from featcache.core.progress import SILENT, Reporter
from featcache.core.scratch import scratch_folder
from featcache.dataset import splits
from featcache.evaluation import calibration, fitting, runs
from featcache.evaluation.fitting import Fit
from featcache.evaluation.record import FAILED, OK, RunRecord, TuningInfo

# What a fit takes a column, beside that of a quick head: rough, measured on 2304
# columns of 1123 images. The longest goes first, and is not left alone at the end.
_COST = {
    "logreg": 40, "xgboost": 20, "svm": 15, "mlp-dropout": 7, "mlp": 2, "softmax": 1,
}  # fmt: skip

# What warnings of libraries mean for a run.
_MEANING = {
    "ConvergenceWarning": "The solver stopped before it converged, so the "
    "probabilities are approximate; give the head more iterations.",
}

Outcomes = dict[int, Fit | str]


def train(
    todo: Sequence[Job],
    *,
    n_jobs: int,
    force: bool = False,
    reporter: Reporter = SILENT,
) -> None:
    """Runs all folds of all jobs side by side; records each run when it is whole.

    Args:
        todo: The runs.
        n_jobs: Parallel processes.
        force: Replace runs that have come to be there meanwhile.
        reporter: Hears of the fits done, as "fits".
    """
    tasks = [(job, part) for job in todo for part in job.parts]
    tasks.sort(key=lambda task: _cost(task[0]), reverse=True)
    outcomes: dict[Path, Outcomes] = {job.folder: {} for job in todo}
    with scratch_folder() as temp:
        matrices = _matrices(todo, temp)
        calls = [_call(*task, matrices, temp) for task in tasks]
        with closing(side_by_side(fitting.fit_predict, calls, n_jobs)) as results:
            for done, (number, result) in enumerate(results, 1):
                job, part = tasks[number]
                outcomes[job.folder][part] = result
                if len(outcomes[job.folder]) == len(job.parts):
                    _record(job, outcomes[job.folder], temp, force)
                    _report_warnings(job, outcomes[job.folder], reporter)
                reporter.progress("fits", done, len(tasks))


def _cost(job: Job) -> float:
    return _COST.get(job.name, 0.5) * sum(job.material.selection.dims)


def _matrices(todo: Sequence[Job], temp: Path) -> dict[Material, np.ndarray]:
    """Each matrix once, (images, views + 1, D), in a file that all processes map.

    So no more than one is ever in memory whole, and none is sent to a process.
    """
    found = {}
    for number, material in enumerate(dict.fromkeys(job.material for job in todo)):
        path = temp / f"{number}.npy"
        views = material.selection.views + 1
        np.save(path, material.selection.read().reshape(len(material.codes), views, -1))
        found[material] = np.load(path, mmap_mode="r")
    return found


def _call(
    job: Job, part: int, matrices: dict[Material, np.ndarray], temp: Path
) -> dict[str, Any]:
    """The arguments of one fit; see ``evaluation.fit_predict``."""
    in_train = (job.places != part) & (job.places != splits.TEST)
    return {
        "head": job.options.head(job.name, job.material.selection.dims),
        "X": matrices[job.material],
        "y": job.material.codes,
        "groups": job.material.groups,
        "train": np.flatnonzero(in_train),
        "held": np.flatnonzero(job.places == part),
        "n_classes": len(job.record.classes),
        "tta": job.record.tta,
        "save_to": temp / job.folder.name if part == splits.TEST else None,
    }


def _record(job: Job, outcomes: Outcomes, temp: Path, force: bool) -> None:
    """Writes the run; one that failed in any part is written as failed."""
    record = runs.stamped(job.record)
    reasons = [o for o in outcomes.values() if isinstance(o, str)]
    fits = {k: o for k, o in outcomes.items() if isinstance(o, Fit)}
    with runs.writing(job.folder):
        if not force and runs.is_done(job.folder):
            return  # another process was faster
        if reasons:
            failed = replace(record, status=FAILED, reason=reasons[0])
            with runs.saving(job.folder, failed):
                return
        with one_thread():
            p, record = _with_results(record, job, fits)
        with runs.saving(job.folder, record) as folder:
            _write(folder, job, fits, p)
            for file in (temp / job.folder.name).iterdir():
                shutil.move(file, folder / file.name)


def _report_warnings(job: Job, outcomes: Outcomes, reporter: Reporter) -> None:
    """One line for each warning of a library, with the run and the number of fits."""
    fits = [outcome for outcome in outcomes.values() if isinstance(outcome, Fit)]
    counts = Counter(text for fit in fits for text in fit.warnings)
    for text, count in counts.items():
        meaning = _MEANING.get(text.partition(":")[0], "")
        reporter.message(
            f"{job.folder.name}: {text} In {count} of {len(job.parts)} fits. "
            f"{meaning}".rstrip()
        )


def _with_results(
    record: RunRecord, job: Job, fits: dict[int, Fit]
) -> tuple[np.ndarray, RunRecord]:
    """The predictions as they are published, and the record with their results."""
    p = np.zeros((len(job.places), len(job.record.classes)))
    for part, fit in fits.items():
        p[job.places == part] = fit.p
    y, groups, calibrated = job.material.codes, job.material.groups, None
    if job.calibrate:
        p, calibrated = calibration.calibrate_predictions(p, y, groups, job.places)
    refit = fits[splits.TEST]
    tuning = [(k, fits[k].tuning) for k in job.parts if fits[k].tuning]
    return p, replace(
        record,
        status=OK,
        model=refit.model_file,
        fit_seconds=round(refit.fit_seconds, 3),
        fold_seconds=[round(fits[k].fit_seconds, 3) for k in job.parts[:-1]],
        predict_seconds=round(sum(f.predict_seconds for f in fits.values()), 3),
        tuning=[TuningInfo(fold=k, **tried) for k, tried in tuning],
        calibration=calibrated,
        scores=runs.scores(p, y=y, groups=groups, folds=job.places),
    )


def _write(folder: Path, job: Job, fits: dict[int, Fit], p: np.ndarray) -> None:
    table = runs.predictions_table(
        job.material.images, job.places, p, job.record.classes
    )
    table.to_csv(folder / runs.PREDICTIONS, index=False)
    history = [{"fold": k, **row} for k in job.parts for row in fits[k].history]
    if history:
        pd.DataFrame(history).to_csv(folder / "history.csv", index=False)
