"""Where calls run side by side: on this machine, or on a Dask or Ray cluster.

A row of `ENGINES` for each, in a module of its own. An engine decides which worker has
which call, and calls again what a dead worker had.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import NamedTuple

from featcache.core.progress import SILENT, Reporter
from featcache.core.registry import Registry
from featcache.core.workers.base import Workers
from featcache.errors import UsageError

__all__ = ["ENGINES", "LOCAL", "Site", "Workers", "check_jobs", "opened"]

LOCAL = "local"
# Modules with a function ``opened``; they import their library when it is called.
ENGINES = Registry(
    "engine",
    {name: f"featcache.core.workers.{name}" for name in (LOCAL, "dask", "ray")},
)
_FORM = re.compile(r"([^:/]*)(?:://(.*))?")
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:/\[\]\s@?#]+):(\d{1,5})")


class Site(NamedTuple):
    """Where to work.

    Attributes:
        engine: A name of `ENGINES`.
        host: Of the cluster; empty for one that is started here, or joined.
        port: Likewise; 0.
    """

    engine: str
    host: str = ""
    port: int = 0

    @property
    def address(self) -> str:
        """HOST:PORT; empty without a host."""
        return f"{self.host}:{self.port}" if self.host else ""

    def __str__(self) -> str:
        return self.engine + (f"://{self.address}" if self.host else "")

    @classmethod
    def of(cls, on: str) -> "Site":
        """Reads ``local``, ``dask``, ``dask://HOST:PORT``, ``ray`` or ``ray://...``.

        Raises:
            UnknownNameError: No such engine.
            UsageError: No such address.
        """
        match = _FORM.fullmatch(on)
        name, rest = match.groups() if match else (on, None)
        ENGINES[name]
        if rest is None:
            return cls(name)
        where = _ADDRESS.fullmatch(rest)
        if name == LOCAL or not where or not 0 < int(where[2]) < 2**16:
            forms = "local, dask, dask://HOST:PORT, ray or ray://HOST:PORT"
            raise UsageError(f"`on` of the form {forms}", repr(on), "Correct it.")
        return cls(name, where[1], int(where[2]))


def check_jobs(jobs: int | None) -> None:
    """Refuses a number of processes that cannot be.

    Raises:
        UsageError: It is less than one.
    """
    if jobs is not None and jobs < 1:
        raise UsageError("`jobs` of 1 or more", str(jobs), "Leave it out.")


@contextmanager
def opened(
    on: str, *, jobs: int | None = None, reporter: Reporter = SILENT
) -> Iterator[Workers]:
    """Starts workers or connects to them, and lets them go after the block.

    Args:
        on: Where; see `Site.of`.
        jobs: Processes to start; by default one a core. A cluster that runs already
            has its own.
        reporter: Hears of calls that are repeated because their worker died.

    Raises:
        UnknownNameError: No such engine.
        UsageError: It is not installed, or cannot be reached; or ``jobs`` below 1.
    """
    site = Site.of(on)
    check_jobs(jobs)
    if site.host and jobs is not None:
        raise UsageError(
            f"`jobs` of workers that this call starts, not of {site}",
            str(jobs),
            "Leave it out: the cluster has as many workers as were started.",
        )
    engine = import_module(ENGINES[site.engine])
    with engine.opened(site, jobs or os.cpu_count() or 1, reporter) as workers:
        yield workers
