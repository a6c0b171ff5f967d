r"""Poolings of the last map: what each is worth where findings are small.

    FEATCACHE_REAL_DATA=... python benchmarks/pooling.py --cache CACHE
    FEATCACHE_REAL_DATA=... python benchmarks/pooling.py --cache CACHE \
        --dataset darkcovid

Without ``--dataset`` the images are generated phantoms whose findings cover 2 to 4 % of
the lung fields, in one lung. With it they are those of a dataset that was scanned into
the cache; darkcovid is scanned from $FEATCACHE_REAL_DATA/data/darkcovid/metadata.csv.
Networks are those of ``NETWORKS`` in $FEATCACHE_REAL_DATA/weights.

Each pooling is measured alone and beside the average, with each head, on the same folds
over whole groups: out-of-fold accuracy with a 95 % interval, and the difference to the
average with the p value of a sign-flip test over groups, which is not corrected for
several comparisons. Heads have their default settings unless ``--tune``. Prints a table
and appends it to benchmarks/pooling.csv with machine, versions and date.
"""

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measurements import append

import featcache
from featcache import heads
from featcache.core.taps import AVG, FEATURES, POOLING_NAMES, tap_name
from featcache.dataset import manifest
from featcache.dataset.splits import assign_folds
from featcache.evaluation import metrics
from featcache.features import store

NETWORKS = {
    "squeezenet1_1": {
        "backbones": "squeezenet1_1_imagenet.keras",
        "preprocess": "caffe",
        "input_size": 224,
    },
    "efficientnet_lite0": {"backbones": "efficientnet_lite0_imagenet.keras"},
}
FOLDS = 5
LIBRARIES = ("featcache", "keras", "openvino", "numpy", "scikit-learn")


@dataclass(frozen=True)
class Data:
    """One network's features of a dataset.

    Attributes:
        matrices: By name of the pooling, (N, D) each.
        y: (N,) classes.
        groups: (N,) groups.
        folds: (N,) folds over groups.
    """

    matrices: dict[str, np.ndarray]
    y: np.ndarray
    groups: np.ndarray
    folds: np.ndarray


def dataset_of(options: argparse.Namespace, home: Path) -> str:
    """The name of the dataset, which is scanned or generated where it is not there."""
    cache = Path(options.cache)
    if options.dataset == "darkcovid":
        source = home / "data" / "darkcovid" / "metadata.csv"
        featcache.scan(source, group_by="patient", cache=cache)
    if options.dataset:
        return str(options.dataset)
    name = f"small-lesions-{options.images}-seed{options.seed}"
    table = featcache.phantoms(
        cache / "phantoms" / name,
        options.images,
        seed=options.seed,
        small_lesions=True,
        progress=False,
    )
    featcache.scan(table, dataset=name, group_by="patient", cache=cache)
    return name


def features_of(words: dict[str, Any], name: str, cache: Path, seed: int) -> Data:
    """Extracts what is missing, and reads the plain view of all images."""
    (result,) = featcache.extract(
        name, **words, cache=cache, pooling="+".join(POOLING_NAMES), progress=False
    )
    print(f"  {result.computed} rows in {result.seconds:.0f} s", flush=True)
    taps = [tap_name(FEATURES, pooling) for pooling in POOLING_NAMES]
    loaded = featcache.load(result.path, taps=taps[1:])
    widths = [store.open_store(result.path).dims[tap] for tap in taps]
    parts = np.split(loaded.X, np.cumsum(widths)[:-1], axis=1)
    table = manifest.load(cache / name).ok.set_index("image_id")
    table = table.loc[loaded.meta["image_id"]]
    ids, labels, groups = table.index.tolist(), table["label"], table["group"]
    fold_of = assign_folds(ids, labels, groups, folds=FOLDS, test_size=0, seed=seed)
    return Data(
        dict(zip(POOLING_NAMES, parts, strict=True)),
        np.unique(labels, return_inverse=True)[1],
        groups.to_numpy(),
        np.array([fold_of[one] for one in ids]),
    )


def predictions(
    data: Data, head: str, poolings: tuple[str, ...], tune: bool
) -> np.ndarray:
    """Out-of-fold classes (N,) of a head on the poolings side by side."""
    blocks = [data.matrices[name] for name in poolings]
    X, widths = np.concatenate(blocks, axis=1), [block.shape[1] for block in blocks]
    predicted = np.full(len(X), -1)
    for fold in range(FOLDS):
        rows, held_out = data.folds != fold, data.folds == fold
        fitted = heads.make(head, blocks=widths, tune=tune)
        fitted.fit(X[rows], data.y[rows], groups=data.groups[rows])
        columns = fitted.predict_proba(X[held_out]).argmax(axis=1)
        predicted[held_out] = np.asarray(fitted.classes_)[columns]
    return predicted


def measure(
    data: Data, head: str, recipes: list[tuple[str, ...]], tune: bool
) -> list[Any]:
    """A row for each recipe; the first is what the others are compared with."""
    rows, reference = [], np.empty(0)
    for recipe in recipes:
        started = time.perf_counter()
        right = (predictions(data, head, recipe, tune) == data.y).astype(float)
        reference = reference if len(reference) else right
        low, high = metrics.group_bootstrap(right, data.groups)
        row = {
            "head": head,
            "tuned": tune,
            "pooling": "+".join(recipe),
            "width": sum(data.matrices[name].shape[1] for name in recipe),
            "accuracy": round(float(right.mean()), 4),
            "low": round(low, 4),
            "high": round(high, 4),
            "difference": round(float((right - reference).mean()), 4),
            "p": round(metrics.sign_flip(right, reference, data.groups), 4),
            "seconds": round(time.perf_counter() - started, 1),
        }
        print(
            "  {head:8}{pooling:12}{width:7}{accuracy:8.3f} [{low:.3f}, {high:.3f}]"
            "{difference:+8.3f}{p:8.3f}{seconds:8.1f} s".format(**row),
            flush=True,
        )
        rows.append(row)
    return rows


def main() -> None:
    """Parses, measures, prints and appends."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", help="folder for features", default="cache")
    parser.add_argument("--dataset", help="a scanned dataset, or darkcovid")
    parser.add_argument("--images", type=int, default=600, help="phantoms")
    parser.add_argument("--seed", type=int, default=0, help="of phantoms and folds")
    parser.add_argument("--heads", default="logreg,svm", help="with commas between")
    parser.add_argument("--tune", action="store_true", help="tune in inner folds")
    options = parser.parse_args()
    home = Path(os.environ["FEATCACHE_REAL_DATA"])
    name = dataset_of(options, home)
    others = [pooling for pooling in POOLING_NAMES if pooling != AVG]
    recipes = [(AVG,), *((one,) for one in others), *((AVG, one) for one in others)]
    rows = []
    for network, words in NETWORKS.items():
        print(f"{name}, {network}")
        file = home / "weights" / words["backbones"]
        words = words | {"backbones": file}
        data = features_of(words, name, Path(options.cache), options.seed)
        for head in options.heads.split(","):
            about = {
                "dataset": name,
                "images": len(data.y),
                "groups": len(np.unique(data.groups)),
                "network": network,
            }
            rows += [about | row for row in measure(data, head, recipes, options.tune)]
    append(Path(__file__), rows, LIBRARIES)


if __name__ == "__main__":
    main()
