"""``featcache finetune --on``: the network of each part as a task of Dask or Ray."""

import pickle
import shutil
import time
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from featcache.commands.finetune.fit_run import MODEL, Trained, Work
from featcache.commands.finetune.plan import RunPlan
from featcache.commands.finetune.timing import Budget
from featcache.core.progress import Messages
from featcache.core.tf import no_retracing_advice, tensorflow
from featcache.core.workers import Workers
from featcache.dataset import splits
from featcache.errors import FeatcacheError, HeadError


@dataclass(eq=False, kw_only=True)
class WorkOn(Work):
    """A run whose networks are trained by workers; it is recorded here.

    Attributes:
        workers: Where.
        temp: A folder that they see.
    """

    workers: Workers
    temp: Path = field(default_factory=Path)

    def run(self) -> Path:
        """See `Work.run`."""
        with self.workers.scratch(self.plan.reports) as self.temp:
            return super().run()

    def fit_parts(self) -> dict[int, Trained]:
        """Trains the network of each part, side by side."""
        parts, done = self.plan.parts, {}
        self.check()
        calls = [self._call(part, seconds=self._share()) for part in parts]
        self.budget.parts -= len(parts)
        with closing(self.workers.run(fit_part, calls, gpu=True)) as results:
            for number, result in results:
                if isinstance(result, str):
                    raise HeadError(
                        f"{self.plan.network.name} to be trained on "
                        f"{self.workers.text}",
                        result,
                        "Finished epochs are kept: put that right and repeat the "
                        "command.",
                    )
                done[parts[number]] = self._take(result)
                self.reporter.progress(self.plan.network.name, len(done), len(parts))
        return {part: done[part] for part in parts}

    def save_model(self, trained: Trained, path: Path) -> None:
        """See `Work.save_model`."""
        shutil.move(self.temp / MODEL, path)

    def _share(self) -> float:
        """Seconds for each network, as many at once as there are workers."""
        count = len(self.plan.parts)
        rounds = -(-count // self.workers.count)
        left = max(self.budget.end - time.monotonic(), 0)
        return left * count / self.budget.parts / rounds

    def _call(self, part: int, *, seconds: float) -> dict[str, Any]:
        return {
            "plan": pickle.dumps(self.plan),
            "part": part,
            "seconds": seconds,
            "save_to": self.temp / MODEL if part == splits.TEST else None,
        }

    def _take(self, result: "PartResult") -> Trained:
        for text in result.messages:
            self.reporter.message(text)
        if result.error:
            raise result.error
        self.counts = result.counts
        assert result.trained
        return result.trained


@dataclass(frozen=True)
class PartResult:
    """What a worker sends back.

    Attributes:
        trained: Without the network and its weights; None after an error.
        error: Why it could not be trained.
        counts: Of the network's parameters.
        messages: What was said meanwhile.
    """

    trained: Trained | None
    error: FeatcacheError | None
    counts: dict[str, int]
    messages: list[str]


def fit_part(
    plan: bytes, part: int, seconds: float, save_to: Path | None
) -> PartResult:
    """Trains the network of one part, on a worker.

    Args:
        plan: The run, pickled: the head that it starts from may be of Keras, which
            would start TensorFlow with threads of its own.
        part: Which of its networks.
        seconds: Most that it may take.
        save_to: The file for the network.
    """
    tensorflow()
    run: RunPlan = pickle.loads(plan)
    messages = Messages()
    budget = Budget(time.monotonic() + seconds, 1)
    work = Work(run, budget, messages, lambda: None, time_estimated=True)
    try:
        with no_retracing_advice(), work.images.in_use():
            trained = work.part(part)
            if save_to:
                work.save_model(trained, save_to)
    except FeatcacheError as error:
        return PartResult(None, error, {}, messages.texts)
    state = replace(trained.state, best=[], variables=[])
    return PartResult(
        replace(trained, net=None, state=state), None, work.counts, messages.texts
    )
