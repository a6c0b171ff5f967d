"""Ray: processes of this machine, or the cluster that it belongs to."""

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from featcache.core.progress import Reporter
from featcache.core.text import first_line
from featcache.core.workers.base import (
    RETRIES,
    ClusterWorkers,
    refuse_unreachable,
    require,
    unreachable,
)
from featcache.core.workers.task import Outcome, starter

if TYPE_CHECKING:
    from featcache.core.workers import Site

_STORE_BYTES = 2**28  # shared memory of a Ray that is started here; results are small


class RayWorkers(ClusterWorkers):
    """Processes of a Ray cluster, as many as it has cores."""

    def outcomes(
        self, payloads: Sequence[tuple[Any, ...]]
    ) -> Iterator[tuple[int, Outcome]]:
        """See `ClusterWorkers.outcomes`."""
        import ray

        task = ray.remote(num_cpus=1, max_retries=RETRIES)(_with_attempt(starter()))
        numbers = {task.remote(*one): number for number, one in enumerate(payloads)}
        waiting = list(numbers)
        try:
            while waiting:
                (ready, *_), waiting = ray.wait(waiting, num_returns=1)
                attempt, process, outcome = self._get(ready)
                if attempt:
                    self.report_death(f"its task was done by {process}")
                yield numbers[ready], outcome
        finally:
            for one in waiting:
                with suppress(Exception):  # a cluster that is gone has stopped
                    ray.cancel(one, force=True)

    def _get(self, ready: Any) -> tuple[int, str, Outcome]:
        import ray
        from ray import exceptions

        try:
            attempt, process, outcome = ray.get(ready)
        except (exceptions.WorkerCrashedError, exceptions.OutOfMemoryError) as error:
            raise self.deadly(first_line(error)) from error
        except (
            exceptions.RaySystemError,
            exceptions.LocalRayletDiedError,
            exceptions.NodeDiedError,
            ConnectionError,
        ) as error:
            raise self.lost(first_line(error)) from error
        return attempt, process, outcome


def _with_attempt(start: Any) -> Any:
    """Lets a task say how often its worker died before; sent as code as well."""

    def attempted(*arguments: Any) -> tuple[int, str, tuple[str, Any]]:
        import os
        import socket

        from ray._private.worker import global_worker

        # Ray says it nowhere else to a task.
        core = global_worker.core_worker
        attempt = getattr(core, "get_current_task_attempt_number", lambda: 0)()
        process = f"process {os.getpid()} on {socket.gethostname()}"
        return attempt, process, start(*arguments)

    return attempted


@contextmanager
def opened(site: "Site", jobs: int, reporter: Reporter) -> Iterator[RayWorkers]:
    """See `workers.opened`."""
    require("ray", "ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would call home
    import ray

    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # of Ray's own future
        if not ray.is_initialized():  # it may be the caller's
            stack.callback(ray.shutdown)
            _connect(site, jobs)
        count = int(ray.cluster_resources().get("CPU", 1))
        yield RayWorkers(str(site), max(count, 1), reporter)


def _connect(site: "Site", jobs: int) -> None:
    import ray

    quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if site.host:
        refuse_unreachable(str(site), site.host, site.port)
        try:
            ray.init(str(site), **quiet)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise unreachable(str(site), first_line(error)) from error
        return
    started = {
        "num_cpus": jobs,
        "include_dashboard": False,
        "object_store_memory": _STORE_BYTES,
    }
    try:  # joins what ``ray start`` began, but not what another call started for itself
        ray.init(**started, **quiet)
    except ValueError:  # that one has its own size
        ray.init("auto", **quiet)
