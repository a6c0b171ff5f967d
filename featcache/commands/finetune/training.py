"""Training one network: epoch by epoch, the best kept, resumable at any moment."""

import time
from dataclasses import dataclass, field

import numpy as np

from featcache.commands.finetune.checkpoint import Checkpoint, State
from featcache.commands.finetune.inputs import Data
from featcache.commands.finetune.network import Net, assign, values
from featcache.commands.finetune.settings import FinetuneSettings
from featcache.commands.finetune.timing import span
from featcache.core.progress import Reporter
from featcache.errors import HeadError
from featcache.heads.tuning import scores

EPOCHS, EARLY, TIME, NOT_FINITE = (
    "all epochs", "no better", "time limit", "loss not finite",
)  # fmt: skip


@dataclass(frozen=True)
class Watch:
    """How a training is followed.

    Attributes:
        run: What is trained.
        name: Which of its networks, for what is told.
        reporter: Hears of the steps of all its networks, and what the user should
            know.
        part: Networks of the run before this one.
        parts: Networks of the run.
        deadline: When to stop, of ``time.monotonic``.
        end: When all has to be done.
    """

    run: str
    name: str
    reporter: Reporter
    part: int = 0
    parts: int = 1
    deadline: float = float("inf")
    end: float = float("inf")

    def tick(self, done: int, total: int) -> None:
        """Tells of steps of this network, as steps of all networks of the run."""
        self.reporter.progress(self.run, self.part * total + done, self.parts * total)


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
    net: Net,
    data: Data,
    settings: FinetuneSettings,
    *,
    checkpoint: Checkpoint,
    watch: Watch,
) -> State:
    """Trains a network, or goes on from its checkpoint; gives it the best weights.

    Raises:
        HeadError: The loss was not finite before there was anything to keep.
    """
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
        watch.reporter.message(
            f"{watch.name}: starts from the beginning, because {why_not}"
        )
    if state is None:
        return None
    if state.stopped:
        watch.reporter.message(f"{watch.name}: already trained, {state.epoch} epochs")
    else:
        assign(net.variables, state.variables)
        watch.reporter.message(f"{watch.name}: resumes after epoch {state.epoch}")
    return state


def _begun(net: Net, data: Data) -> State:
    start = _validated(net, data) if len(data.stop_by) else {}
    loss = start.get("log_loss", float("inf"))
    return State(start=start, best_loss=loss, best=values(net.trainable))


def _save(net: Net, checkpoint: Checkpoint, state: State) -> None:
    # Of what has ended only the best is needed.
    state.variables = [] if state.stopped else values(net.variables)
    checkpoint.save(state)


def _train_epoch(
    net: Net, data: Data, settings: FinetuneSettings, state: State, watch: Watch
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
    if len(data.stop_by):
        now = values(net.trainable)
        assign(net.trainable, averages)
        validation = _validated(net, data)
        assign(net.trainable, now)
        row |= {
            "val_loss": validation["log_loss"],
            "val_accuracy": validation["accuracy"],
        }
    if row.get("val_loss", -1.0) < state.best_loss:
        state.best, state.best_epoch = averages, epoch
        state.best_loss = row.get("val_loss", state.best_loss)
    state.epoch = epoch
    state.seconds += time.monotonic() - started
    state.history.append(row)
    state.stopped = run.ended or _ended(state, settings)
    _tell(settings, state, row, watch)


def _ended(state: State, settings: FinetuneSettings) -> str:
    if state.epoch >= settings.epochs:
        return EPOCHS
    waited = state.epoch - state.best_epoch
    return EARLY if waited >= settings.patience else ""


def _tell(
    settings: FinetuneSettings, state: State, row: dict[str, float], watch: Watch
) -> None:
    validation = (
        f", held out {row['val_loss']:.3f} {row['val_accuracy']:.3f}"
        if "val_loss" in row
        else ""
    )
    watch.reporter.message(
        f"{watch.name}: epoch {state.epoch} of {settings.epochs}, loss "
        f"{row['loss']:.3f}, accuracy {row['accuracy']:.3f}{validation}; "
        f"{_left(settings, state, watch)}"
    )


def _left(settings: FinetuneSettings, state: State, watch: Watch) -> str:
    """Why a network has stopped or how long it may take; and all that come after."""
    now, epoch = time.monotonic(), state.seconds / state.epoch
    own = min(epoch * (settings.epochs - state.epoch), max(watch.deadline - now, 0))
    text = f"at most {span(own)} left"
    if state.stopped:
        own, text = 0, f"stopped: {state.stopped}"
    later = watch.parts - watch.part - 1
    if later:
        whole = min(own + later * settings.epochs * epoch, max(watch.end - now, 0))
        text += f", at most {span(whole)} for all networks"
    return text


def _stop_not_finite(
    settings: FinetuneSettings, state: State, run: _Epoch, watch: Watch
) -> None:
    """Keeps the best weights so far, if there were any epochs.

    Raises:
        HeadError: There were none.
    """
    got = f"none in epoch {state.epoch + 1}, step {run.step}"
    advice = f"Lower `learning_rate` (now {settings.rate:g})" + (
        "" if settings.clip else ", or set `clip=1`"
    )
    if not state.history:
        raise HeadError(f"a finite loss when training {watch.name}", got, f"{advice}.")
    state.stopped = NOT_FINITE
    watch.reporter.message(
        f"{watch.name}: no finite loss, {got}; the weights of epoch "
        f"{state.best_epoch} are kept. {advice}."
    )


def _validated(net: Net, data: Data) -> dict[str, float]:
    """Log-loss and accuracy of the plain views that are held out."""
    return scores(
        data.codes[data.stop_by], net.predict(data.images.batches(data.stop_by, 0))
    )


def _fit(
    net: Net, data: Data, settings: FinetuneSettings, done: int, watch: Watch
) -> _Epoch:
    """Trains an epoch, and leaves it early when the loss or the time is up."""
    import keras

    run, steps = _Epoch(), data.steps

    class Watching(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: dict[str, float]) -> None:
            run.step = batch + 1
            run.logs = {k: float(logs[k]) for k in ("loss", "accuracy")}
            watch.tick(done * steps + run.step, settings.epochs * steps)
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
