"""``featcache train-head``: train and evaluate heads on cached features."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from featcache import features
from featcache.commands.train_head.fit_runs import Progress, train
from featcache.commands.train_head.plan import ALL, Choice, plan
from featcache.dataset.manifest import Manifest, narrow
from featcache.dataset.regions import MASK, WHOLE, Region
from featcache.dataset.splits import Split
from featcache.errors import DatasetError, UsageError
from featcache.evaluation import runs
from featcache.evaluation.runs import Run

__all__ = ["TrainResult", "train_head"]


@dataclass(frozen=True)
class TrainResult:
    """What a call did.

    Attributes:
        runs: One a feature set, split and head, in the order asked; failed ones too.
        trained: Ids of the runs that this call trained; the rest was there.
        split: The split they were evaluated on; of repeats, the first.
    """

    runs: list[Run]
    trained: list[str]
    split: Split


def train_head(
    manifest: Manifest,
    reports: Path,
    *,
    backbones: Sequence[str] = (ALL,),
    heads: Sequence[str] = (ALL,),
    views: int | str = ALL,
    policy: int | None = None,
    taps: str = "none",
    region: str = WHOLE,
    mask: str = MASK,
    tta: bool | None = None,
    tune: bool | None = None,
    transform: str = "none",
    pca: int | str = "none",
    calibrate: bool = True,
    exclude: Sequence[str] = (),
    group_by: str | None = None,
    folds: int = 5,
    test_size: float = 0.2,
    repeats: int = 1,
    seed: int = 0,
    split: str | None = None,
    jobs: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
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
        heads: Names of ``featcache.heads.HEADS``, ``module:Class``, or "all".
        views: Augmented views to train on: a number, or "all" that are stored.
        policy: Index of their policy in the store; by default the newest.
        taps: Inner layers to append to the embedding: "none", "all" that are
            stored, or names with commas between.
        region: What the network was shown of each image: "whole", "inside", "outside"
            or "ring"; see ``regions.Region``.
        mask: Column of the manifest that names the masks of "inside" and "outside".
        tta: Predict held-out images as the mean over their views; by default
            where views were trained on.
        tune: Choose the head's settings by inner folds; by default as the head says.
        transform: Of the features: "none", "sqrt", "l2", or "tune" to choose.
        pca: Principal components to keep: "none", a number, or "tune" to choose.
        calibrate: Calibrate the probabilities on the out-of-fold predictions.
        exclude: Leave out images, by COLUMN (whose value is 1, true or yes) or
            COLUMN=VALUE of the manifest.
        group_by: What stays together in place of the manifest's groups: a column,
            or "image".
        folds: Cross-validation folds.
        test_size: Share of the images in the test part; 0 for none.
        repeats: How often the folds are drawn; the test part stays.
        seed: Of the split and of the heads.
        split: Name of the split; by default made of how it is drawn.
        jobs: Parallel processes; by default one a core.
        force: Train again what is there.
        progress: Called with (run_id, fits done, fits to do).

    Raises:
        UnknownNameError: No such backbone, tap or head.
        DatasetError: No such column, an image without the mask that the region needs,
            or fewer than two classes.
        StoreError: Features are missing.
        SplitError: The folds cannot be made.
    """
    _check(views, jobs, repeats)
    dataset = narrow(manifest, exclude=exclude, group_by=group_by)
    if len(dataset.classes) < 2:
        raise DatasetError(
            f"at least two classes in {dataset.dataset}",
            f"{', '.join(dataset.classes) or 'none'}",
            "Scan a source with more classes, or exclude less.",
        )
    choice = Choice(
        (), views, policy, taps, tta, tune, transform, pca, calibrate, seed,
        Region(region, mask),
    ).of(heads)  # fmt: skip
    drawn = [
        features.draw_split(
            dataset, split, folds=folds, test_size=test_size, seed=seed, repeat=repeat
        )
        for repeat in range(repeats)
    ]
    folder = reports / dataset.dataset / "runs"
    asked = list(plan(dataset, folder, backbones, choice, drawn))
    todo = [job for job in asked if force or not runs.is_done(job.folder)]
    train(todo, n_jobs=jobs or os.cpu_count() or 1, force=force, progress=progress)
    return TrainResult(
        [runs.load(job.folder) for job in asked],
        [job.folder.name for job in todo],
        drawn[0],
    )


def _check(views: int | str, jobs: int | None, repeats: int) -> None:
    if views != ALL and (not isinstance(views, int) or views < 0):
        raise UsageError("--views of 0 or more, or all", str(views), "Try all.")
    if jobs is not None and jobs < 1:
        raise UsageError("--jobs of 1 or more", str(jobs), "Leave it out.")
    if repeats < 1:
        raise UsageError("--repeats of 1 or more", str(repeats), "Leave it out.")
