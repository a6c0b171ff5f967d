"""Extraction in parts: two workers against one, what parts cost, and a large array.

    python benchmarks/parts.py --source data/metadata.csv -b net.keras \
        --preprocess caffe --input-size 224
    python benchmarks/parts.py --cost
    python benchmarks/parts.py --simulate --workers 100 --images 100000000

Without an option: all parts of a plan are computed by one worker, and by two that
share them, by turns. A worker is a process on one core, and its clock starts when its
networks are open. Where other work shares the cores, parts a second of the clock say
little; parts a second of processor time say what workers cost each other.

``--cost`` plans, fills and publishes 100 and 1,000 parts of generated rows, and prints
the seconds of processor time a part and a row, and how large parts have to be for plan
and publication to be below 2 % of them. ``--simulate`` measures the same, and works out
from it what an array of tasks would do; its assumptions are printed.

All append to benchmarks/parts.csv, with the load that the machine had before.
"""

import argparse
import hashlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

LIBRARIES = ("featcache", "openvino", "h5py", "numpy", "pandas", "pillow")
FIELDS = ("what", "workers", "parts", "rows", "seconds", "cpu_seconds", "bytes")
SHAPES = ((100, 10_000), (1_000, 10_000), (100, 200_000))  # parts and rows
WIDTH = 512  # of generated rows
FIRST = (0, 1, 2)  # parts, each the first of a worker
SHARE = 0.02  # of the parts' time, for plan and publication


def cpu() -> float:
    """Seconds of processor time of this process, all threads."""
    return time.process_time()


def line(what: str, *values: Any) -> dict[str, Any]:
    """A line of the CSV."""
    load = round(os.getloadavg()[0], 1)
    return dict(zip(FIELDS, (what, *values), strict=True)) | {"load": load}


# --- workers ----------------------------------------------------------------------


def worker(folder: Path, plan: str, core: int, parts: list[int]) -> None:
    """Opens the networks with the first part, waits for a line, and does the others."""
    os.sched_setaffinity(0, {core})
    from featcache.commands.extract.computing import compute_kept

    compute_kept(folder, plan, parts[:1], session="one")
    print("ready", flush=True)
    sys.stdin.readline()
    started, spent = time.perf_counter(), cpu()
    for part in parts[1:]:
        compute_kept(folder, plan, [part], session="one")
    result = {"seconds": time.perf_counter() - started, "cpu": cpu() - spent}
    print(json.dumps(result), flush=True)


