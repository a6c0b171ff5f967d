"""What the report of many runs costs.

    python benchmarks/page.py
    python benchmarks/page.py --folder /scratch --keep

1,123 generated chest phantoms (384 px), a network of random weights (64 features) and
the baselines; 20 runs: logreg and svm on the network with each transform, with and
without principal components, and on the baselines. Times ``compare`` and ``compare
--html``, each in a process of its own, and appends seconds, CPU seconds and memory to
benchmarks/page.csv.
"""

import argparse
import shutil
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

from growth import ROOT, SIDE, timed, write_network
from measurements import append

LIBRARIES = ("featcache", "numpy", "pandas", "scikit-learn", "jinja2")
IMAGES = 1123
NETWORK = ("-b", "net.xml", "--input-size", str(SIDE), "--preprocess", "tf")


def command(home: Path, *words: str) -> dict[str, Any]:
    """Runs a command on the dataset."""
    return timed(home, [str(ROOT / "cli.py"), *words])


def make_runs(home: Path) -> None:
    """20 runs on generated images."""
    command(home, "demo", "--data-only", "images", "--images", str(IMAGES))
    write_network(home / "net.xml")
    command(
        home,
        "scan",
        "images/metadata.csv",
        "--dataset",
        "page",
        "--group-by",
        "patient",
    )
    command(home, "extract", "--dataset", "page", "-b", "baselines")
    command(home, "extract", "--dataset", "page", *NETWORK)
    heads = ("-H", "logreg", "-H", "svm", "--no-tune")
    for transform, pca in product(("none", "sqrt", "l2"), ("none", "16")):
        recipe = ("--transform", transform, "--pca", pca)
        command(home, "train-head", "--dataset", "page", "-b", "net", *heads, *recipe)
    command(home, "train-head", "--dataset", "page", "-b", "baselines", *heads)
    more = ("-H", "majority", "-H", "xgboost")
    command(home, "train-head", "--dataset", "page", "-b", "net", *more)


def main() -> None:
    """Measures, prints, and appends to the CSV."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="for images and cache")
    parser.add_argument("--keep", action="store_true", help="keep what is written")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    home = (options.folder or Path(tempfile.mkdtemp(prefix="page-"))) / "page"
    try:
        if not home.exists():
            home.mkdir()
            make_runs(home)
        runs = len([*(home / "reports" / "page" / "runs").iterdir()])
        steps = {"compare": (), "compare --html": ("--html",)}
        for _, (step, words) in product(range(options.repeats), steps.items()):
            cost = command(home, "compare", "--dataset", "page", *words)
            row = {"images": IMAGES, "runs": runs, "step": step} | cost
            print(*(f"{name} {value}" for name, value in row.items()), sep="  ")
            append(Path(__file__), [row], LIBRARIES)
    finally:
        if not options.keep:
            shutil.rmtree(home)


if __name__ == "__main__":
    main()
