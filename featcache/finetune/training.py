"""Training one network: epoch by epoch, the best kept, resumable at any moment."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from featcache._tf import tensorflow
from featcache.errors import HeadError
from featcache.finetune.checkpoint import Checkpoint, State
from featcache.finetune.inputs import Images, order
from featcache.finetune.network import Net, assign, values
from featcache.finetune.settings import BALANCED, Settings
from featcache.heads.tuning import scores

Progress = Callable[[str, int, int], None]
Message = Callable[[str], None]
EPOCHS, EARLY, TIME, NOT_FINITE = (
    "all epochs", "no better", "time limit", "loss not finite",
)  # fmt: skip
_TIMED_STEPS = 3


@dataclass(frozen=True, eq=False)
class Data:
    """What one network is trained and validated on.

    Attributes:
        images: Where the pixels come from.
        codes: (N,) class indices of all images.
        fit: Rows to train on.
        held: Rows to stop early by; may be empty.
        n_classes: C.
    """

    images: Images
    codes: np.ndarray
    fit: np.ndarray
    held: np.ndarray
    n_classes: int

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return -(-len(self.fit) // self.images.batch_size)

    def epoch(self, epoch: int, settings: Settings) -> Any:
        """Batches of an epoch, from 1: pixels, one-hot labels, weights."""
        rows = self.fit[order(len(self.fit), settings.seed, epoch)]
        one_hot = np.eye(self.n_classes, dtype=np.float32)[self.codes[rows]]
        weights = self.weights(settings)[self.codes[rows]]
        return self.images.batches(rows, settings.view(epoch), one_hot, weights)

    def weights(self, settings: Settings) -> np.ndarray:
        """Weight of an image by its class, (C,); 1 on average."""
        if settings.class_weight != BALANCED:
            return np.ones(self.n_classes, np.float32)
        counts = np.bincount(self.codes[self.fit], minlength=self.n_classes)
        return np.asarray(len(self.fit) / self.n_classes / counts, np.float32)


@dataclass(frozen=True)
class Watch:
    """How a training is followed.

    Attributes:
        name: Of what is trained, for what is told.
        progress: Called with (name, steps done, steps to do).
        message: Called with what the user should know.
        deadline: When to stop, of ``time.monotonic``.
    """

    name: str
    progress: Progress
    message: Message
    deadline: float = float("inf")


@dataclass
class _Epoch:
    """How an epoch went.

    Attributes:
        ended: Why it was cut short: `TIME` or `NOT_FINITE`; empty if it was not.
        step: The last step, from 1.
        logs: Loss and accuracy over its steps.
    """

    ended: str = ""
    step: int = 0
    logs: dict[str, float] = field(default_factory=dict)


def train(
    net: Net, data: Data, settings: Settings, *, checkpoint: Checkpoint, watch: Watch
) -> State:
    """Trains a network, or goes on from its checkpoint; gives it the best weights.

    Raises:
        HeadError: The loss was not finite before there was anything to keep.
        UnreadableImageError: An image cannot be read any more.
        UsageError: A batch does not fit into memory.
    """
    with data.images.in_use():
        state = _resumed(net, checkpoint, watch) or _begun(net, data)
        while not state.stopped:
            _train_epoch(net, data, settings, state, watch)
            if state.stopped != TIME:  # a part of an epoch is done again
                _save(net, checkpoint, state)
    assign(net.trainable, state.best)
    return state


def _resumed(net: Net, checkpoint: Checkpoint, watch: Watch) -> State | None:
    state, why_not = checkpoint.load()
    if why_not:
        watch.message(f"{watch.name}: starts anew, for the checkpoint {why_not}")
    if state is None:
        return None
    if not state.stopped:
        assign(net.variables, state.variables)
        watch.message(f"{watch.name}: goes on behind epoch {state.epoch}")
    return state


def _begun(net: Net, data: Data) -> State:
    start = _validated(net, data) if len(data.held) else {}
    loss = start.get("log_loss", float("inf"))
    return State(start=start, best_loss=loss, best=values(net.trainable))


def _save(net: Net, checkpoint: Checkpoint, state: State) -> None:
    # Of what has ended only the best is needed.
    state.variables = [] if state.stopped else values(net.variables)
    checkpoint.save(state)


def _train_epoch(
    net: Net, data: Data, settings: Settings, state: State, watch: Watch
) -> None:
    """One epoch more: trains, validates, keeps the best, says when to stop."""
    epoch, started = state.epoch + 1, time.monotonic()
    net.open(epoch, settings)
    run = _fit(net, data, settings, state.epoch, watch)
    if run.ended == NOT_FINITE:
        _stop_not_finite(settings, state, run, watch)
        return
    row = {"epoch": epoch, **run.logs}
    averages = net.averaged()
    if len(data.held):
        now = values(net.trainable)
        assign(net.trainable, averages)
        found = _validated(net, data)
        assign(net.trainable, now)
        row |= {"val_loss": found["log_loss"], "val_accuracy": found["accuracy"]}
    if row.get("val_loss", -1.0) < state.best_loss:
        state.best, state.best_epoch = averages, epoch
        state.best_loss = row.get("val_loss", state.best_loss)
    state.epoch = epoch
    state.seconds += time.monotonic() - started
    state.history.append(row)
    state.stopped = run.ended or _ended(state, settings)
    _tell(settings, state, row, watch)


def _ended(state: State, settings: Settings) -> str:
    if state.epoch >= settings.epochs:
        return EPOCHS
    waited = state.epoch - state.best_epoch
    return EARLY if waited >= settings.patience else ""


def _tell(
    settings: Settings, state: State, row: dict[str, float], watch: Watch
) -> None:
    left = state.seconds / state.epoch * (settings.epochs - state.epoch)
    held = (
        f", held out {row['val_loss']:.3f} {row['val_accuracy']:.3f}"
        if "val_loss" in row
        else ""
    )
    watch.message(
        f"{watch.name}: epoch {state.epoch} of {settings.epochs}, loss "
        f"{row['loss']:.3f}, accuracy {row['accuracy']:.3f}{held}; "
        + (
            f"stopped: {state.stopped}"
            if state.stopped
            else f"at most {span(left)} left"
        )
    )


def _stop_not_finite(
    settings: Settings, state: State, run: _Epoch, watch: Watch
) -> None:
    """Keeps the best weights so far, if there were any epochs.

    Raises:
        HeadError: There were none.
    """
    got = f"none in epoch {state.epoch + 1}, step {run.step}"
    advice = f"Lower --learning-rate (now {settings.learning_rate:g})" + (
        "" if settings.clip else ", or set --clip 1"
    )
    if not state.history:
        raise HeadError(f"{watch.name} to have a finite loss", got, f"{advice}.")
    state.stopped = NOT_FINITE
    watch.message(
        f"{watch.name}: no finite loss, {got}; the weights of epoch "
        f"{state.best_epoch} are kept. {advice}."
    )


def _validated(net: Net, data: Data) -> dict[str, float]:
    """Log-loss and accuracy of the plain views that are held out."""
    return scores(data.codes[data.held], net.predict(data.images.batches(data.held, 0)))


def _fit(net: Net, data: Data, settings: Settings, done: int, watch: Watch) -> _Epoch:
    """Trains an epoch, and leaves it early when the loss or the time is up."""
    import keras

    run, steps = _Epoch(), data.steps

    class Watching(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
            run.step = batch + 1
            run.logs = {k: float(logs[k]) for k in ("loss", "accuracy")}
            watch.progress(watch.name, done * steps + run.step, settings.epochs * steps)
            if not np.isfinite(run.logs["loss"]):
                run.ended = NOT_FINITE
            elif time.monotonic() > watch.deadline:
                run.ended = TIME
            self.model.stop_training = bool(run.ended)

    net.trainer.fit(
        data.epoch(done + 1, settings),
        epochs=1,
        shuffle=False,
        verbose=0,
        callbacks=[Watching()],
    )
    return run


def seconds_a_step(net: Net, data: Data, settings: Settings) -> float:
    """Times a few steps, and puts all weights back to where they were."""
    before = values(net.variables)
    net.open(1, settings)
    batches = list(data.epoch(1, settings).take(1))
    times = []
    with data.images.in_use():
        for _ in range(_TIMED_STEPS):
            started = time.monotonic()
            net.trainer.train_on_batch(*batches[0])
            times.append(time.monotonic() - started)
    assign(net.variables, before)
    net.trainer.reset_metrics()
    return min(times)  # the first builds the graph


def span(seconds: float) -> str:
    """A time as a person says it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def on_cpu() -> bool:
    """Whether there is no GPU."""
    return not tensorflow().config.list_logical_devices("GPU")
