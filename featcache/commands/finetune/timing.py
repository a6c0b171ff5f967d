"""How long it takes: the time that is left, and an estimate before it starts."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from featcache.commands.finetune.inputs import Data
from featcache.commands.finetune.network import Net, assign, values
from featcache.commands.finetune.settings import FinetuneSettings
from featcache.core.tf import tensorflow

_TIMED = 3  # steps; the first builds the graph


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
class Pace:
    """Seconds that a batch takes.

    Attributes:
        render: To decode and render it.
        step: To train on it.
        predict: To predict it.
    """

    render: float
    step: float
    predict: float

    def epoch(self, data: Data) -> float:
        """Most seconds of an epoch and its validation."""
        # Rendering goes on beside the rest, on the same cores.
        training = data.steps * (self.render + self.step)
        return training + self.images(data, len(data.stop_by))

    def images(self, data: Data, count: int) -> float:
        """Seconds to predict so many images."""
        batches = -(-count // data.images.batch_size)
        return batches * (self.render + self.predict)


def pace(net: Net, data: Data, settings: FinetuneSettings) -> Pace:
    """Times a few steps, and puts all weights back to where they were."""
    before = values(net.variables)
    net.open(1, settings)
    batch: list[Any] = []

    def fetch() -> None:
        batch[:] = next(iter(data.epoch(1, settings).take(1)))

    render = min(_seconds(fetch) for _ in range(2))  # the first starts threads
    step = min(_seconds(net.trainer.train_on_batch, *batch) for _ in range(_TIMED))
    predict = min(_seconds(net.model.predict_on_batch, batch[0]) for _ in range(2))
    assign(net.variables, before)
    net.trainer.reset_metrics()
    return Pace(render, step, predict)


def _seconds(function: Callable[..., Any], *arguments: Any) -> float:
    started = time.monotonic()
    function(*arguments)
    return time.monotonic() - started


def span(seconds: float) -> str:
    """A time as a person says it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def on_cpu() -> bool:
    """Whether there is no GPU."""
    return not tensorflow().config.list_logical_devices("GPU")
