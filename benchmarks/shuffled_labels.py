"""What it costs to ask whether shuffled labels can be learned (FC041).

    python benchmarks/shuffled_labels.py --images 1000 10000 50000

The check alone, on generated features (512 numbers in float32, three classes, three
images a group, 5 folds), each number of images in a process of its own. Appends
seconds, CPU seconds, the most memory, and the slopes of CPU seconds and of memory
beyond those of a process that only makes the features, to
benchmarks/shuffled_labels.csv.
"""

import argparse
import math
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
from growth import timed
from measurements import append

from featcache.commands.audit import labels
from featcache.commands.audit.probe import LinearProbe
from featcache.core.progress import SILENT

LIBRARIES = ("featcache", "numpy", "scikit-learn")
FEATURES, CLASSES, FOLDS = 512, ["a", "b", "c"], 5


def probe(images: int) -> LinearProbe:
    """Features whose classes are apart, and the rows of a run."""
    rng = np.random.default_rng(0)
    groups = np.arange(images) // 3
    y = groups % len(CLASSES)
    X = rng.normal(size=(images, FEATURES)).astype(np.float32)
    X[:, : len(CLASSES)] += 2 * np.eye(len(CLASSES), dtype=np.float32)[y]
    table = pd.DataFrame({
        "image_id": np.arange(images).astype(str), "group": groups.astype(str),
        "label": np.array(CLASSES)[y], "fold": groups // len(CLASSES) % FOLDS,
    })  # fmt: skip
    run: Any = SimpleNamespace(run_id="generated", classes=CLASSES)
    return LinearProbe(run, X, table)


def check(images: int) -> None:
    """Runs the check."""
    made = probe(images)
    context: Any = SimpleNamespace(images=made.table, reporter=SILENT)
    (run,) = [one for one in labels.CHECKS if one.code == "FC041"]
    with patch.object(LinearProbe, "of", return_value=made):
        run.run(context)


def main() -> None:
    """Measures, prints, and appends to the CSV."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 10_000, 50_000])
    parser.add_argument("--only", choices=("check", "features"), help="in this process")
    options = parser.parse_args()
    if options.only:
        {"check": check, "features": probe}[options.only](options.images[0])
        return
    before: dict[str, Any] = {}
    for images in sorted(options.images):
        words = [__file__, "--images", str(images), "--only"]
        with tempfile.TemporaryDirectory() as home:
            empty = timed(Path(home), [*words, "features"])
            cost = timed(Path(home), [*words, "check"])
        own = {name: cost[name] - empty[name] for name in ("cpu_seconds", "peak_mib")}
        row = {"images": images} | cost
        for name, value in own.items():
            row[f"{name} of the check"] = round(value, 1)
            row[f"slope of {name}"] = ""
            if before and min(value, before[name]) > 0:
                growth = math.log(images / before["images"])
                slope = math.log(value / before[name]) / growth
                row[f"slope of {name}"] = round(slope, 2)
        before = own | {"images": images}
        print(*(f"{name} {value}" for name, value in row.items()), sep="  ", flush=True)
        append(Path(__file__), [row], LIBRARIES)


if __name__ == "__main__":
    main()
