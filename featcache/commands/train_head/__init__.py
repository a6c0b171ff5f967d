"""``featcache train-head``: train and evaluate heads on cached features."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from featcache import features
from featcache.commands.train_head.fit_runs import train
from featcache.commands.train_head.plan import (
    ALL,
    ON_BASELINES,
    HeadOptions,
    RunPlan,
    baseline_heads,
    head_names,
    plan_runs,
)
from featcache.core.progress import SILENT, Reporter
from featcache.core.workers import LOCAL, Site, check_jobs, opened
from featcache.dataset.manifest import Manifest, in_use
from featcache.dataset.narrowing import straddling
from featcache.dataset.splits import Split, SplitOptions
from featcache.errors import DatasetError
from featcache.evaluation import runs
from featcache.evaluation.runs import Run

__all__ = [
    "ON_BASELINES",
    "HeadOptions",
    "TrainResult",
    "plan_call",
    "train_head",
]


@dataclass(frozen=True)
class TrainResult:
    """What a call did.

    Attributes:
        runs: One a feature set, split and head, in the order asked; failed ones too.
        new_run_ids: Ids of the runs that this call trained; the rest was there.
        split: The split they were evaluated on; of repeats, the first.
    """

    runs: list[Run]
    new_run_ids: list[str]
    split: Split


def train_head(
    manifest: Manifest,
    reports: Path = Path("reports"),
    *,
    backbones: Sequence[str] = (ALL,),
    heads: Sequence[str] = (ALL,),
    options: HeadOptions = HeadOptions(),
    split: SplitOptions = SplitOptions(),
    jobs: int | None = None,
    on: str = LOCAL,
    force: bool = False,
    reporter: Reporter = SILENT,
) -> TrainResult:
    """Trains heads on every fold, refits them on all of train, records the runs.

    A run that is there already is not trained again. Whatever is chosen (by tuning,
    by calibration) is chosen inside the folds, and never on the test part.

    Args:
        manifest: The dataset; its stores hold the features.
        reports: The reports folder; runs go to ``reports/<dataset>/runs``.
        backbones: Feature sets: names of stores (backbone, backbone-weights or file
            name, with or without ``@PX``), several of them joined by ``+``, "all"
            that are stored, "classic5", or "baselines".
        heads: Names of ``featcache.heads.HEADS``, ``module:Class``, or "all"; of all,
            features without a network get logreg and xgboost.
        options: How they are trained.
        split: On which images and folds.
        jobs: Parallel processes; by default one a core.
        on: Where they run: "local", "dask" or "ray" on this machine, or a cluster,
            "dask://HOST:PORT" or "ray://HOST:PORT", whose workers see ``reports``
            under the same path.
        force: Train again what is there.
        reporter: Hears of the fits done, as "fits".

    Raises:
        UnknownNameError: No such backbone, tap or head.
        DatasetError: No such column, an image without the mask that the region needs,
            or fewer than two classes.
        StoreError: Features are missing.
        SplitError: The folds cannot be made.
        UsageError: The cluster cannot be reached, or is lost.
    """
    Site.of(on)
    check_jobs(jobs)
    head_names(heads, options)
    dataset = split.narrow(manifest)
    with in_use(manifest) as check:
        brief = features.split_path(dataset, split).is_file()
        for line in straddling(dataset, brief=brief):
            reporter.message(line)
        if len(dataset.classes) < 2:
            raise DatasetError(
                f"at least two classes in {dataset.dataset}",
                f"{', '.join(dataset.classes) or 'none'}",
                "Scan a source with more classes, or exclude fewer images.",
            )
        check()
        planned = plan_call(
            dataset, reports, backbones, heads, options, split, reporter
        )
        todo = [plan for plan in planned if force or not runs.is_done(plan.folder)]
        if todo:
            with opened(on, jobs=jobs, reporter=reporter) as workers:
                train(
                    todo, workers=workers, force=force, reporter=reporter, check=check
                )
    return TrainResult(
        [runs.load(plan.folder) for plan in planned],
        [plan.folder.name for plan in todo],
        features.draw_split(dataset, split),
    )


def plan_call(
    dataset: Manifest,
    reports: Path,
    backbones: Sequence[str],
    heads: Sequence[str],
    options: HeadOptions,
    split: SplitOptions,
    reporter: Reporter = SILENT,
) -> list[RunPlan]:
    """The runs that a call asks for, whether they are done or not.

    Args:
        dataset: The images that ``split`` leaves of a dataset; splits that were never
            drawn are written to its folder.
        reports: As for ``train_head``, and so the others.
        backbones: Feature sets.
        heads: As a user names them.
        options: How they are trained.
        split: On which folds.
        reporter: Hears which features are left out.

    Raises:
        FeatcacheError: As ``train_head``.
    """
    names = head_names(heads, options)
    draws = [
        features.draw_split(dataset, split, repeat=repeat)
        for repeat in range(split.repeats)
    ]
    folder = reports / dataset.dataset / "runs"
    on_baselines = baseline_heads(heads, names)
    return list(
        plan_runs(
            dataset, folder, backbones, names, options, draws, on_baselines, reporter
        )
    )
