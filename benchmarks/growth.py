r"""How seconds and memory grow with the number of images, step by step.

    python benchmarks/growth.py --images 2000 20000
    python benchmarks/growth.py --images 200000 --folder /scratch --keep

The images are generated: 32x32 PNGs of smooth noise and a faint pattern of their class,
three classes, about ten images of a patient; 2 % are copies of other images of the
same patient with a little more noise. Each step is a command in a process of its own,
on what the steps before it left: scan (groups by file name), extract of all
baselines but for 1,000 images, extract of these 1,000 (the publication of +1,000 rows),
train-head with each of two heads, compare, audit, and compare --html. Near-duplicates,
as scan finds them without groups, are a call in a process of its own that reads the
images again; the split is drawn within train-head.

CPU seconds are of all threads; memory is the most that one process held. The slope of a
step is that of the logarithm of its CPU seconds above those of an empty command,
between two numbers of images; 1 is proportional. Prints a table and appends it to
benchmarks/growth.csv with machine, versions, load and date.
"""

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from measurements import append
from PIL import Image

ROOT = Path(__file__).parents[1]
LIBRARIES = ("featcache", "numpy", "pandas", "scikit-learn", "xgboost")
CLASSES = ("covid", "normal", "pneumonia")
SIDE, COARSE = 32, 8
MORE = 1000
NEAR_DUPLICATES = """
from pathlib import Path
from featcache.dataset.manifest import load
from featcache.dataset.near_duplicates import cluster
from featcache.dataset.thumbs import read_thumbs
manifest = load(Path("cache/growth"))
paths = manifest.ok["path"].tolist()
thumbs = read_thumbs(manifest.root, paths)
print(len(set(cluster(dict(zip(paths, thumbs, strict=True))).values())), "clusters")
"""


def write_images(folder: Path, first: int, count: int, seed: int = 0) -> None:
    """Writes images number ``first`` and on, as CLASS/pPATIENT_NUMBER.png."""
    for name in CLASSES:
        (folder / name).mkdir(parents=True, exist_ok=True)
    patterns = np.random.default_rng(seed).normal(0, 12, (len(CLASSES), COARSE, COARSE))
    for start in range(first, first + count, 1000):
        rng = np.random.default_rng([seed, start])
        n = min(1000, first + count - start)
        labels = (np.arange(start, start + n) // 10) % len(CLASSES)
        fields = rng.normal(128, 45, (n, COARSE, COARSE)) + patterns[labels]
        copies = np.flatnonzero((np.arange(n) % 10 > 0) & (rng.random(n) < 0.02))
        fields[copies] = fields[copies - 1]
        greys = fields.repeat(SIDE // COARSE, axis=1).repeat(SIDE // COARSE, axis=2)
        greys += rng.normal(0, 2, greys.shape)
        for i, grey in enumerate(np.clip(greys, 0, 255).astype(np.uint8)):
            number = start + i
            file = f"p{number // 10:07d}_{number % 10}.png"
            path = folder / CLASSES[labels[i]] / file
            Image.fromarray(grey).save(path, compress_level=1)


def timed(home: Path, arguments: list[str]) -> dict[str, Any]:
    """Runs Python in a process: seconds, CPU seconds and MiB; ends if it fails."""
    load, start = os.getloadavg()[0], time.perf_counter()
    with (home / "log.txt").open("a") as log:
        log.write(f"\n$ {' '.join(arguments)[:200]}\n")
        log.flush()
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=home,
            stdout=log,
            stderr=log,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{arguments} failed; its output ends {home / 'log.txt'}")
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mib": round(usage.ru_maxrss / 1024),
        "load": round(load, 1),
    }


def steps(home: Path, images: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Runs all steps on a number of images, and yields what each cost.

    The first steps have 1,000 images fewer, which their rows say.
    """

    def command(*words: str) -> dict[str, Any]:
        return timed(home, [str(ROOT / "cli.py"), *words])

    source, report = home / "images", home / "report.html"
    scan = ("scan", "images", "--dataset", "growth", "--group-by", r"p(\d+)_")
    extract = ("extract", "--dataset", "growth", "-b", "baselines")
    train = ("train-head", "--dataset", "growth", "-b", "pixels48", "--no-tune")
    yield "empty command", command("--version")
    write_images(source, 0, images - MORE)
    first = {"images": images - MORE}
    yield "scan", command(*scan) | first
    yield "near-duplicates", timed(home, ["-c", NEAR_DUPLICATES]) | first
    yield "extract -b baselines", command(*extract) | first
    write_images(source, images - MORE, MORE)
    command(*scan)
    yield "extract +1,000", command(*extract)
    for head in ("logreg", "xgboost"):
        yield f"train-head {head}", command(*train, "-H", head, "--jobs", "1")
    yield "compare", command("compare", "--dataset", "growth")
    yield "audit", command("audit", "--dataset", "growth")
    cost = command("compare", "--dataset", "growth", "--html", str(report))
    yield "report", cost | {"report_mib": round(report.stat().st_size / 2**20, 2)}


def slopes(rows: list[dict[str, Any]]) -> None:
    """Adds to each row the slope from the row of the same step before it."""
    before: dict[str, tuple[int, float]] = {}
    empty = min(row["cpu_seconds"] for row in rows if row["step"] == "empty command")
    for row in rows:
        cost = max(row["cpu_seconds"] - empty, 0.05)
        images, last = before.get(row["step"], (0, 0.0))
        if images and images != row["images"]:
            growth = math.log(row["images"] / images)
            row["slope"] = round(math.log(cost / last) / growth, 2)
        before[row["step"]] = row["images"], cost


def main() -> None:
    """Measures, prints, and appends to the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[2000, 20_000])
    parser.add_argument("--folder", type=Path, help="for images and cache")
    parser.add_argument("--keep", action="store_true", help="keep what is written")
    options = parser.parse_args()
    names = ["images", "step", "seconds", "cpu_seconds", "peak_mib", "slope"]
    names += ["report_mib", "load"]
    rows: list[dict[str, Any]] = []
    for images in sorted(options.images):
        home = Path(tempfile.mkdtemp(prefix=f"growth{images}-", dir=options.folder))
        before = len(rows)
        try:
            for step, cost in steps(home, images):
                row = {"images": images, "step": step} | cost
                rows.append({"report_mib": "", "slope": ""} | row)
                print(*(f"{k} {v}" for k, v in row.items()), sep="  ", flush=True)
            slopes(rows)
            added = [{n: row[n] for n in names} for row in rows[before:]]
            append(Path(__file__), added, LIBRARIES)
        finally:
            if not options.keep:
                subprocess.run(["rm", "-r", str(home)], check=True)
    print("\n| " + " | ".join(names) + " |\n" + "| --- " * len(names) + "|")
    for row in rows:
        print("| " + " | ".join(str(row[name]) for name in names) + " |")


if __name__ == "__main__":
    main()