def turn(folder: Path, plan: str, shares: list[list[int]]) -> tuple[float, float]:
    """Computes parts in a process for each share.

    Returns:
        Seconds of the clock from the start to the last end, and of processor time.
    """
    parts_folder = folder / "plans" / plan / "parts"
    shutil.rmtree(parts_folder, ignore_errors=True)
    cores = sorted(os.sched_getaffinity(0))
    processes = []
    for number, parts in enumerate(shares):
        core = str(cores[number % len(cores)])
        words = [str(folder), plan, core, *map(str, parts)]
        processes.append(
            subprocess.Popen(
                [sys.executable, __file__, "--worker", *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | {"FEATCACHE_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
        )
    for one in processes:
        if one.stdout.readline().strip() != "ready":  # type: ignore[union-attr]
            sys.exit("a worker failed; see above")
    for one in processes:
        one.stdin.write("\n")  # type: ignore[union-attr]
        one.stdin.flush()  # type: ignore[union-attr]
    results = [json.loads(one.communicate()[0]) for one in processes]
    seconds = max(result["seconds"] for result in results)
    return seconds, sum(result["cpu"] for result in results)


def compare_workers(options: argparse.Namespace, home: Path) -> list[dict[str, Any]]:
    """One worker and several, by turns, with the same parts."""
    from featcache import backbones
    from featcache.commands.extract import plan_parts
    from featcache.commands.scan import scan

    dataset = scan(options.source, home / "cache", group_by="image").manifest
    network = backbones.resolve(
        options.backbone, preprocess=options.preprocess, input_size=options.input_size
    )
    plan = plan_parts(dataset, [network], parts=options.parts)
    numbers, rows = list(range(plan.parts)), sum(plan.rows.values())
    count = options.workers
    timed = numbers[count:]  # each worker opens with a part of its own
    splits = {
        1: [[0, *timed]],
        count: [[n, *timed[n::count]] for n in range(count)],
    }
    lines, ratios = [], []
    for number in range(options.turns):
        rates = {}
        for workers, shares in splits.items():
            seconds, spent = turn(dataset.folder, plan.plan, shares)
            own = rows * len(timed) // plan.parts
            values = round(seconds, 2), round(spent, 2), ""
            lines.append(line("workers", workers, len(timed), own, *values))
            rates[workers] = len(timed) / seconds, workers * len(timed) / spent
        ratios.append([b / a for a, b in zip(rates[1], rates[count], strict=True)])
        print(
            f"turn {number}: {count} workers / 1, parts a second: "
            f"{ratios[-1][0]:.2f} by the clock, {ratios[-1][1]:.2f} by processor time "
            f"(load {lines[-1]['load']})",
            flush=True,
        )
    clock, processor = (
        statistics.median(column) for column in zip(*ratios, strict=True)
    )
    cost = statistics.median(one["cpu_seconds"] / one["parts"] for one in lines)
    print(
        f"median {clock:.2f} by the clock, {processor:.2f} by processor time; "
        f"{plan.parts} parts of {rows / plan.parts:.0f} rows, {cost:.2f} s a part"
    )
    return lines


# --- what parts cost --------------------------------------------------------------


def generated(home: Path, rows: int) -> Any:
    """A dataset of so many images, of which only the first ones are there."""
    import pandas as pd

    from featcache.commands.scan import scan
    from featcache.dataset import manifest, phantom

    source = home / "images"
    if not source.exists():
        phantom.write(source, 12, size=64)
    real = scan(source, home / "cache", dataset=f"rows{rows}", group_by="image")
    table = real.manifest.table
    number = [str(n) for n in range(len(table), rows)]
    names = [f"images/{n:0>12}.png" for n in number]
    ids = [hashlib.sha256(n.encode()).hexdigest() for n in number]
    more = table.iloc[[0] * len(number)].assign(image_id=ids, path=names, group=ids)
    whole = pd.concat([table, more], ignore_index=True)
    dataset = manifest.Manifest(real.manifest.folder, real.manifest.settings, whole)
    manifest.save(dataset)
    return dataset


def fill(request: Any, work: Any) -> None:
    """In place of the networks: random rows, published as a part's store."""
    import numpy as np

    from featcache.features import store

    for job, _ in work:
        matrix = np.random.default_rng(0).random((len(job.missing), WIDTH), np.float32)
        store.seal(job.path, job.header, {"features": matrix}, job.missing)
        job.store = store.publish(job.path, job.header)


class Calls:
    """Counts what Python and HDF5 ask of the file system."""

    NAMES = frozenset(
        {
            *("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.listdir"),
            *("os.scandir", "os.link", "os.chmod"),
        }
    )

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        sys.addaudithook(self._heard)
        # Neither of them is an audit event.
        for name in ("stat", "fsync"):
            setattr(os, name, self._counted(name, getattr(os, name)))

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in self.NAMES and not (event == "open" and arguments[1] is None):
            self.counts[event.removeprefix("os.")] += 1

    def _counted(self, name: str, inner: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            self.counts[name] += 1
            return inner(*arguments, **options)

        return call

    def take(self) -> int:
        """Calls since the last time."""
        total = self.counts.total()
        self.counts.clear()
        return total


def cost(parts: int, rows: int, home: Path) -> dict[str, Any]:
    """Plans, fills and publishes parts, in this process; measures each step."""
    from featcache import backbones
    from featcache.commands.extract import computing, plan_parts, publish_parts

    dataset = generated(home, rows)
    setattr(computing, "compute", fill)  # noqa: B010
    calls = Calls()
    result: dict[str, Any] = {"parts": parts, "rows": rows}
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def measured(name: str, function: Any, *arguments: Any, **options: Any) -> Any:
        calls.take()
        started, spent = time.perf_counter(), cpu()
        value = function(*arguments, **options)
        result[f"{name}_cpu"] = cpu() - spent
        result[f"{name}_seconds"] = time.perf_counter() - started
        result[f"{name}_calls"] = calls.take()
        return value

    networks = [backbones.resolve("border")]
    batch = rows // parts
    plan = measured(
        "plan", plan_parts, dataset, networks, parts=parts, batch_size=batch
    )
    result["bytes"] = sum(p.stat().st_size for p in plan.path.iterdir() if p.is_file())
    result |= first_part(dataset.folder)
    measured("parts", computing.compute_parts, dataset.folder, range(len(FIRST), parts))
    (published,) = measured("publish", publish_parts, dataset, max_bad=1)
    if (plan.parts, published.rows) != (parts, rows):
        raise RuntimeError(f"{plan.parts} parts and {published.rows} rows")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return result | {"peak_mib": (peak - base) / 1024}


def first_part(folder: Path) -> dict[str, float]:
    """What a worker takes to check the plan and do its first part: median of three."""
    results = []
    for part in FIRST:
        words = [sys.executable, __file__, "--first", str(folder), str(part)]
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
        results.append(json.loads(done.stdout.splitlines()[-1]))
    return {name: statistics.median(r[name] for r in results) for name in results[0]}


def first_part_here(folder: Path, part: int) -> dict[str, float]:
    """One of them, in this process; memory is beyond that of the libraries."""
    from measurements import peak_memory

    from featcache.commands.extract import computing

    setattr(computing, "compute", fill)  # noqa: B010
    with peak_memory() as memory:
        started, spent = time.perf_counter(), cpu()
        computing.compute_parts(folder, [part])
        own = {"open_cpu": cpu() - spent, "open_seconds": time.perf_counter() - started}
    return own | {"worker_mib": memory["peak"] / 2**20}


def costs(home: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Measures every shape in a process of its own."""
    results = []
    for parts, rows in SHAPES:
        words = [str(parts), str(rows), str(home / f"{parts}-{rows}")]
        done = subprocess.run(
            [sys.executable, __file__, "--one", *words],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        results.append(json.loads(done.stdout.splitlines()[-1]))
    lines = [
        line(
            step,
            1,
            one["parts"],
            one["rows"],
            round(one[f"{step}_seconds"], 3),
            round(one[f"{step}_cpu"], 3),
            one["bytes"] if step == "plan" else "",
        )
        for one in results
        for step in ("open", "plan", "parts", "publish")
    ]
    return results, lines


def show_costs(results: list[dict[str, Any]]) -> None:
    """Prints the table, and from which size on parts are worth it."""
    print("seconds of processor time (of the clock), rows of", WIDTH, "numbers")
    print(
        f"{'parts':>6}{'rows':>8}{'plan':>15}{'all parts':>15}{'publish':>15}", end=""
    )
    print(f"{'a part needs':>14}{'plan, bytes':>13}")
    for one in results:
        print(f"{one['parts']:6}{one['rows']:8}", end="")
        for step in ("plan", "parts", "publish"):
            text = f"{one[f'{step}_cpu']:.2f} ({one[f'{step}_seconds']:.2f})"
            print(f"{text:>15}", end="")
        both = one["plan_cpu"] + one["publish_cpu"]
        print(f"{both / SHARE / one['parts']:12.2f} s{one['bytes']:13,}")
    print(f"a part needs: seconds, for plan and publication to be {SHARE:.0%} of parts")


def main() -> None:
    """Parses and runs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, help="folder or CSV; else phantoms")
    parser.add_argument("-b", "--backbone", default="border")
    parser.add_argument("--preprocess", default="imagenet")
    parser.add_argument("--input-size", type=int)
    parser.add_argument("--parts", type=int, default=18)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--workers", type=int, help="2, or 100 of a simulation")
    parser.add_argument("--cost", action="store_true", help="what parts cost")
    parser.add_argument("--simulate", action="store_true", help="a large array")
    parser.add_argument("--images", type=int, default=10**8)
    parser.add_argument("--part-rows", type=int, default=4096)
    parser.add_argument("--rate", type=float, default=80, help="images/s of a worker")
    parser.add_argument("--start", type=float, default=10, help="seconds of a worker")
    parser.add_argument("--killed", type=float, default=0.01, help="share of tasks")
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--first", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        folder, plan, core, *parts = options.worker
        worker(Path(folder), plan, int(core), [int(part) for part in parts])
        return
    if options.one:
        parts, rows, home = options.one
        print(json.dumps(cost(int(parts), int(rows), Path(home))))
        return
    if options.first:
        home, part = options.first
        print(json.dumps(first_part_here(Path(home), int(part))))
        return
    with tempfile.TemporaryDirectory(prefix="featcache-benchmark-") as folder:
        lines = measure(options, Path(folder))
    from measurements import append

    append(Path(__file__), lines, LIBRARIES)


def measure(options: argparse.Namespace, home: Path) -> list[dict[str, Any]]:
    """The measurement that the options name."""
    if not (options.cost or options.simulate):
        from featcache.dataset import phantom

        options.workers = options.workers or 2
        options.source = options.source or phantom.write(home / "set", 640)
        return compare_workers(options, home)
    results, lines = costs(home)
    show_costs(results)
    if options.simulate:
        from parts_simulation import simulate

        options.workers = options.workers or 100
        lines += [line(*values) for values in simulate(options, results, WIDTH)]
    return lines


if __name__ == "__main__":
    main()
