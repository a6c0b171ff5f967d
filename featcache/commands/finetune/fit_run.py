"""One run: a network for each part, its predictions, and the record."""

import gc
import os
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from featcache import backbones
from featcache.commands.finetune import network as networks
from featcache.commands.finetune import timing, training
from featcache.commands.finetune.checkpoint import ABOUT, State, others
from featcache.commands.finetune.inputs import Data, Images
from featcache.commands.finetune.network import Net
from featcache.commands.finetune.plan import RunPlan
from featcache.commands.finetune.settings import FinetuneSettings
from featcache.commands.finetune.start import InitialHead, refuse_weights
from featcache.commands.finetune.timing import Budget
from featcache.commands.finetune.training import Watch
from featcache.core.io import lock, write_json
from featcache.core.parallel import one_thread
from featcache.core.progress import Reporter
from featcache.core.text import counted
from featcache.core.tf import n_threads, no_retracing_advice
from featcache.dataset import splits
from featcache.dataset.splits import assert_disjoint
from featcache.evaluation import calibration, runs
from featcache.evaluation.record import OK, FeatureBlock, RunRecord, TrainingInfo
from featcache.heads.tuning import group_folds

if TYPE_CHECKING:
    import keras

MODEL = "model.keras"


@dataclass(frozen=True)
class Trained:
    """The network of one part, and what it says.

    Attributes:
        net: The network, with its best weights; None if it is not kept.
        state: How its training went.
        p: (len(held), C) probabilities of the held-out images.
        seconds: Of the predictions.
    """

    net: Net | None
    state: State
    p: np.ndarray
    seconds: float


