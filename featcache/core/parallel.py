"""Calls side by side in processes of one thread each."""

import os
import signal
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np

from featcache.core import scratch
from featcache.errors import FeatcacheError, UsageError

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

THREADS = "FEATCACHE_THREADS"  # set in worker processes
Item = TypeVar("Item")
Result = TypeVar("Result")

_BLAS = ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMEXPR")
ONE_THREAD = {
    **{f"{name}_NUM_THREADS": "1" for name in _BLAS},
    "VECLIB_MAXIMUM_THREADS": "1",
    THREADS: "1",
}
NO_GPU = {"CUDA_VISIBLE_DEVICES": "-1"}
_IDLE_SECONDS = 60  # until a worker without work ends
_POLL_SECONDS = 0.5
_AHEAD = 4  # calls a thread that are begun, or done, before their turn


def side_by_side(
    function: Callable[..., Result], calls: Sequence[dict[str, Any]], n_jobs: int
) -> Generator[tuple[int, Result | str], None, None]:
    """Calls a function with each set of arguments in parallel processes.

    Each process has one thread: calls side by side are many times faster than threads
    that fight each other, and sums do not depend on how many threads share them. So a
    single job has a process of its own as well, unless this one is limited to one
    thread by ``$FEATCACHE_THREADS``.

    No process is left behind when the iterator is closed, on Ctrl-C, or when this
    process is killed.

    Args:
        function: What to call.
        calls: Its keyword arguments, a call each. Memory maps are opened again in the
            process, and not sent.
        n_jobs: Parallel processes.

    Yields:
        (number of the call, its result) as they end; a result that is a text is the
        reason why the call failed.

    Raises:
        UsageError: A process was killed, most likely out of memory.
    """
    if n_jobs == 1 and has_one_thread():
        for number, arguments in enumerate(calls):
            yield number, call(function, arguments)
    elif calls:
        with warnings.catch_warnings():
            # Workers that grew too large are replaced; that is no news to a user.
            warnings.filterwarnings("ignore", "A worker stopped", UserWarning)
            yield from _in_workers(function, calls, min(n_jobs, len(calls)))


def in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], n_threads: int
) -> Generator[Result, None, None]:
    """Calls a function with each item in threads; holds a bounded number of both.

    Yields:
        The results, in order.
    """
    if n_threads == 1:
        yield from map(function, items)
        return
    waiting = iter(items)
    with ThreadPoolExecutor(n_threads) as pool:
        running = deque(
            pool.submit(function, item) for item in islice(waiting, _AHEAD * n_threads)
        )
        try:
            while running:
                yield running.popleft().result()
                running.extend(
                    pool.submit(function, item) for item in islice(waiting, 1)
                )
        finally:
            for future in running:
                future.cancel()


@contextmanager
def one_thread() -> Iterator[None]:
    """Limits BLAS and OpenMP to one thread, so that sums have one order."""
    if all(os.environ.get(name) == "1" for name in ONE_THREAD):
        yield  # as they began
        return
    with _pools(len(sys.modules)).limit(limits=1):
        yield


@lru_cache(maxsize=1)
def _pools(n_modules: int) -> "ThreadpoolController":
    """The thread pools of what is loaded; to look for them takes milliseconds."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def has_one_thread() -> bool:
    """Whether this process was limited to one thread before TensorFlow started."""
    if os.environ.get(THREADS) != "1":
        return False
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None:
        return True
    return bool(tensorflow.config.threading.get_intra_op_parallelism_threads() == 1)


def _in_workers(
    function: Callable[..., Result], calls: Sequence[dict[str, Any]], n_workers: int
) -> Generator[tuple[int, Result | str], None, None]:
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    executor = _executor(n_workers, os.getpid())
    try:
        waiting = iter(enumerate(calls))
        running: dict[Future[Result | str], int] = {}
        while True:
            # A few at a time: what loky has not yet sent to a worker when it is shut
            # down makes it print a traceback.
            for number, arguments in islice(waiting, 2 * n_workers - len(running)):
                future = executor.submit(call, function, sendable(arguments))
                running[future] = number
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()
    except TerminatedWorkerError as error:
        _executor.cache_clear()
        raise UsageError(
            "a worker process was killed, probably out of memory",
            "Try fewer `jobs`; finished work is kept.",
        ) from error
    except BaseException:
        _executor.cache_clear()
        executor.shutdown(wait=True, kill_workers=True)
        raise


@lru_cache(maxsize=1)
def _executor(n_workers: int, pid: int) -> Any:
    """Workers that are kept for the next call; joblib's own are left alone."""
    from joblib.externals.loky import ProcessPoolExecutor

    return ProcessPoolExecutor(
        max_workers=n_workers,
        timeout=_IDLE_SECONDS,
        initializer=_start_worker,
        initargs=(pid,),
        env=ONE_THREAD | NO_GPU,
    )


def call(function: Callable[..., Result], arguments: dict[str, Any]) -> Result | str:
    """Calls a function in one thread, with the memory maps that `sendable` names.

    Returns:
        Its result, or as a text the reason why it failed.
    """
    mapped = {k: v.open() for k, v in arguments.items() if isinstance(v, _Mapped)}
    try:
        with one_thread():
            return function(**arguments | mapped)
    except FeatcacheError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001
        # Whatever foreign code raises is recorded as the reason of its failure.
        return f"{type(error).__name__}: {error}"


@dataclass(frozen=True)
class _Mapped:
    """A memory map of a file, as it is sent to another process."""

    path: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int

    @classmethod
    def of(cls, array: np.memmap[Any, Any]) -> Self:
        return cls(str(array.filename), array.dtype, array.shape, array.offset)

    def open(self) -> np.ndarray:
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape)


def sendable(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments with the paths of memory-mapped files in place of their content."""
    return {
        name: _Mapped.of(value) if isinstance(value, np.memmap) else value
        for name, value in arguments.items()
    }


def _start_worker(parent: int) -> None:
    # A signal to the whole group or session is its parent's to answer.
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """Ends this process soon after its parent, whatever killed that one."""
    while os.getppid() == parent:
        time.sleep(_POLL_SECONDS)
    scratch.sweep()
    os._exit(1)
