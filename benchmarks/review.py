"""How many planted label errors the first images of each queue of `review` contain.

    FEATCACHE_REAL_DATA=... python benchmarks/review.py

Of darkcovid 40 labels are changed at random to another class. On SqueezeNet's features
logreg is trained as ever, but without a test set, so that every image is predicted out
of fold; then the audit runs, and each queue is asked for its first 100 images. A reader
who answers them without a mistake puts right the errors that are among them. The run is
then trained again on the labels that this reader leaves: its accuracy out of fold is by
the true labels, as is that before.

Means over ``--seeds`` with their standard deviation. "refused" and "duplicates" may
have fewer images, which the table says. Needs $FEATCACHE_REAL_DATA (data/darkcovid, and
SqueezeNet's weights). Prints the table and appends it to benchmarks/review.csv with
machine, versions and date.
"""

import argparse
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from measurements import append

import featcache
from featcache.commands.audit import audit
from featcache.commands.review import QUEUES, queue_of
from featcache.commands.train_head import train_head
from featcache.dataset import manifest
from featcache.dataset.manifest import Manifest
from featcache.dataset.splits import SplitOptions
from featcache.errors import RunError
from featcache.evaluation import runs
from featcache.evaluation.runs import Run

PLANTED, FIRST = 40, 100
LIBRARIES = ("featcache", "numpy", "scikit-learn")


def extracted(home: Path, cache: Path) -> Manifest:
    """The dataset with SqueezeNet's features."""
    source = home / "data" / "darkcovid" / "metadata.csv"
    made = featcache.scan(source, group_by="patient", cache=cache, progress=False)
    weights = home / "weights" / "squeezenet1_1_imagenet.keras"
    network = f"{weights}:preprocess=caffe,size=224"
    featcache.extract(made, network, cache=cache, progress=False)
    return made.manifest


def with_errors(clean: Manifest, seed: int) -> tuple[Manifest, set[str]]:
    """The dataset with changed labels of some images, and their ids."""
    rng, table, classes = np.random.default_rng(seed), clean.table.copy(), clean.classes
    rows = rng.permutation(clean.ok.index)[:PLANTED]
    for row, step in zip(rows, rng.integers(1, len(classes), PLANTED), strict=True):
        at = classes.index(table.loc[row, "label"])
        table.loc[row, "label"] = classes[(at + step) % len(classes)]
    noisy = replace(clean, table=table)
    manifest.save(noisy)
    return noisy, set(table.loc[rows, "image_id"])


def train(dataset: Manifest, reports: Path) -> Run:
    """An untuned logreg on all images."""
    split = SplitOptions(test_size=0)
    return train_head(dataset, reports, heads=["logreg"], split=split).runs[0]


def true_accuracy(run: Run, truth: pd.Series) -> float:
    """Its accuracy out of fold, by the true labels."""
    table = run.table.set_index("image_id")
    p = table[[runs.PROBABILITY + name for name in run.classes]].to_numpy()
    predicted = np.array(run.classes)[p.argmax(axis=1)]
    return float((predicted == truth.reindex(table.index).to_numpy()).mean())


def measure(clean: Manifest, reports: Path, seed: int) -> list[dict[str, Any]]:
    """A row a queue, of one draw of errors."""
    truth = clean.ok.set_index("image_id")["label"]
    noisy, wrong = with_errors(clean, seed)
    before = true_accuracy(train(noisy, reports), truth)
    audit(noisy, reports)
    rows = []
    for name in QUEUES:
        try:
            items = queue_of(noisy, reports, queue=name, limit=FIRST, seed=seed).items
        except RunError as error:
            print(f"{name}: {error}")
            items = []
        ids = {item.image_id for item in items}
        read = noisy.table["image_id"].isin(ids) & (noisy.table["status"] == "ok")
        label = noisy.table["label"].where(
            ~read, noisy.table["image_id"].map(truth.to_dict())
        )
        corrected = replace(noisy, table=noisy.table.assign(label=label))
        after = true_accuracy(train(corrected, reports.with_name(name)), truth)
        rows.append({"queue": name, "images": len(items), "errors": len(ids & wrong),
                     "accuracy before": before, "accuracy after": after})  # fmt: skip
    return rows


def main() -> None:
    """Measures all queues, prints the table and appends it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        clean = extracted(Path(os.environ["FEATCACHE_REAL_DATA"]), work / "cache")
        rows = []
        for seed in range(args.seeds):
            rows += measure(clean, work / f"seed{seed}" / "reports", seed)
    by_queue = pd.DataFrame(rows).groupby("queue", sort=False)
    table = by_queue.mean().round(3)
    table.insert(2, "errors sd", by_queue["errors"].std(ddof=0).round(1))
    table.insert(0, "seeds", args.seeds)
    table.insert(1, "planted", PLANTED)
    print(table.to_string())
    append(Path(__file__), table.reset_index().to_dict("records"), LIBRARIES)


if __name__ == "__main__":
    main()