@dataclass(eq=False)
class Work:
    """A run under way.

    Attributes:
        plan: Which run.
        budget: Time that is left.
        reporter: Hears of the steps done, and what the user should know.
        check: Called before each network and before the run is written; raises if
            there is no use in it.
        time_estimated: Whether the time that all takes has been estimated.
    """

    plan: RunPlan
    budget: Budget
    reporter: Reporter
    check: Callable[[], None]
    time_estimated: bool = False
    counts: dict[str, int] = field(default_factory=dict)

    @cached_property
    def core(self) -> "keras.Model":
        """The frozen backbone."""
        core = backbones.build(self.plan.network)
        if self.plan.source_run:
            refuse_weights(self.plan.source_run, backbones.weights_digest(core))
        return core

    @cached_property
    def images(self) -> Images:
        """Where pixels come from."""
        plan = self.plan
        resize, size = plan.network.resize, plan.settings.batch_size
        return Images(plan.dataset, resize, plan.settings.policy, size)

    def run(self) -> Path:
        """Trains, predicts and records, going on from checkpoints that are there.

        Returns:
            The folder of the run.
        """
        plan = self.plan
        guard = plan.checkpoints.with_suffix(".lock")
        with (
            no_retracing_advice(),
            lock(guard, f"the checkpoints of {plan.folder.name}"),
            self.images.in_use(),
        ):
            self.begin()
            done = self.fit_parts()
            whole = [t.state.stopped != training.TIME for t in done.values()]
            folder = plan.folder if all(whole) else plan.short
            self.check()
            self.record(done, folder)
            if all(whole):
                shutil.rmtree(plan.checkpoints, ignore_errors=True)
            else:
                self.reporter.message(
                    f"{plan.network.name}: the time limit stopped "
                    f"{whole.count(False)} of {len(whole)} networks early; the same "
                    "command with a higher `max_minutes`, or none, resumes them"
                )
            return folder

    def fit_parts(self) -> dict[int, Trained]:
        """Trains the network of each part; only the last is kept, for it is large."""
        done: dict[int, Trained] = {}
        for part in self.plan.parts:
            done = {k: replace(t, net=None) for k, t in done.items()}
            gc.collect()
            self.check()
            done[part] = self.part(part)
        return done

    def begin(self) -> None:
        """Marks the folder of checkpoints, and tells of those that are none of ours."""
        folder = self.plan.checkpoints
        if not (folder / ABOUT).is_file():
            for message in others(folder, self.plan.training_identity):
                self.reporter.message(message)
            write_json(folder / ABOUT, self.plan.training_identity)

    def part(self, part: int) -> Trained:
        """Trains the network that never sees a part, and lets it predict that."""
        plan, settings = self.plan, self.plan.settings
        rows, stop_by, held_out = self.rows(part)
        data = Data(self.images, plan.codes, rows, stop_by, len(plan.dataset.classes))
        net = networks.make(
            self.core,
            plan.network,
            self.initial_head(rows),
            settings,
            n_classes=data.n_classes,
            steps=data.steps,
            statistics=plan.statistics,
        )
        self.counts = net.count()
        self.estimate(net, data)
        state = training.train(
            net,
            data,
            settings,
            checkpoint=plan.checkpoint(part),
            watch=self.watch(part),
        )
        started = time.perf_counter()
        # A start that training could not better has seen plain views alone.
        p = self.predict(net, held_out, views=settings.tta if state.best_epoch else 0)
        return Trained(net, state, p, time.perf_counter() - started)

    def watch(self, part: int) -> Watch:
        """How the training of a part is followed; its time begins now."""
        plan, name = self.plan, self.plan.network.name
        return Watch(
            name,
            f"{name}, {'test' if part == splits.TEST else f'fold {part}'}",
            self.reporter,
            plan.parts.index(part),
            len(plan.parts),
            self.budget.deadline(),
            self.budget.end,
        )

    def rows(self, part: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows to train on, to stop early by, and to predict; no group in two."""
        plan, settings = self.plan, self.plan.settings
        train = np.flatnonzero((plan.fold_of != part) & (plan.fold_of != splits.TEST))
        held_out = np.flatnonzero(plan.fold_of == part)
        fit, stop_by = train, train[:0]
        if settings.validation:
            folds = group_folds(
                plan.codes[train],
                plan.groups[train],
                folds=max(round(1 / settings.validation), 2),
                seed=settings.seed,
            )
            if folds:
                fit, stop_by = train[folds[0][0]], train[folds[0][1]]
            else:
                self.reporter.message(
                    "Too few groups for early stopping: trains for all epochs."
                )
        assert_disjoint(plan.groups[train], plan.groups[held_out])
        assert_disjoint(plan.groups[fit], plan.groups[stop_by])
        return fit, stop_by, held_out

    def initial_head(self, rows: np.ndarray) -> InitialHead:
        """The head at the start; it has seen no image but those of the rows."""
        plan = self.plan
        if plan.source_run is None:
            return InitialHead.fresh(plan.settings.head)
        return plan.source_run.initial_head(rows, plan.codes, plan.groups)

    def estimate(self, net: Net, data: Data) -> None:
        """Says once, on a CPU, how long what is missing may take."""
        plan, settings = self.plan, self.plan.settings
        if self.time_estimated or not timing.on_cpu():
            return
        self.time_estimated = True
        states = [plan.checkpoint(part).peek() for part in plan.parts]
        left = [0 if s.stopped else settings.epochs - s.epoch for s in states]
        if not any(left):
            return
        pace = timing.pace(net, data, settings)
        count = int(np.isin(plan.fold_of, plan.parts).sum())
        seconds = sum(left) * pace.epoch(data)
        seconds += (settings.tta + 1) * pace.images(data, count)
        limit = "" if plan.minutes is None else f"; {plan.minutes:g} min allowed"
        self.reporter.message(
            f"networks to train: {sum(map(bool, left))}, up to {max(left)} epochs "
            f"each, {data.steps} steps per epoch, {pace.step + pace.render:.2g} s per "
            f"step of {data.images.batch_size} images: at most "
            f"{timing.span(seconds)} on this CPU{limit}"
        )

    def predict(self, net: Net, rows: np.ndarray, *, views: int) -> np.ndarray:
        """Probabilities (n, C): the mean over the plain view and further ones."""
        if not len(rows):
            return np.zeros((0, len(self.plan.dataset.classes)))
        several = [
            net.predict(self.images.batches(rows, view)) for view in range(views + 1)
        ]
        return np.asarray(np.mean(several, axis=0))

    def record(self, done: dict[int, Trained], folder: Path) -> None:
        """Publishes the run."""
        plan = self.plan
        p, record = self.results(done)
        predicted = np.isin(plan.fold_of, plan.parts)
        with (
            runs.writing(folder),
            runs.saving(folder, record) as temp,
        ):
            table = runs.predictions_table(
                plan.images[predicted],
                plan.fold_of[predicted],
                p[predicted],
                plan.dataset.classes,
            )
            table.to_csv(temp / runs.PREDICTIONS, index=False)
            rows = [
                {"fold": k, **row} for k, t in done.items() for row in t.state.history
            ]
            pd.DataFrame(rows).to_csv(temp / "history.csv", index=False)
            self.save_model(done[splits.TEST], temp / MODEL)

    def save_model(self, trained: Trained, path: Path) -> None:
        """Writes the network of the test part."""
        assert trained.net
        trained.net.model.save(path)

    def block(self) -> FeatureBlock:
        """What the record says of the network, which has no store."""
        network = self.plan.network
        return FeatureBlock(
            backbone=network.name,
            weights=network.weights,
            input_size=network.input_size,
            preprocess=network.preprocess,
            precision="float32",
            dtype="float32",
            contract_id=None,
            store=None,
            tap=None,
            dim=self.core.output_shape[-1],
            resize=network.resize.text,
            licence=network.licence,
            source=network.source,
        )

    def results(self, done: dict[int, Trained]) -> tuple[np.ndarray, RunRecord]:
        """The predictions as they are published, and the record of the run."""
        plan = self.plan
        p = np.zeros((len(plan.fold_of), len(plan.dataset.classes)))
        for part, outcome in done.items():
            p[plan.fold_of == part] = outcome.p
        calibrated = None
        if plan.calibrate:
            with one_thread():
                p, calibrated = calibration.calibrate_predictions(
                    p, plan.codes, plan.groups, plan.fold_of
                )
        predicted = np.isin(plan.fold_of, plan.parts)
        seconds = {k: round(t.state.seconds, 3) for k, t in done.items()}
        return p, replace(
            runs.stamped(plan.record()),
            features=[self.block()],
            weights_digest=backbones.weights_digest(self.core),
            status=OK,
            model=MODEL,
            fit_seconds=seconds.pop(splits.TEST),
            fold_seconds=list(seconds.values()),
            predict_seconds=round(sum(t.seconds for t in done.values()), 3),
            calibration=calibrated,
            scores=runs.scores(
                p[predicted],
                y=plan.codes[predicted],
                groups=plan.groups[predicted],
                folds=plan.fold_of[predicted],
            ),
            machine=_machine(plan.settings),
            trainings=[_training_info(k, t.state) for k, t in done.items()],
            parameters=self.counts["parameters"],
            trainable_parameters=self.counts["trainable_parameters"],
        )


def _machine(settings: FinetuneSettings) -> str:
    """What it ran on, and how."""
    gpus = "" if timing.on_cpu() else ", on GPU"
    half = ", in float16" if networks.is_mixed(settings) else ""
    cores = f"{counted(os.cpu_count() or 1, 'CPU')}, {counted(n_threads(), 'thread')}"
    return f"{platform.machine()}, {cores}{gpus}{half}"


def _training_info(part: int, state: State) -> TrainingInfo:
    return TrainingInfo(
        fold=part,
        epochs=state.epoch,
        best_epoch=state.best_epoch,
        minutes=round(state.seconds / 60, 2),
        stopped=state.stopped,
        start=state.start,
        best_loss=state.best_loss if np.isfinite(state.best_loss) else None,
    )
