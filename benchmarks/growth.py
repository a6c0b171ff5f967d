r"""How seconds and memory grow with the number of images, step by step.

    python benchmarks/growth.py --images 2000 20000
    python benchmarks/growth.py --images 200000 --folder /scratch --keep --steps scan
    python benchmarks/growth.py --images 200000 --folder /scratch --keep --steps audit

The images are generated: 32x32 PNGs of smooth noise and a faint pattern of their class,
three classes, about ten images of a patient; 2 % are copies of other images of the
same patient with a little more noise. Each step is a command in a process of its own,
on what the steps before it left: scan (groups by file name), extract of all
baselines but for 1,000 images, extract of these 1,000 (the publication of +1,000 rows),
extract of a small network of random weights (two convolutions, 64 features, 32 px), so
that the checks of runs have a run; train-head; compare, audit, and compare --html.
Near-duplicates, as scan finds them without groups, and the split are calls in processes
of their own; the first reads the images again. xgboost learns from the 64 features.

CPU seconds are of all threads; memory is the most that one process held. The slope of a
step is that of the logarithm of its CPU seconds above those of an empty command,
from the next smaller number of images in the table; 1 is proportional. Each step is
appended to benchmarks/growth.csv as it ends, with machine, versions, load and date, so
that a long call can be continued with ``--folder``, ``--keep`` and ``--steps``.
"""

import argparse
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from measurements import append
from PIL import Image

ROOT = Path(__file__).parents[1]
LIBRARIES = ("featcache", "numpy", "pandas", "scikit-learn", "xgboost")
CLASSES = ("covid", "normal", "pneumonia")
SIDE, COARSE = 32, 8
MORE = 1000
BEFORE_MORE = ("scan", "near-duplicates", "extract -b baselines")
EMPTY = 0.2  # CPU seconds of an empty command
SCAN = ("scan", "images", "--dataset", "growth", "--group-by", r"p(\d+)_")
SPLIT = """
from pathlib import Path
from featcache.dataset.manifest import load
from featcache.dataset.splits import assign_folds
images = load(Path("cache/growth")).ok
assign_folds(images["image_id"].tolist(), images["label"], images["group"])
"""
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


def write_network(path: Path) -> None:
    """Writes a network of random weights (64 features of 32x32) as OpenVINO IR."""
    import openvino as ov
    from openvino import opset13 as ops

    rng = np.random.default_rng(0)
    image = ops.parameter([-1, SIDE, SIDE, 3], np.float32, name="image")
    value = ops.transpose(image, np.array([0, 3, 1, 2]))
    for n_in, n_out in ((3, 16), (16, 64)):
        kernel = rng.normal(0, (2 / 9 / n_in) ** 0.5, (n_out, n_in, 3, 3))
        value = ops.convolution(
            value, kernel.astype(np.float32), [2, 2], [1, 1], [1, 1], [1, 1]
        )
        value = ops.relu(value)
    value = ops.reduce_mean(value, np.array([2, 3]), keep_dims=False)
    network = ov.Model([ops.result(value)], [image], "net")
    ov.save_model(network, path, compress_to_fp16=False)


@dataclass(frozen=True)
class Steps:
    """The steps on a number of images, in a folder of their own.

    Attributes:
        home: The folder.
        images: Their number; the first steps have 1,000 fewer.
    """

    home: Path
    images: int

    def names(self) -> dict[str, Callable[[], dict[str, Any]]]:
        """Each step, in order, and what runs it."""
        network = ("-b", "net.xml", "--input-size", str(SIDE), "--preprocess", "tf")
        return {
            "empty command": partial(self.command, "--version"),
            "scan": self.scan,
            "near-duplicates": partial(self.call, NEAR_DUPLICATES),
            "extract -b baselines": partial(self.extract, "-b", "baselines"),
            "extract +1,000": self.extract_more,
            "extract network": partial(self.extract, *network),
            "split": partial(self.call, SPLIT),
            "train-head logreg": partial(self.train, "pixels48", "logreg"),
            "train-head logreg, network": partial(self.train, "net", "logreg"),
            "compare": partial(self.command, "compare", "--dataset", "growth"),
            "audit": partial(self.command, "audit", "--dataset", "growth"),
            "report": self.report,
            "train-head xgboost, network": partial(self.train, "net", "xgboost"),
        }

    def command(self, *words: str) -> dict[str, Any]:
        """Runs a command."""
        return timed(self.home, [str(ROOT / "cli.py"), *words])

    def call(self, code: str) -> dict[str, Any]:
        """Runs Python code."""
        return timed(self.home, ["-c", code])

    def scan(self) -> dict[str, Any]:
        """Writes all images but 1,000, and scans them."""
        write_images(self.home / "images", 0, self.images - MORE)
        write_network(self.home / "net.xml")
        return self.command(*SCAN)

    def extract(self, *words: str) -> dict[str, Any]:
        """Extracts features."""
        return self.command("extract", "--dataset", "growth", *words)

    def extract_more(self) -> dict[str, Any]:
        """Writes and scans 1,000 images more, and extracts their baselines."""
        write_images(self.home / "images", self.images - MORE, MORE)
        self.command(*SCAN)
        return self.extract("-b", "baselines")

    def train(self, backbone: str, head: str) -> dict[str, Any]:
        """Trains a head."""
        words = ("-b", backbone, "-H", head, "--no-tune", "--jobs", "1")
        return self.command("train-head", "--dataset", "growth", *words)

    def report(self) -> dict[str, Any]:
        """Writes the page."""
        page = self.home / "report.html"
        cost = self.command("compare", "--dataset", "growth", "--html", str(page))
        return cost | {"report_mib": round(page.stat().st_size / 2**20, 2)}


def slope(row: dict[str, Any]) -> float | str:
    """The slope of a step from the next smaller number of images in the table."""
    path = Path(__file__).with_suffix(".csv")
    table = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=[*row])
    cost = max(row["cpu_seconds"] - EMPTY, 0.05)
    before = table[(table["step"] == row["step"]) & (table["images"] < row["images"])]
    if before.empty:
        return ""
    last = before.sort_values(["images", "date"]).iloc[-1]
    less = max(float(last["cpu_seconds"]) - EMPTY, 0.05)
    growth = math.log(row["images"] / last["images"])
    return round(math.log(cost / less) / growth, 2)


def main() -> None:
    """Measures, prints, and appends to the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[2000, 20_000])
    parser.add_argument("--folder", type=Path, help="for images and cache")
    parser.add_argument("--keep", action="store_true", help="keep what is written")
    parser.add_argument("--steps", nargs="+", help="only these; by default all")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="growth-"))
    names = ["images", "step", "seconds", "cpu_seconds", "peak_mib", "slope"]
    names += ["report_mib", "load"]
    for images in sorted(options.images):
        home = folder / f"growth{images}"
        home.mkdir(parents=True, exist_ok=True)
        try:
            for step, run in Steps(home, images).names().items():
                if options.steps and step not in options.steps:
                    continue
                n = images - MORE if step in BEFORE_MORE else images
                row = {"images": n, "step": step, "report_mib": ""} | run()
                row["slope"] = slope(row)
                append(Path(__file__), [{name: row[name] for name in names}], LIBRARIES)
                print(*(f"{name} {row[name]}" for name in names), sep="  ", flush=True)
        finally:
            if not options.keep:
                shutil.rmtree(home)


if __name__ == "__main__":
    main()
