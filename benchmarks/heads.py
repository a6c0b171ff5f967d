"""Heads, side by side: cached features to out-of-fold predictions and a refit.

    python benchmarks/heads.py
    python benchmarks/heads.py --store cache/xrays/features/densenet121-....h5 --views 2
    python benchmarks/heads.py --heads all --against ../featcache-before

Each measurement trains on 5 folds by group and refits on all images, in a process of
its own that has loaded its libraries; the variants take turns, so that a noisy machine
is noisy for all of them. Prints medians and ratios, and appends every measurement to
benchmarks/heads.csv, with the load that the machine had before.

Variants, of each head that they know:
    featcache   the folds side by side, one thread each, start of the workers included
    plain       scikit-learn, XGBoost or Keras in a loop, their own threads; for logreg
                StandardScaler and LogisticRegressionCV over the same values of C with
                GroupKFold; for Keras the study's SGD, 20 epochs of batches of 32
    before      featcache of another checkout (`--against`), in the same way
    all         every head of the table in one call of featcache, default options

CPU seconds are those of the fits alone, one thread each; on a machine that others use,
they tell more than the seconds on the clock.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measurements import append

HEADS = ("logreg", "softmax", "mlp", "mlp-dropout", "xgboost")
LIBRARIES = ("featcache", "scikit-learn", "xgboost", "tensorflow", "keras", "numpy")
FOLDS = 5
SLOW_FIRST = ("xgboost", "mlp-dropout", "mlp", "svm", "logreg", "softmax")


def generate(images: int, width: int, views: int, seed: int = 0) -> dict[str, Any]:
    """Embeddings of three classes that a linear head tells apart at about 0.85.

    Correlated and cut off at zero like pooled feature maps; patients of one to a few
    images, views that differ less than images do.
    """
    rng = np.random.default_rng(seed)
    groups = np.sort(rng.integers(0, images // 2, images))
    y = rng.integers(0, 3, groups.max() + 1)[groups]
    spectrum = np.arange(1, width + 1) ** -0.7
    mix = rng.normal(size=(width, width)) / np.sqrt(width)

    def maps(rows: int) -> np.ndarray:
        return np.asarray((rng.normal(size=(rows, width)) * spectrum) @ mix)

    plain = 0.15 * maps(3)[y] + 0.7 * maps(groups.max() + 1)[groups] + maps(images)
    X = np.stack([plain, *(plain + 0.3 * maps(images) for _ in range(views))], axis=1)
    X = np.maximum(X / X.std() + 0.5, 0).astype(np.float32)
    return {"X": X, "y": y, "groups": groups}


def read(path: Path, views: int) -> dict[str, Any]:
    """A real store, with its labels as numbers."""
    import featcache

    found = featcache.load(path, views=views)
    plain = found.meta["view"].to_numpy() == 0
    return {
        "X": found.X.reshape(plain.sum(), views + 1, -1),
        "y": np.unique(found.y[plain], return_inverse=True)[1],
        "groups": np.unique(found.groups[plain], return_inverse=True)[1],
    }


def parts(y: np.ndarray, groups: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Training and held-out images of each fold; last, all and none."""
    from sklearn.model_selection import StratifiedGroupKFold

    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    return [*splitter.split(y, y, groups), (np.arange(len(y)), np.arange(0))]


def featcache(names: list[str], data: dict[str, Any], jobs: int) -> dict[str, Any]:
    """What ``featcache train-head`` does between reading and recording."""
    from featcache import heads
    from featcache.core.parallel import side_by_side

    y, groups = data["y"], data["groups"]
    folds = parts(y, groups)
    calls = [
        {
            "head": heads.make(name),
            "train": train,
            "held_out": held,
            "n_classes": int(y.max()) + 1,
            "tta": True,
            **data,
        }
        for name in sorted(names, key=[*SLOW_FIRST, *heads.HEADS].index)
        for train, held in folds
    ]
    right: dict[str, int] = defaultdict(int)
    cpu: dict[str, float] = defaultdict(float)
    started = time.perf_counter()
    for number, result in side_by_side(timed_fit, calls, jobs):
        assert isinstance(result, tuple), result
        p, spent = result
        name, held = calls[number]["head"].name, calls[number]["held_out"]
        right[name] += int((p.argmax(1) == y[held]).sum())
        cpu[name] += spent
    seconds = time.perf_counter() - started
    accuracy = {n: right[n] / len(y) for n in names}
    return {"seconds": seconds, "accuracy": accuracy, "cpu": cpu}


