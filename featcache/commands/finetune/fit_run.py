"""One run: a network for each part, its predictions, and the record."""

import gc
import os
import platform
import shutil
import time
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
from featcache.commands.finetune.plan import Job
from featcache.commands.finetune.settings import FinetuneSettings
from featcache.commands.finetune.start import Start, refuse_weights
from featcache.commands.finetune.timing import Budget
from featcache.commands.finetune.training import Watch
from featcache.core.io import lock, write_json
from featcache.core.progress import Reporter
from featcache.core.tf import no_retracing_advice
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
        net: The network, with its best weights.
        state: How its training went.
        p: (len(held), C) probabilities of the held-out images.
        seconds: Of the predictions.
    """

    net: Net
    state: State
    p: np.ndarray
    seconds: float


@dataclass(eq=False)
class Work:
    """A run under way.

    Attributes:
        job: Which run.
        budget: Time that is left.
        reporter: Hears of the steps done, and what the user should know.
        told: Whether the time that all takes has been estimated.
    """

    job: Job
    budget: Budget
    reporter: Reporter
    told: bool = False
    counts: dict[str, int] = field(default_factory=dict)

    @cached_property
    def core(self) -> "keras.Model":
        """The frozen backbone."""
        core = backbones.build(self.job.network)
        if self.job.origin:
            refuse_weights(self.job.origin, backbones.weights_digest(core))
        return core

    @cached_property
    def images(self) -> Images:
        """Where pixels come from."""
        job = self.job
        side, size = job.network.input_size, job.settings.batch_size
        return Images(job.dataset, side, job.settings.policy, size)

    def run(self) -> Path:
        """Trains, predicts and records, going on from checkpoints that are there.

        Returns:
            The folder of the run.
        """
        job = self.job
        guard = job.checkpoints.with_suffix(".lock")
        with (
            no_retracing_advice(),
            lock(guard, f"the checkpoints of {job.folder.name}"),
            self.images.in_use(),
        ):
            self.begin()
            done: dict[int, Trained] = {}
            for part in job.parts:
                # Its network is large, and only the last is kept.
                done = {k: replace(t, net=None) for k, t in done.items()}  # type: ignore[arg-type]
                gc.collect()
                done[part] = self.part(part)
            whole = [t.state.stopped != training.TIME for t in done.values()]
            folder = job.folder if all(whole) else job.short
            self.record(done, folder)
            if all(whole):
                shutil.rmtree(job.checkpoints, ignore_errors=True)
            else:
                self.reporter.message(
                    f"{job.network.name}: the time limit stopped "
                    f"{whole.count(False)} of {len(whole)} networks early; the same "
                    "command with a higher `max_minutes`, or none, resumes them"
                )
            return folder

    def begin(self) -> None:
        """Marks the folder of checkpoints, and tells of those that are none of ours."""
        folder = self.job.checkpoints
        if not (folder / ABOUT).is_file():
            for told in others(folder, self.job.decides):
                self.reporter.message(told)
            write_json(folder / ABOUT, self.job.decides)

    def part(self, part: int) -> Trained:
        """Trains the network that never sees a part, and lets it predict that."""
        job, settings = self.job, self.job.settings
        rows, stop_by, held = self.rows(part)
        data = Data(self.images, job.codes, rows, stop_by, len(job.dataset.classes))
        net = networks.make(
            self.core,
            job.network,
            self.start(rows),
            settings,
            n_classes=data.n_classes,
            steps=data.steps,
            statistics=job.statistics,
        )
        self.counts = net.count()
        self.estimate(net, data)
        state = training.train(
            net, data, settings, checkpoint=job.checkpoint(part), watch=self.watch(part)
        )
        started = time.perf_counter()
        # A start that training could not better has seen plain views alone.
        p = self.predict(net, held, views=settings.tta if state.best_epoch else 0)
        return Trained(net, state, p, time.perf_counter() - started)

    def watch(self, part: int) -> Watch:
        """How the training of a part is followed; its time begins now."""
        job, name = self.job, self.job.network.name
        return Watch(
            name,
            f"{name}, {'test' if part == splits.TEST else f'fold {part}'}",
            self.reporter,
            job.parts.index(part),
            len(job.parts),
            self.budget.deadline(),
            self.budget.end,
        )

    def rows(self, part: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows to train on, to stop early by, and to predict; no group in two."""
        job, settings = self.job, self.job.settings
        train = np.flatnonzero((job.places != part) & (job.places != splits.TEST))
        held = np.flatnonzero(job.places == part)
        fit, stop_by = train, train[:0]
        if settings.validation:
            drawn = group_folds(
                job.codes[train],
                job.groups[train],
                folds=max(round(1 / settings.validation), 2),
                seed=settings.seed,
            )
            if drawn:
                fit, stop_by = train[drawn[0][0]], train[drawn[0][1]]
            else:
                self.reporter.message(
                    "Too few groups for early stopping: trains for all epochs."
                )
        assert_disjoint(job.groups[train], job.groups[held])
        assert_disjoint(job.groups[fit], job.groups[stop_by])
        return fit, stop_by, held

    def start(self, rows: np.ndarray) -> Start:
        """The head at the start; it has seen no image but those of the rows."""
        job = self.job
        if job.origin is None:
            return Start.fresh(job.settings.head)
        return job.origin.start(rows, job.codes, job.groups)

    def estimate(self, net: Net, data: Data) -> None:
        """Says once, on a CPU, how long what is missing may take."""
        job, settings = self.job, self.job.settings
        if self.told or not timing.on_cpu():
            return
        self.told = True
        states = [job.checkpoint(part).peek() for part in job.parts]
        left = [0 if s.stopped else settings.epochs - s.epoch for s in states]
        if not any(left):
            return
        pace = timing.pace(net, data, settings)
        held = int(np.isin(job.places, job.parts).sum())
        seconds = sum(left) * pace.epoch(data)
        seconds += (settings.tta + 1) * pace.images(data, held)
        limit = "" if job.minutes is None else f"; {job.minutes:g} min allowed"
        self.reporter.message(
            f"networks to train: {sum(map(bool, left))}, up to {max(left)} epochs "
            f"each, {data.steps} steps per epoch, {pace.step + pace.render:.2g} s per "
            f"step of {data.images.batch_size} images: at most "
            f"{timing.span(seconds)} on this CPU{limit}"
        )

    def predict(self, net: Net, rows: np.ndarray, *, views: int) -> np.ndarray:
        """Probabilities (n, C): the mean over the plain view and further ones."""
        if not len(rows):
            return np.zeros((0, len(self.job.dataset.classes)))
        several = [
            net.predict(self.images.batches(rows, view)) for view in range(views + 1)
        ]
        return np.asarray(np.mean(several, axis=0))

    def record(self, done: dict[int, Trained], folder: Path) -> None:
        """Publishes the run."""
        job = self.job
        p, record = self.results(done)
        judged = np.isin(job.places, job.parts)
        with (
            runs.writing(folder),
            runs.saving(folder, record) as temp,
        ):
            table = runs.predictions_table(
                job.images[judged], job.places[judged], p[judged], job.dataset.classes
            )
            table.to_csv(temp / runs.PREDICTIONS, index=False)
            rows = [
                {"fold": k, **row} for k, t in done.items() for row in t.state.history
            ]
            pd.DataFrame(rows).to_csv(temp / "history.csv", index=False)
            done[splits.TEST].net.model.save(temp / MODEL)

    def block(self) -> FeatureBlock:
        """What the record says of the network, which has no store."""
        network = self.job.network
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
        )

    def results(self, done: dict[int, Trained]) -> tuple[np.ndarray, RunRecord]:
        """The predictions as they are published, and the record of the run."""
        job = self.job
        p = np.zeros((len(job.places), len(job.dataset.classes)))
        for part, trained in done.items():
            p[job.places == part] = trained.p
        calibrated = None
        if job.calibrate:
            p, calibrated = calibration.calibrate_predictions(
                p, job.codes, job.groups, job.places
            )
        judged = np.isin(job.places, job.parts)
        seconds = {k: round(t.state.seconds, 3) for k, t in done.items()}
        return p, replace(
            runs.stamped(job.record()),
            features=[self.block()],
            weights_digest=backbones.weights_digest(self.core),
            status=OK,
            model=MODEL,
            fit_seconds=seconds.pop(splits.TEST),
            fold_seconds=list(seconds.values()),
            predict_seconds=round(sum(t.seconds for t in done.values()), 3),
            calibration=calibrated,
            scores=runs.scores(
                p[judged],
                y=job.codes[judged],
                groups=job.groups[judged],
                folds=job.places[judged],
            ),
            machine=_machine(job.settings),
            trainings=[_training_info(k, t.state) for k, t in done.items()],
            parameters=self.counts["parameters"],
            trainable_parameters=self.counts["trainable_parameters"],
        )


def _machine(settings: FinetuneSettings) -> str:
    """What it ran on, and how."""
    gpus = "" if timing.on_cpu() else ", on GPU"
    half = ", in float16" if networks.is_mixed(settings) else ""
    return f"{platform.machine()}, {os.cpu_count()} CPUs{gpus}{half}"


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
