"""What an array of tasks would do, worked out from what parts cost."""

import argparse
import heapq
from typing import Any

OF_ALL = (
    *("plan_cpu", "parts_cpu", "publish_cpu", "bytes", "peak_mib"),
    *("plan_calls", "parts_calls", "publish_calls"),
)
OF_WORKERS = ("open_cpu", "worker_mib")


def units(results: list[dict[str, Any]]) -> dict[str, tuple[float, float, float]]:
    """Of each figure what it is without parts, a part and a row (least squares).

    A row of all parts; for a worker, which does one, of its part.
    """
    import numpy as np

    design = np.array([[1.0, one["parts"], one["rows"]] for one in results])
    of_part = design.copy()
    of_part[:, 2] /= of_part[:, 1]
    return {
        name: tuple(np.linalg.lstsq(rows, np.array([r[name] for r in results]))[0])
        for names, rows in ((OF_ALL, design), (OF_WORKERS, of_part))
        for name in names
    }


def simulate(
    options: argparse.Namespace, results: list[dict[str, Any]], width: int
) -> list[tuple[Any, ...]]:
    """Works out an array from the costs; tasks are drawn, with kills and retries.

    Args:
        options: Of the command line: images, workers, part_rows, rate, start, killed.
        results: What parts of several shapes cost.
        width: Numbers in a row.

    Returns:
        The values of a line of the CSV for plan, parts and publication.
    """
    import numpy as np

    unit = units(results)
    rows, workers, size = options.images, options.workers, options.part_rows
    parts = -(-rows // size)
    rng = np.random.default_rng(0)
    print(
        f"Assumed: {rows:,} images in one plain view by one network, {parts:,} parts "
        f"of {size:,} rows of {width} numbers;\n{workers} workers of one core, "
        f"{options.rate:g} images a second each, part by part within 10 % (1 sd); "
        f"{options.killed:.0%} of the tasks killed half way\nand repeated; starting a "
        f"worker {options.start:g} s and what the plan takes; plan and publication "
        "on one core; costs grow in\nproportion to parts and rows as measured up to "
        "1,000 parts and 200,000 rows; a file system that does not get slower with "
        "many\nfiles or callers."
    )

    def of(name: str) -> float:
        once, part, row = unit[name]
        count = size if name in OF_WORKERS else rows
        return float(max(once, 0) + max(part, 0) * parts + max(row, 0) * count)

    overhead = of("parts_cpu") / parts
    start = options.start + of("open_cpu")
    free = [start] * workers
    heapq.heapify(free)
    waiting, tries = parts, 0
    while waiting:
        seconds = size / options.rate * max(rng.normal(1, 0.1), 0.5) + overhead
        killed = rng.random() < options.killed
        begin = heapq.heappop(free)
        heapq.heappush(free, begin + (seconds / 2 + start if killed else seconds))
        waiting -= not killed
        tries += 1
    clock = max(free)
    busy = parts * size / options.rate
    figures = {
        "plan": ("plan", of("plan_cpu"), of("bytes")),
        "parts": ("parts", clock, 0),
        "publish": ("publish", of("publish_cpu"), 0),
    }
    both = figures["plan"][1] + figures["publish"][1]
    made = sum(of(f"{step}_calls") for step in figures)
    print(
        f"Plan: {of('bytes'):,.0f} bytes, {figures['plan'][1]:,.0f} s.\n"
        f"Parts: {tries:,} tasks, {clock / 3600:,.1f} h of the clock, "
        f"{busy / workers / clock:.1%} of it in images; each reads "
        f"{of('bytes') / parts / 1e3:,.0f} kB of rows.\n"
        f"Publication: {figures['publish'][1]:,.0f} s.\n"
        f"Plan and publication: {both / clock:.1%} of the clock of the parts, "
        f"{both / (busy + overhead * parts):.2%} of their processor time.\n"
        f"Calls to the file system: {made:,.0f} "
        f"(plan {of('plan_calls'):,.0f}, parts {of('parts_calls'):,.0f}, "
        f"publication {of('publish_calls'):,.0f}), "
        f"{of('parts_calls') / clock:,.0f} a second while parts are computed.\n"
        f"A worker that starts: {start - options.start:,.1f} s to check the plan, and "
        f"for what is not images of its first part; {of('worker_mib'):,.0f} MiB.\n"
        f"Memory of the plan and the publication: {of('peak_mib') / 1024:,.0f} GiB."
    )
    return [
        (f"simulated {name}", workers, parts, rows, round(s), "", round(size_))
        for name, s, size_ in figures.values()
    ]