def timed_fit(**call: Any) -> tuple[np.ndarray, float]:
    """Probabilities of the held-out images, and CPU seconds."""
    from featcache.evaluation.fitting import fit_predict

    started = time.process_time()
    p = fit_predict(**call).p
    return p, time.process_time() - started


def plain(name: str, data: dict[str, Any], jobs: int) -> dict[str, Any]:
    """The same folds in a loop, as one would write it."""
    X, y, groups = data["X"], data["y"], data["groups"]
    views, width = X.shape[1:]
    train_on = _plain(name, jobs)
    folds = parts(y, groups)
    right = 0
    started = time.perf_counter()
    for train, held in folds:
        rows = X[train].reshape(-1, width)
        again = np.repeat(train, views)
        predict = train_on(rows, y[again], groups[again])
        if len(held):
            p = predict(X[held].reshape(-1, width)).reshape(len(held), views, -1)
            right += int((p.mean(axis=1).argmax(axis=1) == y[held]).sum())
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "accuracy": {name: right / len(y)}}


def _plain(name: str, jobs: int) -> Callable[..., Callable[[np.ndarray], np.ndarray]]:
    return {"logreg": _logreg, "xgboost": _xgboost}.get(name, _keras)(name, jobs)


def _logreg(name: str, jobs: int) -> Callable[..., Any]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from featcache.heads.linear import PATH

    # Its 100 iterations do not reach the end where C is large.
    warnings.simplefilter("ignore", ConvergenceWarning)
    os.environ["PYTHONWARNINGS"] = "ignore"  # in its workers too

    def train(X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> Any:
        folds = list(GroupKFold(5).split(X, y, groups))
        model = LogisticRegressionCV(
            Cs=PATH,
            cv=folds,
            scoring="neg_log_loss",
            n_jobs=jobs,
            use_legacy_attributes=False,
        )
        return make_pipeline(StandardScaler(), model).fit(X, y).predict_proba

    return train


def _xgboost(name: str, jobs: int) -> Callable[..., Any]:
    from xgboost import XGBClassifier

    def train(X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> Any:
        model = XGBClassifier(
            n_estimators=300, max_depth=4, learning_rate=0.1, n_jobs=jobs
        )
        return model.fit(X, y).predict_proba

    return train


def _keras(name: str, jobs: int) -> Callable[..., Any]:
    from sklearn.preprocessing import StandardScaler

    from featcache.core.tf import tensorflow

    tensorflow()
    import keras

    def train(X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> Any:
        layers = [keras.layers.Input((X.shape[1],))]
        if name != "softmax":
            layers.append(keras.layers.Dense(500, "relu"))
            if name == "mlp-dropout":
                layers.append(keras.layers.Dropout(0.5))
            layers.append(keras.layers.Dense(200, "relu"))
        classes = int(y.max()) + 1
        model = keras.Sequential([*layers, keras.layers.Dense(classes, "softmax")])
        rate = keras.optimizers.schedules.InverseTimeDecay(0.01, 1, 1e-6)
        model.compile(
            keras.optimizers.SGD(rate, momentum=0.9, nesterov=True),
            "categorical_crossentropy",
            metrics=["accuracy"],
        )
        scaler = StandardScaler().fit(X)
        order = np.random.default_rng(0).permutation(len(X))
        model.fit(
            scaler.transform(X)[order],
            np.eye(classes)[y][order],
            batch_size=32,
            epochs=20,
            validation_split=0.1,
            verbose=0,
        )
        return lambda held: model.predict(scaler.transform(held), verbose=0)

    return train


def measure(variant: str, name: str, file: Path, jobs: int) -> dict[str, Any]:
    """Runs one variant in this process."""
    data = dict(np.load(file))
    if variant == "plain":
        return plain(name, data, jobs)
    from featcache.heads import HEADS as TABLE

    return featcache([*TABLE] if name == "all" else [name], data, jobs)


def run(variant: str, name: str, file: Path, options: Any) -> dict[str, Any]:
    """Measures in a process of its own, which has one checkout of featcache."""
    load = os.getloadavg()[0]
    command = [sys.executable, __file__, "--one", variant, name, str(file)]
    command += ["--jobs", str(options.jobs)]
    checkout = options.against if variant == "before" else Path(__file__).parents[1]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(checkout.resolve())},
    )
    if done.returncode:
        sys.exit(f"{variant} {name}: {done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result | {"load": round(load, 1)}


def side_by_side(options: argparse.Namespace, file: Path) -> list[dict[str, Any]]:
    """Every head in both variants, taking turns; prints medians and ratios."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for _ in range(options.repeats):
        for name in options.heads:
            for variant in options.variants:
                if (variant, name) == ("plain", "all"):
                    continue
                one = run(variant, name, file, options)
                found[variant, name].append(one)
                print(f"{name:12} {variant:10} {one['seconds']:7.1f} s", flush=True)
    show(found, options)
    return [
        {
            "variant": variant,
            "head": name,
            "rows": options.rows,
            "seconds": round(one["seconds"], 2),
            "accuracy": " ".join(f"{n}={a:.4f}" for n, a in one["accuracy"].items()),
            "load": one["load"],
            "cpu": " ".join(f"{n}={s:.1f}" for n, s in one.get("cpu", {}).items()),
        }
        for (variant, name), ones in found.items()
        for one in ones
    ]


def show(found: Any, options: argparse.Namespace) -> None:
    """Prints the tables: seconds are medians, the ratio is that of medians."""
    if options.against:
        show_cpu(found)
    other = "before" if options.against else "plain"
    print(f"{'head':13}{'featcache s':>12}{other + ' s':>9}{'ratio':>7}", end="")
    print(f"{'accuracy':>10}{other:>7}{'load':>11}")
    for name in options.heads:
        ones = [found.get((variant, name), []) for variant in ("featcache", other)]
        seconds = [_median(x["seconds"] for x in one) for one in ones]
        right = [_median(x["accuracy"].get(name, np.nan) for x in one) for one in ones]
        loads = [x["load"] for one in ones for x in one]
        ratio = seconds[0] / seconds[1]
        print(
            f"{name:13}{seconds[0]:12.1f}{seconds[1]:9.1f}{ratio:7.2f}"
            f"{right[0]:10.3f}{right[1]:7.3f}{min(loads):6.1f}-{max(loads):.1f}"
        )


def show_cpu(found: Any) -> None:
    """Prints CPU seconds and accuracy of each head, before and now."""
    print(f"{'head':18}{'before':>8}{'now: CPU s':>12}{'before':>8}{'accuracy':>10}")
    for (variant, name), ones in found.items():
        if variant != "featcache":
            continue
        before = found["before", name]
        for head in ones[0]["cpu"]:
            row = [
                _median(one[figure][head] for one in several)
                for figure in ("cpu", "accuracy")
                for several in (before, ones)
            ]
            print(f"{head:18}{row[0]:8.1f}{row[1]:12.1f}{row[2]:8.4f}{row[3]:10.4f}")


def _median(values: Any) -> float:
    listed = list(values)
    return statistics.median(listed) if listed else float("nan")


def main() -> None:
    """Parses and runs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", type=Path, help="a feature store; else generated")
    parser.add_argument("--images", type=int, default=2880, help="generated")
    parser.add_argument("--width", type=int, default=1024, help="generated")
    parser.add_argument("--views", type=int, default=2, help="beside the plain one")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--heads", nargs="+", default=[*HEADS, "all"])
    parser.add_argument("--variants", nargs="+", default=["featcache", "plain"])
    parser.add_argument("--seed", type=int, default=0, help="of what is generated")
    parser.add_argument("--against", type=Path, help="another checkout of featcache")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        variant, name, file = options.one
        print(json.dumps(measure(variant, name, Path(file), options.jobs)))
        return
    if options.against:
        options.variants = ["before", "featcache"]
    with tempfile.TemporaryDirectory(prefix="featcache-benchmark-") as folder:
        if options.store:
            data = read(options.store, options.views)
        else:
            data = generate(options.images, options.width, options.views, options.seed)
        options.rows = "x".join(map(str, data["X"].shape))
        np.savez(file := Path(folder) / "features.npz", **data)
        append(Path(__file__), side_by_side(options, file), LIBRARIES)


if __name__ == "__main__":
    main()
