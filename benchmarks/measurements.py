"""What the benchmarks share: measurements, appended to a table and read again."""

import csv
import os
import platform
import resource
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any


def append(script: Path, rows: list[dict[str, Any]], libraries: Sequence[str]) -> None:
    """Appends rows to the script's .csv, with machine, versions and date.

    A column that is new is added to the table, and is empty in the rows before.
    """
    cores = len(os.sched_getaffinity(0))
    about = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {cores} cores, {processor()}",
        "versions": " ".join(f"{name} {version(name)}" for name in libraries),
    }
    path = script.with_suffix(".csv")
    before = read(path) if path.exists() else []
    new = [about | row for row in rows]
    columns = list(dict.fromkeys(name for row in [*before, *new] for name in row))
    whole = not before or columns != list(before[0])
    with path.open("w" if whole else "a", newline="") as file:
        writer = csv.DictWriter(file, columns)
        if whole:
            writer.writeheader()
        writer.writerows([*before, *new] if whole else new)


def read(path: Path) -> list[dict[str, Any]]:
    """All rows of a table, as text."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


class Clock:
    """Seconds, and CPU seconds of this process and its ended children, since then."""

    def __init__(self) -> None:
        self._then = time.perf_counter(), self._cpu()

    @staticmethod
    def _cpu() -> float:
        both = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(usage.ru_utime + usage.ru_stime for usage in both)

    @property
    def seconds(self) -> float:
        """On the clock."""
        return time.perf_counter() - self._then[0]

    @property
    def cpu(self) -> float:
        """Of all threads together."""
        return self._cpu() - self._then[1]


def peak_mib() -> int:
    """The most memory that this process has had."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def load() -> float:
    """How many processes wanted a core in the last minute; 2 cores serve two."""
    return round(os.getloadavg()[0], 1)


def processor() -> str:
    """The processor's name, where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((x.split(": ")[1] for x in lines if x.startswith("model name")), "")


def version(name: str) -> str:
    """A library's version, or "none"."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "none"


@contextmanager
def peak_memory() -> Iterator[dict[str, int]]:
    """The largest RssAnon inside, in bytes beyond that at the start, as "peak"."""
    start, ended = _anonymous(), threading.Event()
    memory = {"peak": 0}

    def watch() -> None:
        while not ended.wait(0.02):
            memory["peak"] = max(memory["peak"], _anonymous() - start)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield memory
    finally:
        ended.set()
        thread.join()


def _anonymous() -> int:
    status = Path("/proc/self/status").read_text()
    line = next(x for x in status.splitlines() if x.startswith("RssAnon"))
    return int(line.split()[1]) * 1024
