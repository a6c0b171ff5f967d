"""``featcache finetune``: train whole networks, on the splits of the heads."""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from featcache import features
from featcache.backbones import Network
from featcache.commands.finetune.fit_run import Work
from featcache.commands.finetune.on_workers import WorkOn
from featcache.commands.finetune.plan import RunPlan, plan_run, try_writing
from featcache.commands.finetune.settings import FOLDS, FinetuneSettings
from featcache.commands.finetune.timing import Budget
from featcache.core.progress import SILENT, Reporter
from featcache.core.workers import LOCAL, Site, opened
from featcache.dataset.manifest import Manifest, in_use
from featcache.dataset.narrowing import straddling
from featcache.dataset.splits import Split, SplitOptions
from featcache.errors import UsageError
from featcache.evaluation import runs
from featcache.evaluation.runs import Run

__all__ = ["FinetuneResult", "FinetuneSettings", "finetune"]


@dataclass(frozen=True)
class FinetuneResult:
    """What a call did.

    Attributes:
        runs: One a network, in the order asked.
        new_run_ids: Ids of those that this call trained; the rest was there.
        split: The split they were judged on.
    """

    runs: list[Run]
    new_run_ids: list[str]
    split: Split


def finetune(
    manifest: Manifest,
    networks: Sequence[Network],
    *,
    reports: Path = Path("reports"),
    init_head: str | None = None,
    settings: FinetuneSettings = FinetuneSettings(),
    split: SplitOptions = SplitOptions(),
    fold: str = "all",
    calibrate: bool = True,
    max_minutes: float | None = None,
    on: str = LOCAL,
    force: bool = False,
    reporter: Reporter = SILENT,
) -> FinetuneResult:
    """Fine-tunes networks from pixels to classes, and records the runs.

    For each fold a network is trained that never sees it, then one on all of train
    that predicts the test part. Each starts anew from the backbone's weights, is
    stopped early by a part of its own training images, and keeps its best weights. A
    run that is there is not trained again; one that was interrupted goes on where its
    last whole epoch ended.

    Args:
        manifest: The dataset.
        networks: What to train; see ``backbones.resolve``.
        reports: The reports folder; runs go to ``reports/<dataset>/runs``.
        init_head: Start from the head of this run (its short id, or a unique part of
            its id), fitted anew for each network on what that is trained on.
        settings: How they are trained.
        split: On which images and folds.
        fold: "all" folds and the test part, or "test" for one network judged on the
            test part alone.
        calibrate: Calibrate the probabilities on the out-of-fold predictions.
        max_minutes: Stop after so many, shared evenly among the networks, and keep
            the best so far.
        on: Where: "local" in this process, one network after the other; or each
            network as a task of one thread: "dask" or "ray" on this machine, or a
            cluster, "dask://HOST:PORT" or "ray://HOST:PORT", whose workers see
            ``reports``, the cache and the images under the same paths.
        force: Train again what is there.
        reporter: Hears of the steps done for each network, and what the user should
            know meanwhile.

    Raises:
        HeadError: The run to start from does not fit, or the loss is not finite.
        ContractError: Its features are not those of the network.
        UnknownNameError: No such layer.
        SplitError: The folds cannot be made.
        WeightsError: Weights cannot be had.
        UsageError: A setting that can never work, a batch that does not fit, or a
            cluster that cannot be reached or is lost.
    """
    Site.of(on)
    if on != LOCAL:  # paths mean the same on every machine
        reports = reports.resolve()
        manifest = replace(manifest, folder=manifest.folder.resolve())
        networks = [
            replace(one, file=one.file.resolve()) if one.file else one
            for one in networks
        ]
    _check(fold, max_minutes, split)
    dataset = split.narrow(manifest)
    with in_use(manifest) as check:
        brief = features.split_path(dataset, split).is_file()
        for line in straddling(dataset, brief=brief):
            reporter.message(line)
        check()
        try_writing(reports / dataset.dataset / "runs")
        draw = features.draw_split(dataset, split)
        planned = [
            plan_run(
                dataset,
                network,
                reports=reports,
                settings=settings,
                split=draw,
                init_head=init_head,
                named_split=split.split,
                fold=fold,
                calibrate=calibrate,
                minutes=max_minutes,
            )
            for network in networks
        ]
        # To be replaced, a run need not be one that can be opened.
        there = {} if force else {plan: plan.done for plan in planned}
        todo = [plan for plan in planned if not there.get(plan)]
        for plan in todo:
            if force and plan.is_recorded:
                shutil.rmtree(plan.checkpoints, ignore_errors=True)
        new_folders = _train(todo, max_minutes, on, reporter, check)
    folders = [new_folders.get(plan) or there.get(plan) for plan in planned]
    return FinetuneResult(
        [runs.load(folder) for folder in folders if folder],
        [folder.name for folder in new_folders.values()],
        draw,
    )


def _check(fold: str, max_minutes: float | None, split: SplitOptions) -> None:
    if fold not in FOLDS:
        raise UsageError(
            f"`fold` to be {' or '.join(FOLDS)}", repr(fold), "Choose one."
        )
    if max_minutes is not None and not max_minutes > 0:
        raise UsageError(
            "`max_minutes` of more than 0", f"{max_minutes:g}", "Leave it out."
        )
    if split.repeats != 1:
        raise UsageError(
            "`repeats=1`, because networks are fine-tuned on one draw of the folds",
            str(split.repeats),
            "Omit it, or repeat with another `seed`.",
        )


def _train(
    todo: Sequence[RunPlan],
    max_minutes: float | None,
    on: str,
    reporter: Reporter,
    check: Callable[[], None],
) -> dict[RunPlan, Path]:
    """Makes each run; says where it is."""
    seconds = float("inf") if max_minutes is None else 60 * max_minutes
    parts = sum(len(plan.parts) for plan in todo)
    budget = Budget(time.monotonic() + seconds, parts)
    if on == LOCAL or not todo:
        return {plan: Work(plan, budget, reporter, check).run() for plan in todo}
    with opened(on, reporter=reporter) as workers:
        return {
            plan: WorkOn(plan, budget, reporter, check, workers=workers).run()
            for plan in todo
        }
