"""What an engine has to do."""

import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib import util
from pathlib import Path
from typing import Any, TypeVar

from featcache.core.parallel import NO_GPU, ONE_THREAD, sendable
from featcache.core.progress import Reporter
from featcache.core.scratch import scratch_folder
from featcache.core.workers.task import DONE, Outcome, expected_versions, pack
from featcache.errors import UsageError

Result = TypeVar("Result")
SECONDS = 10  # until an address that does not answer is given up
RETRIES = 3  # of a call whose worker died


class Workers(ABC):
    """Processes of one thread each, to which calls are sent.

    Attributes:
        text: Where they are, in words.
        count: How many work at once, as far as is known.
    """

    text: str
    count: int

    @abstractmethod
    def run(
        self,
        function: Callable[..., Result],
        calls: Sequence[dict[str, Any]],
        *,
        gpu: bool = False,
    ) -> Generator[tuple[int, Result | str], None, None]:
        """Calls a function with each set of arguments.

        What is still to be called when the iterator is closed is not called.

        Args:
            function: What to call; a worker imports it by its name. Calling it twice
                has to do no harm.
            calls: Its keyword arguments, a call each. Of memory maps the path is sent.
            gpu: Whether it may use a GPU where a worker has one.

        Yields:
            (number of the call, its result) as they end; a result that is a text is
            the reason why the call failed.

        Raises:
            UsageError: The workers are gone, die of a call, or cannot do this work.
        """

    @abstractmethod
    def scratch(self, home: Path) -> AbstractContextManager[Path]:
        """A folder that all workers see, removed after the block.

        Args:
            home: A folder that workers of other machines see.
        """


class ClusterWorkers(Workers):
    """Workers that may be on other machines, and see the same files.

    Args:
        text: As the user names them.
        count: How many work at once.
        reporter: Hears of calls that are repeated.
    """

    def __init__(self, text: str, count: int, reporter: Reporter) -> None:
        self.text = text
        self.count = count
        self.reporter = reporter

    def run(
        self,
        function: Callable[..., Result],
        calls: Sequence[dict[str, Any]],
        *,
        gpu: bool = False,
    ) -> Generator[tuple[int, Result | str], None, None]:
        """See `Workers.run`."""
        environment = ONE_THREAD if gpu else ONE_THREAD | NO_GPU
        common = expected_versions(), environment
        payloads = [(pack(function, sendable(one)), *common) for one in calls]
        for number, (state, result) in self.outcomes(payloads) if calls else ():
            if state != DONE:
                raise UsageError(
                    f"workers of {self.text} that can do this work",
                    result,
                    "Start them in the same environment as this call. What is done "
                    "is kept.",
                )
            yield number, result

    @abstractmethod
    def outcomes(
        self, payloads: Sequence[tuple[Any, ...]]
    ) -> Iterator[tuple[int, Outcome]]:
        """Sends the arguments of `task.starter`'s function, one task each.

        Yields:
            (number, what came of it) as they end.
        """

    @contextmanager
    def scratch(self, home: Path) -> Iterator[Path]:
        """See `Workers.scratch`."""
        with scratch_folder(home.resolve()) as folder:
            yield folder

    def report_death(self, worker: str, calls: int = 1) -> None:
        """Tells that a worker died and what it did is done again."""
        work = "the task it had is" if calls == 1 else f"the {calls} tasks it had are"
        self.reporter.message(
            f"a worker of {self.text} died ({worker}): {work} retried"
        )

    def lost(self, reason: object) -> UsageError:
        """The error of a cluster that is gone."""
        return UsageError(
            f"{self.text} was lost: {reason}",
            "Start it again, then repeat the command: what is done is kept.",
        )

    def deadly(self, reason: object) -> UsageError:
        """The error of a call of which workers die."""
        return UsageError(
            f"workers of {self.text} died {RETRIES + 1} times of the same task, "
            f"probably out of memory: {reason}",
            "Start fewer workers on each machine; what is done is kept.",
        )


def require(package: str, extra: str) -> None:
    """Refuses an engine that is not installed.

    Raises:
        UsageError: It is not.
    """
    if util.find_spec(package) is None:
        raise UsageError(
            f"`on={extra!r}` needs the package {package}, which is not installed",
            f"Run: pip install 'featcache[{extra}]'.",
        )


def refuse_unreachable(name: str, host: str, port: int) -> None:
    """Finds out within seconds whether anything listens at an address.

    Raises:
        UsageError: Nothing does.
    """
    try:
        with socket.create_connection((host.strip("[]"), port), timeout=SECONDS):
            return
    except OSError as error:
        raise unreachable(name, error.strerror or str(error)) from error


def unreachable(name: str, reason: object) -> UsageError:
    """The error of a cluster that does not answer."""
    return UsageError(
        f"a cluster that answers at {name}",
        str(reason),
        "Check the address, and that its scheduler or head node is running.",
    )
