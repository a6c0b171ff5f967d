"""One run: a network for each part, its predictions, and the record."""

import gc
import os
import platform
import shutil
import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from featcache import backbones, calibration, outcome, runs, splits
from featcache._io import lock
from featcache._tf import no_retracing_advice
from featcache.finetune import network as networks
from featcache.finetune import training
from featcache.finetune.checkpoint import Checkpoint, State
from featcache.finetune.inputs import Images
from featcache.finetune.network import Net
from featcache.finetune.plan import Job
from featcache.finetune.settings import Settings
from featcache.finetune.start import Start, refuse_weights
from featcache.finetune.training import Data, Message, Progress, Watch
from featcache.heads.tuning import group_folds
from featcache.splits import assert_disjoint

if TYPE_CHECKING:
    import keras

MODEL = "model.keras"


@dataclass
class Budget:
    """The time that is left for the networks that are left.

    Attributes:
        end: Of ``time.monotonic``.
        parts: Networks still to be trained.
    """

    end: float
    parts: int

    def deadline(self) -> float:
        """When the next network has to be done, and one less is left."""
        now = time.monotonic()
        share = max(self.end - now, 0) / self.parts
        self.parts -= 1
        return now + share


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
        progress: Called with (what, steps done, steps to do).
        message: Called with what the user should know.
        told: Whether the time that all takes has been estimated.
    """

    job: Job
    budget: Budget
    progress: Progress
    message: Message
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

    def run(self) -> None:
        """Trains, predicts and records, going on from checkpoints that are there."""
        job = self.job
        guard = job.checkpoints.with_suffix(".lock")
        with (
            no_retracing_advice(),
            lock(guard, f"the checkpoints of {job.folder.name}"),
        ):
            done: dict[int, Trained] = {}
            for part in job.parts:
                # Its network is large, and only the last is kept.
                done = {k: replace(t, net=None) for k, t in done.items()}  # type: ignore[arg-type]
                gc.collect()
                done[part] = self.part(part)
            self.record(done)
            if all(t.state.stopped != training.TIME for t in done.values()):
                shutil.rmtree(job.checkpoints, ignore_errors=True)

    def part(self, part: int) -> Trained:
        """Trains the network that never sees a part, and lets it predict that."""
        job, settings = self.job, self.job.settings
        name = "test" if part == splits.TEST else f"fold {part}"
        name = f"{job.network.name}, {name}"
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
        watch = Watch(name, self.progress, self.message, self.budget.deadline())
        path = job.checkpoints / f"{name.split()[-1]}.npz"
        checkpoint = Checkpoint(path, f"{job.belongs} {part}")
        state = training.train(net, data, settings, checkpoint=checkpoint, watch=watch)
        started = time.perf_counter()
        # A start that training could not better has seen plain views alone.
        p = self.predict(net, held, views=settings.tta if state.best_epoch else 0)
        return Trained(net, state, p, time.perf_counter() - started)

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
                self.message("Too few groups to stop early by: trains to the end.")
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
        """Says once, on a CPU, how long all may take."""
        if self.told or not training.on_cpu():
            return
        self.told = True
        second, epochs = (
            training.seconds_a_step(net, data, self.job.settings),
            self.job.settings.epochs,
        )
        left = second * data.steps * epochs * self.budget.parts
        limit = (
            "" if self.job.minutes is None else f"; {self.job.minutes:g} min allowed"
        )
        self.message(
            f"{second:.2g} s a step of {self.images.batch_size} images on this CPU, "
            f"{data.steps} steps an epoch, up to {epochs} epochs, {self.budget.parts} "
            f"networks: at most {training.span(left)}{limit}"
        )

    def predict(self, net: Net, rows: np.ndarray, *, views: int) -> np.ndarray:
        """Probabilities (n, C): the mean over the plain view and further ones."""
        if not len(rows):
            return np.zeros((0, len(self.job.dataset.classes)))
        with self.images.in_use():
            several = [
                net.predict(self.images.batches(rows, view))
                for view in range(views + 1)
            ]
        return np.asarray(np.mean(several, axis=0))

    def record(self, done: dict[int, Trained]) -> None:
        """Publishes the run."""
        job = self.job
        record = job.record() | outcome.stamp() | self.features()
        p, figures = self.figures(done)
        judged = np.isin(job.places, job.parts)
        with (
            runs.writing(job.folder),
            runs.saving(job.folder, record | figures) as folder,
        ):
            table = runs.predictions_table(
                job.images[judged], job.places[judged], p[judged], job.dataset.classes
            )
            table.to_csv(folder / runs.PREDICTIONS, index=False)
            rows = [
                {"fold": k, **row} for k, t in done.items() for row in t.state.history
            ]
            pd.DataFrame(rows).to_csv(folder / "history.csv", index=False)
            done[splits.TEST].net.model.save(folder / MODEL)

    def features(self) -> dict[str, Any]:
        """What the record says of the network; it has no store."""
        network = self.job.network
        block = {
            "backbone": network.name,
            "weights": network.weights,
            "input_size": network.input_size,
            "contract_id": None,
            "store": None,
            "tap": None,
            "dim": self.core.output_shape[-1],
        }
        digest = backbones.weights_digest(self.core)
        return runs.of_features([block]) | {"weights_digest": digest}

    def figures(self, done: dict[int, Trained]) -> tuple[np.ndarray, dict[str, Any]]:
        """The predictions as they are published, and what the record says of them."""
        job = self.job
        p = np.zeros((len(job.places), len(job.dataset.classes)))
        for part, trained in done.items():
            p[job.places == part] = trained.p
        calibrated = None
        if job.calibrate:
            train = job.places != splits.TEST
            found = calibration.cross_fit(
                job.codes[train],
                p[train],
                job.places[train],
                groups=job.groups[train],
            )
            p[train], p[~train] = found.p, found.calibrator(p[~train])
            calibrated = found.record
        judged = np.isin(job.places, job.parts)
        seconds = {k: round(t.state.seconds, 3) for k, t in done.items()}
        return p, {
            "status": "ok",
            "model": MODEL,
            "fit_seconds": seconds.pop(splits.TEST),
            "fold_seconds": list(seconds.values()),
            "predict_seconds": round(sum(t.seconds for t in done.values()), 3),
            "tuning": [],
            "calibration": calibrated,
            "scores": outcome.scores(
                p[judged],
                y=job.codes[judged],
                groups=job.groups[judged],
                places=job.places[judged],
            ),
            **self.counts,
            "machine": _machine(job.settings),
            "trainings": [_about(k, t.state) for k, t in done.items()],
        }


def _machine(settings: Settings) -> str:
    """What it ran on, and how."""
    gpus = "" if training.on_cpu() else ", on GPU"
    half = ", in float16" if networks.is_mixed(settings) else ""
    return f"{platform.machine()}, {os.cpu_count()} CPUs{gpus}{half}"


def _about(part: int, state: State) -> dict[str, Any]:
    """How the training of one part went, for the record."""
    return {
        "fold": part,
        "epochs": state.epoch,
        "best_epoch": state.best_epoch,
        "minutes": round(state.seconds / 60, 2),
        "stopped": state.stopped,
        "start": state.start,
        "best_loss": state.best_loss if np.isfinite(state.best_loss) else None,
    }
