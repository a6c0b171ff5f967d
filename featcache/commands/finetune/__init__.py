"""``featcache finetune``: train whole networks, on the splits of the heads."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path

from featcache import features
from featcache.backbones import Network
from featcache.commands.finetune.fit_run import Work
from featcache.commands.finetune.plan import Job, plan, try_writing
from featcache.commands.finetune.settings import FOLDS, Settings
from featcache.commands.finetune.timing import Budget
from featcache.commands.finetune.training import Message, Progress
from featcache.dataset.manifest import Manifest, narrow
from featcache.dataset.splits import Split
from featcache.dataset.views import Policy
from featcache.errors import UsageError
from featcache.evaluation import runs
from featcache.evaluation.runs import Run

__all__ = ["FinetuneResult", "finetune"]


@dataclass(frozen=True)
class FinetuneResult:
    """What a call did.

    Attributes:
        runs: One a network, in the order asked.
        trained: Ids of those that this call trained; the rest was there.
        split: The split they were judged on.
    """

    runs: list[Run]
    trained: list[str]
    split: Split


def finetune(
    manifest: Manifest,
    networks: Sequence[Network],
    *,
    reports: Path = Path("reports"),
    init_head: str | None = None,
    head: str = "softmax",
    unfreeze: str = "all",
    gradual: int = 0,
    epochs: int = 30,
    batch_size: int = 32,
    optimizer: str = "adamw",
    learning_rate: float | None = None,
    weight_decay: float = 0.01,
    layer_decay: float = 0.7,
    warmup: float = 1.0,
    clip: float = 1.0,
    label_smoothing: float = 0.05,
    class_weight: str = "none",
    validation: float = 0.1,
    patience: int = 6,
    ema: float = 0.0,
    policy: Policy | None = None,
    tta: int = 2,
    mixed_precision: str = "auto",
    fold: str = "all",
    calibrate: bool = True,
    exclude: Sequence[str] = (),
    group_by: str | None = None,
    folds: int = 5,
    test_size: float = 0.2,
    seed: int = 0,
    split: str | None = None,
    max_minutes: float | None = None,
    force: bool = False,
    progress: Progress | None = None,
    message: Message | None = None,
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
        head: Else the shape of the head: "softmax", "mlp" or "mlp-dropout".
        unfreeze: What is trained beside the head: "all", "last-N-blocks", the name of
            a layer (with all behind it), or "none".
        gradual: Epochs after which each further block, from the last on, begins to
            learn; 0 for all at once.
        epochs: Most passes over the training images.
        batch_size: Images a step; on several GPUs, of all together.
        optimizer: "adamw", or "sgd" (momentum 0.9, nesterov) as in the study.
        learning_rate: Of the head, at its highest; by default 3e-4, for sgd 1e-3.
        weight_decay: Share of itself, times the rate, that a weight loses at a step.
        layer_decay: Factor of the rate from block to block, from the head down.
        warmup: Epochs in which the rate rises; then it falls along a cosine.
        clip: Largest norm of all gradients together; 0 for any.
        label_smoothing: Share of the truth that is spread over all classes.
        class_weight: "balanced" gives rare classes larger weights; "none".
        validation: Share of the training images, whole groups, to stop early by; 0
            trains to the end.
        patience: Epochs without a better validation loss before stopping.
        ema: Keep a moving average of the weights with this momentum, such as 0.99;
            0 for none.
        policy: The recipe of the views, a new one each epoch; by default the study's.
        tta: Predict as the mean over the plain view and this many further ones.
        mixed_precision: Compute in float16: "auto" does on GPUs; "on", "off".
        fold: "all" folds and the test part, or "test" for one network judged on the
            test part alone.
        calibrate: Calibrate the probabilities on the out-of-fold predictions.
        exclude: Leave out images, by COLUMN (whose value is 1, true or yes) or
            COLUMN=VALUE of the manifest.
        group_by: What stays together in place of the manifest's groups: a column,
            or "image".
        folds: Cross-validation folds.
        test_size: Share of the images in the test part; 0 for none.
        seed: Of the split, the head, the order of the images.
        split: Name of the split; by default made of how it is drawn.
        max_minutes: Stop after so many, shared evenly among the networks, and keep
            the best so far.
        force: Train again what is there.
        progress: Called with (what, steps done, steps to do).
        message: Called with what the user should know meanwhile.

    Raises:
        HeadError: The run to start from does not fit, or the loss is not finite.
        ContractError: Its features are not those of the network.
        UnknownNameError: No such layer.
        SplitError: The folds cannot be made.
        WeightsError: Weights cannot be had.
        UsageError: A setting that can never work, or a batch that does not fit.
    """
    settings = Settings.of(locals(), policy or Policy())
    _check(fold, max_minutes)
    dataset = narrow(manifest, exclude=exclude, group_by=group_by)
    try_writing(reports / dataset.dataset / "runs")
    drawn = features.draw_split(
        dataset, split, folds=folds, test_size=test_size, seed=seed
    )
    asked = [
        plan(
            dataset,
            network,
            reports=reports,
            settings=settings,
            split=drawn,
            init_head=init_head,
            fold=fold,
            calibrate=calibrate,
            minutes=max_minutes,
            options=settings.differing(_usual()),
        )
        for network in networks
    ]
    there = {job: job.done for job in asked}
    todo = [job for job in asked if force or not there[job]]
    for job in todo:
        if there[job]:
            shutil.rmtree(job.checkpoints, ignore_errors=True)
    made = _work(todo, max_minutes, progress, message)
    folders = [made.get(job) or there[job] for job in asked]
    return FinetuneResult(
        [runs.load(folder) for folder in folders if folder],
        [folder.name for folder in made.values()],
        drawn,
    )


def _usual() -> Settings:
    arguments = signature(finetune).parameters.items()
    return Settings.of({k: one.default for k, one in arguments}, Policy())


def _check(fold: str, max_minutes: float | None) -> None:
    if fold not in FOLDS:
        raise UsageError(f"--fold {' or '.join(FOLDS)}", repr(fold), "Take one.")
    if max_minutes is not None and not max_minutes > 0:
        raise UsageError(
            "--max-minutes of more than 0", f"{max_minutes:g}", "Leave it out."
        )


def _work(
    todo: Sequence[Job],
    max_minutes: float | None,
    progress: Progress | None,
    message: Message | None,
) -> dict[Job, Path]:
    """Makes each run; says where it is."""
    seconds = float("inf") if max_minutes is None else 60 * max_minutes
    parts = sum(len(job.parts) for job in todo)
    budget = Budget(time.monotonic() + seconds, parts)
    tick = progress or (lambda name, done, total: None)
    tell = message or (lambda text: None)
    return {job: Work(job, budget, tick, tell).run() for job in todo}
