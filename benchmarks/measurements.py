"""What the benchmarks share: measurements are appended to a table."""

import csv
import os
import platform
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any


def append(script: Path, rows: list[dict[str, Any]], libraries: Sequence[str]) -> None:
    """Appends rows to the script's .csv, with machine, versions and date."""
    cores = len(os.sched_getaffinity(0))
    about = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {cores} cores, {processor()}",
        "versions": " ".join(f"{name} {version(name)}" for name in libraries),
    }
    path = script.with_suffix(".csv")
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, [*about, *rows[0]])
        if new:
            writer.writeheader()
        writer.writerows(about | line for line in rows)


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
