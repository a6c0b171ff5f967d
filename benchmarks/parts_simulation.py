"""What an array of tasks would do, worked out from what parts cost."""

import argparse
import heapq
from typing import Any


def units(results: list[dict[str, Any]]) -> dict[str, tuple[float, float, float]]:
    """Of each figure what it is without parts, a part and a row (least squares)."""
    import numpy as np

    design = np.array([[1.0, one["parts"], one["rows"]] for one in results])
    names = [
        *("plan_cpu", "parts_cpu", "publish_cpu", "bytes", "peak_mib"),
        *("plan_calls", "parts_calls", "publish_calls"),
        *("load_cpu", "open_cpu", "manifest_mib"),
    ]
    solved = np.linalg.lstsq(design, np.array([[r[n] for n in names] for r in results]))
    return {name: tuple(solved[0][:, i]) for i, name in enumerate(names)}


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
        f"worker {options.start:g} s and what the manifest takes; plan and publication "
        "on one core; costs grow in\nproportion to parts and rows as measured up to "
        "1,000 parts and 200,000 rows; a file system that does not get slower with "
        "many\nfiles or callers."
    )

    def of(name: str) -> float:
        once, part, row = unit[name]
        return float(max(once, 0) + max(part, 0) * parts + max(row, 0) * rows)

    overhead = of("parts_cpu") / parts
    start = options.start + of("load_cpu") + of("open_cpu")
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
        f"A worker that starts: {start - options.start:,.0f} s to read the manifest "
        f"and to check it, {of('manifest_mib') / 1024:,.0f} GiB of memory for it.\n"
        f"Memory of the plan and the publication: {of('peak_mib') / 1024:,.0f} GiB."
    )
    return [
        (f"simulated {name}", workers, parts, rows, round(s), "", round(size_))
        for name, s, size_ in figures.values()
    ]
