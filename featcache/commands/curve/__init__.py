"""``featcache curve``: how a run's score grows with the groups it is trained on."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from featcache.commands.curve.fits import Training, fit_sizes, run_training
from featcache.core import checked
from featcache.core.progress import SILENT, Reporter
from featcache.core.registry import Registry
from featcache.core.text import counted
from featcache.core.workers import LOCAL, Site, check_jobs, opened
from featcache.dataset.manifest import Manifest
from featcache.errors import RunError, UsageError
from featcache.evaluation.curves import (
    LEAST_SIZES,
    METRICS,
    ClassNeed,
    CurveFit,
    LearningCurve,
    Measured,
    Size,
    class_need,
    fit_curve,
    measure,
)
from featcache.evaluation.run_labels import read_labels
from featcache.evaluation.runs import Run

__all__ = ["FOLDER", "METRICS", "curve", "curve_path", "read_curves"]

FOLDER = "curves"  # below ``reports/<dataset>``
_METRICS = Registry("metric of a learning curve", dict.fromkeys(METRICS, ""))


def curve(
    manifest: Manifest,
    run: Run,
    *,
    metric: str = "accuracy",
    draws: int = 5,
    classes: bool = True,
    seed: int = 0,
    jobs: int | None = None,
    on: str = LOCAL,
    reporter: Reporter = SILENT,
) -> LearningCurve:
    """Trains a run's head on nested subsamples of the groups, in the run's own folds.

    The held-out images are the same for every size. Settings that the head tunes are
    tuned anew for each. The curve is kept in ``reports/<dataset>/curves``.

    Args:
        manifest: The dataset; its stores hold the features.
        run: Of a head on cached features of whole images.
        metric: "accuracy", "balanced_accuracy", "macro_f1" or "auc".
        draws: Subsamples of each size, at least 2.
        classes: Also halve the groups of one class at a time.
        seed: Of the subsamples.
        jobs: Parallel processes; by default one a core.
        on: Where they run; as for ``train_head``.
        reporter: Hears of the fits done, as "fits".

    Raises:
        UnknownNameError: No such metric.
        UsageError: Fewer than two draws, a negative seed, no process, or a cluster that
            cannot be reached.
        RunError: A run without cached features or out-of-fold predictions; or its head
            cannot be fitted at any size.
        StoreError: Its features are gone or damaged.
    """
    _METRICS[metric]
    Site.of(on)
    check_jobs(jobs)
    if draws < 2:
        raise UsageError(
            "`draws` of at least 2, to see how they differ", str(draws), "Try 5."
        )
    if seed < 0:
        raise UsageError("a seed of 0 or above", str(seed), "Use `seed=0`.")
    training = run_training(manifest, run, seed=seed)
    with opened(on, jobs=jobs, reporter=reporter) as workers:
        sizes, halves = fit_sizes(
            training, run, workers, draws=draws, classes=classes, reporter=reporter
        )
    result = _learning_curve(training, run, metric, sizes, halves)
    record = {"curve": result.to_json()}
    checked.write_record(curve_path(run, metric), record)
    return result


def _learning_curve(
    training: Training,
    run: Run,
    metric: str,
    sizes: Sequence[Size],
    halves: Sequence[Size | None],
) -> LearningCurve:
    if not sizes or sizes[-1].share < 1:
        raise RunError(
            f"the head of {run.run_id} cannot be fitted on all of its training groups",
            "Train the run again with `force=True`.",
        )
    y, groups = training.y, training.groups
    measured = measure(sizes, y, groups, metric)
    needs = [
        _need(training, metric, number, half, sizes[-1])
        for number, half in enumerate(halves)
        if half is not None
    ]
    fit, note = _fit_of(measured, len(sizes))
    labels = read_labels(run.folder.parent.parent)
    return LearningCurve(
        run=run.short_id,
        run_id=run.run_id,
        label=labels.get(run.run_id) or f"{run.record.head} on {run.record.backbone}",
        metric=metric,
        unit=training.unit,
        folds=len(training.folds),
        groups=sum(training.group_counts),
        points=measured.points(),
        fit=fit,
        classes=needs,
        note=note,
    )


def _need(
    training: Training, metric: str, number: int, half: Size, whole: Size
) -> ClassNeed:
    measured = measure([half, whole], training.y, training.groups, metric)
    name = training.classes[number]
    return class_need(name, training.trained_groups(number), measured)


def _fit_of(measured: Measured, sizes: int) -> tuple[CurveFit | None, str]:
    """The law of a curve, or why there is none."""
    if measured.basis < 2:
        return None, "with a single group there is no interval and no curve"
    if sizes < LEAST_SIZES:
        return None, (
            f"{counted(sizes, 'size is', 'sizes are')} too few for a curve, which "
            f"needs {LEAST_SIZES}: the rarest class has too few groups"
        )
    return fit_curve(measured), ""


def curve_path(run: Run, metric: str) -> Path:
    """Where the curve of a run is kept."""
    return run.folder.parent.parent / FOLDER / f"{run.run_id}-{metric}.json"


def read_curves(run: Run) -> list[LearningCurve]:
    """The curves that are kept of a run; damaged ones are left out."""
    curves = []
    for path in (curve_path(run, metric) for metric in METRICS):
        with suppress(OSError, ValueError, KeyError):
            curves.append(LearningCurve.from_json(checked.read_record(path)["curve"]))
    return curves
