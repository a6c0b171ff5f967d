"""Dask: processes of this machine, or the workers of a scheduler."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from featcache.core.progress import Reporter
from featcache.core.scratch import scratch_folder
from featcache.core.workers.base import (
    RETRIES,
    SECONDS,
    ClusterWorkers,
    refuse_unreachable,
    require,
    unreachable,
)
from featcache.core.workers.task import Outcome, starter
from featcache.errors import UsageError

if TYPE_CHECKING:
    from distributed import Client

    from featcache.core.workers import Site

_SILENT = logging.CRITICAL + 1
_SETTINGS = {
    "distributed.comm.timeouts.connect": f"{SECONDS}s",
    "distributed.scheduler.allowed-failures": RETRIES,
    "distributed.admin.large-graph-warning-threshold": "1GB",
}


class DaskWorkers(ClusterWorkers):
    """Workers of a Dask scheduler.

    Args:
        text: As the user names them.
        client: A connection to the scheduler.
        reporter: Hears of workers that died.
    """

    def __init__(self, text: str, client: "Client", reporter: Reporter) -> None:
        super().__init__(text, sum(client.nthreads().values()) or 1, reporter)
        self.client = client
        self.deaths: SimpleQueue[tuple[str, set[str]]] = SimpleQueue()

    def outcomes(
        self, payloads: Sequence[tuple[Any, ...]]
    ) -> Iterator[tuple[int, Outcome]]:
        """See `ClusterWorkers.outcomes`."""
        from distributed import as_completed

        self.client.subscribe_topic("all", self._note_death)
        start, mark = starter(), uuid4().hex
        numbers = {
            self.client.submit(start, *one, key=f"featcache-{mark}-{number}"): number
            for number, one in enumerate(payloads)
        }
        keys = {future.key for future in numbers}
        try:
            for future in as_completed(numbers, loop=self.client.loop):
                self._report_deaths(keys)
                outcome = self._outcome(future)
                # Else Dask computes it again when the worker that has it dies.
                future.release()
                yield numbers.pop(future), outcome
        finally:
            if self.client.status == "running":
                self.client.cancel(list(numbers), force=True)
                self.client.unsubscribe_topic("all")

    def _outcome(self, future: Any) -> Outcome:
        from distributed import KilledWorker

        try:
            outcome: Outcome = future.result()
        except KilledWorker as error:
            raise self.deadly(error.last_worker) from error
        except (CancelledError, OSError) as error:
            raise self.lost(getattr(error, "reason", error)) from error
        return outcome

    def _note_death(self, event: tuple[float, dict[str, Any]]) -> None:
        _, message = event
        if message.get("action") == "remove-worker" and not message.get("expected"):
            tasks = {str(key) for key in message.get("processing-tasks", ())}
            self.deaths.put((message["worker"], tasks))

    def _report_deaths(self, keys: set[str]) -> None:
        while True:
            try:
                worker, tasks = self.deaths.get_nowait()
            except Empty:
                return
            if tasks & keys:
                self.report_death(worker, len(tasks & keys))


@contextmanager
def opened(site: "Site", jobs: int, reporter: Reporter) -> Iterator[DaskWorkers]:
    """See `workers.opened`."""
    require("distributed", "dask")
    import dask
    from distributed import Client
    from distributed.versions import VersionMismatchWarning

    if site.host:
        refuse_unreachable(str(site), site.host, site.port)
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(_SETTINGS))
        # Versions are compared by each task.
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", VersionMismatchWarning)
        address = f"tcp://{site.address}" if site.host else _cluster(stack, jobs)
        stack.enter_context(_quiet())
        try:
            client = Client(address, timeout=SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise unreachable(str(site), error) from error
        stack.enter_context(client)
        _wait_for_workers(client, site, reporter)
        yield DaskWorkers(str(site), client, reporter)


def _cluster(stack: ExitStack, jobs: int) -> Any:
    """Workers of this machine, which end with the call."""
    from distributed import LocalCluster

    folder = stack.enter_context(scratch_folder())
    cluster = LocalCluster(
        n_workers=jobs,
        threads_per_worker=1,
        dashboard_address="127.0.0.1:0",  # else two clusters want the same port
        silence_logs=_SILENT,
        memory_limit=0,
        local_directory=str(folder),
    )
    return stack.enter_context(cluster)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps from the terminal what Dask logs of things that are reported here."""
    logger = logging.getLogger("distributed")
    level = logger.level
    logger.setLevel(_SILENT)
    try:
        yield
    finally:
        logger.setLevel(level)


def _wait_for_workers(client: "Client", site: "Site", reporter: Reporter) -> None:
    """Says so if there is no worker yet, and refuses those of several threads.

    Raises:
        UsageError: Workers have several threads.
    """
    try:
        client.wait_for_workers(1, timeout=SECONDS)
    except TimeoutError:
        reporter.message(f"{site} has no workers yet: waiting for the first")
    threads = {name: n for name, n in client.nthreads().items() if n > 1}
    if threads:
        name, count = next(iter(threads.items()))
        raise UsageError(
            f"workers of one thread each at {site}",
            f"{len(threads)} with more, such as {name} with {count}",
            "Start dask worker with nthreads 1, and with nworkers for more processes.",
        )
