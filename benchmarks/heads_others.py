"""Heads on the same cached features: featcache, plain scikit-learn, AutoGluon.

    FEATCACHE_REAL_DATA=... python benchmarks/heads_others.py
    FEATCACHE_REAL_DATA=... python benchmarks/heads_others.py --autogluon PYTHON

SqueezeNet's features of darkcovid at 224 px (512 numbers an image, no views). All
methods are fitted on the same outer folds over whole patients and predict the held-out
patients, one method after the other. For each: accuracy out of fold with its 95 %
interval over patients; the difference to featcache's head of the highest accuracy with
its paired interval over patients and the p value of the sign-flip test (not corrected
for several comparisons); log-loss and AUC; seconds on the clock and CPU seconds of all
fits and predictions.

Methods:
    featcache HEAD      tuned in inner folds over patients, as `train-head --tune` does,
                        with its start of a process a core
    featcache mean      the mean of the probabilities of those heads, which costs
                        nothing more once they are there
    LogisticRegressionCV, SVC   pipelines with StandardScaler as one writes them: ten
                        values of C by accuracy in five stratified folds; a grid of C
                        and gamma, then sigmoid calibration. Patients are not kept
                        together in these inner folds.
    AutoGluon PRESET    TabularPredictor with a limit in seconds for each outer fold.
                        `medium_quality` holds out some rows of its own choice.
                        `good_quality` gets five inner folds over patients as `groups`.

``--autogluon`` is a Python that has it (others.txt). With ``--work DIR`` predictions
are kept there, and what is there is not computed again. Appends to
benchmarks/heads_others.csv.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from measurements import Clock, append, load

HEADS = ("logreg", "svm", "softmax", "mlp", "xgboost")
PRESETS = ("medium_quality:60", "good_quality:300")
FOLDS = 5
LIBRARIES = ("featcache", "scikit-learn", "xgboost", "keras", "numpy")


@dataclass(frozen=True)
class Data:
    """Features with the outer folds of one seed.

    Attributes:
        X: (N, D) features.
        y: (N,) classes.
        groups: (N,) patients, as numbers.
        folds: (N,) outer folds.
    """

    X: np.ndarray
    y: np.ndarray
    groups: np.ndarray
    folds: np.ndarray


Fit = Callable[[Data, np.ndarray, np.ndarray], np.ndarray]  # rows, held out -> P


def features(cache: Path) -> tuple[Any, Any]:
    """SqueezeNet's features of darkcovid, and their table of images."""
    import featcache
    from featcache.dataset import manifest

    home = Path(os.environ["FEATCACHE_REAL_DATA"])
    source = home / "data" / "darkcovid" / "metadata.csv"
    featcache.scan(source, group_by="patient", cache=cache, progress=False)
    network = home / "weights" / "squeezenet1_1_imagenet.keras"
    (result,) = featcache.extract(
        "darkcovid",
        network,
        preprocess="caffe",
        input_size=224,
        cache=cache,
        progress=False,
    )
    loaded = featcache.load(result.path)
    table = manifest.load(cache / "darkcovid").ok.set_index("image_id")
    return loaded.X, table.loc[loaded.meta["image_id"]]


def with_folds(X: np.ndarray, table: Any, seed: int) -> Data:
    """Outer folds over patients."""
    from featcache.dataset.splits import assign_folds

    ids, labels, groups = table.index.tolist(), table["label"], table["group"]
    fold_of = assign_folds(ids, labels, groups, folds=FOLDS, test_size=0, seed=seed)
    y, patients = (
        np.unique(column.astype(str), return_inverse=True)[1]
        for column in (labels, groups)
    )
    return Data(X, y, patients, np.array([fold_of[one] for one in ids]))


def featcache_head(name: str, data: Data) -> dict[str, Any]:
    """A tuned head, as `train-head` fits it: folds side by side, one thread each."""
    from featcache import heads
    from featcache.core.parallel import side_by_side

    P, cpu, clock = np.empty((len(data.y), data.y.max() + 1)), 0.0, Clock()
    calls = [
        {
            "head": heads.make(name, tune=True),
            "X": data.X[:, None],
            "y": data.y,
            "groups": data.groups,
            "train": np.flatnonzero(data.folds != fold),
            "held_out": np.flatnonzero(data.folds == fold),
            "n_classes": P.shape[1],
        }
        for fold in range(FOLDS)
    ]
    for number, result in side_by_side(timed_fit, calls, os.cpu_count() or 1):
        assert isinstance(result, tuple), result
        P[calls[number]["held_out"]], spent = result
        cpu += spent
    return {"P": P, "seconds": clock.seconds, "cpu": cpu}


def timed_fit(**call: Any) -> tuple[np.ndarray, float]:
    """Probabilities of the held-out images, and CPU seconds."""
    from featcache.evaluation.fitting import fit_predict

    clock = Clock()
    return fit_predict(**call).p, clock.cpu


def logistic_regression(
    data: Data, rows: np.ndarray, held_out: np.ndarray
) -> np.ndarray:
    """scikit-learn's own search of C."""
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = LogisticRegressionCV(cv=5, max_iter=1000, use_legacy_attributes=False)
    pipeline = make_pipeline(StandardScaler(), model).fit(data.X[rows], data.y[rows])
    return np.asarray(pipeline.predict_proba(data.X[held_out]))


def support_vectors(data: Data, rows: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """A grid of C and gamma, then sigmoid calibration."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    width = data.X.shape[1]
    grid = {
        "svc__C": [0.1, 1, 10, 100],
        "svc__gamma": [0.1 / width, 0.3 / width, 1 / width],
    }
    search = GridSearchCV(make_pipeline(StandardScaler(), SVC()), grid, cv=5)
    best = search.fit(data.X[rows], data.y[rows]).best_estimator_
    model = CalibratedClassifierCV(best, cv=5, ensemble=False)
    return np.asarray(
        model.fit(data.X[rows], data.y[rows]).predict_proba(data.X[held_out])
    )


def plain(fit: Fit, data: Data) -> dict[str, Any]:
    """Probabilities out of fold, with seconds; folds one after the other."""
    P, clock = np.empty((len(data.y), data.y.max() + 1)), Clock()
    for fold in range(FOLDS):
        held_out = data.folds == fold
        P[held_out] = fit(data, ~held_out, held_out)
    return {"P": P, "seconds": clock.seconds, "cpu": clock.cpu}


def autogluon(preset: str, python: str, data: Data) -> dict[str, Any]:
    """The same by AutoGluon, each outer fold a process of its own."""
    name, limit = preset.split(":")
    P = np.empty((len(data.y), data.y.max() + 1))
    total = {"seconds": 0.0, "cpu": 0.0}
    script = Path(__file__).with_name("heads_autogluon.py")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    about: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        request, answer = Path(folder) / "in.npz", Path(folder) / "out.npz"
        for fold in range(FOLDS):
            held_out = data.folds == fold
            np.savez(
                request,
                X=data.X[~held_out],
                y=data.y[~held_out],
                groups=data.groups[~held_out],
                held_out=data.X[held_out],
            )
            command = [python, str(script), str(request), str(answer), name, limit]
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, env=environment
            )
            if done.returncode:
                sys.exit(f"AutoGluon {preset}: {done.stdout[-1000:]}{done.stderr}")
            about = json.loads(done.stdout.splitlines()[-1])
            P[held_out] = np.load(answer)["P"]
            total = {key: total[key] + about[key] for key in total}
    return {"P": P, "versions": about["versions"]} | total


def methods(options: argparse.Namespace) -> dict[str, Callable[[Data], dict[str, Any]]]:
    """What is measured, by name; each from features with folds to predictions."""
    runs: dict[str, Callable[[Data], dict[str, Any]]] = {
        f"featcache {name}": partial(featcache_head, name) for name in options.heads
    }
    if not options.no_plain:
        runs["LogisticRegressionCV"] = partial(plain, logistic_regression)
        runs["SVC"] = partial(plain, support_vectors)
    if not options.autogluon:
        print("AutoGluon is left out: needs --autogluon PYTHON, of one that has it")
        return runs
    return runs | {
        f"AutoGluon {preset.replace(':', ', ')} s a fold": partial(
            autogluon, preset, options.autogluon
        )
        for preset in options.presets
    }


def kept(
    name: str, seed: int, run: Callable[[Data], dict[str, Any]], data: Data, work: Path
) -> dict[str, Any]:
    """What a method predicts; read where it was computed before."""
    safe = "".join(c if c.isalnum() else "-" for c in name)
    path = work / f"{safe}-seed{seed}.npz"
    if not path.exists():
        about = {"load": load()}
        np.savez(path, **(about | run(data)))
    with np.load(path) as arrays:
        result = {key: arrays[key] for key in arrays.files}
    result |= {key: float(result[key]) for key in ("seconds", "cpu", "load")}
    right = (result["P"].argmax(axis=1) == data.y).mean()
    print(f"  {name:44} {right:.4f} {result['seconds']:8.1f} s", flush=True)
    return result


def mean_of(results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The heads of featcache together."""
    members = [one for name, one in results.items() if name.startswith("featcache")]
    total = {key: sum(one[key] for one in members) for key in ("seconds", "cpu")}
    P = np.mean([one["P"] for one in members], axis=0)
    return {"P": P, "load": members[0]["load"]} | total


def scored(results: dict[str, dict[str, Any]], data: Data) -> list[dict[str, Any]]:
    """A row for each method, with its difference to featcache's best head."""
    from featcache.evaluation import metrics

    draws, right = {}, {}
    for name, one in results.items():
        draws[name] = metrics.bootstrap(data.y, one["P"], data.groups)
        right[name] = one["P"].argmax(axis=1) == data.y
    heads = [n for n in results if n.startswith("featcache") and n != "featcache mean"]
    best = max(heads, key=lambda name: right[name].mean())
    rows = []
    for name, one in results.items():
        scores = metrics.scores(data.y, one["P"])
        ends = metrics.intervals(data.y, one["P"], data.groups, draws=draws[name])
        value = float(right[name].mean() - right[best].mean())
        change = draws[name].scores["accuracy"] - draws[best].scores["accuracy"]
        groups = draws[name].basis("accuracy")
        (low, high), _ = metrics.difference(value, change, groups=groups)
        p = metrics.sign_flip(right[name], right[best], data.groups)
        figures = {
            "accuracy": scores["accuracy"],
            "low": ends["accuracy"][0],
            "high": ends["accuracy"][1],
            "difference": value,
            "difference low": low,
            "difference high": high,
            "p": p,
            "log_loss": scores["log_loss"],
            "auc": scores["auc"],
        }
        if name == best:
            for key in ("difference", "difference low", "difference high", "p"):
                figures[key] = float("nan")
        rows.append(
            {"method": name}
            | {k: "" if np.isnan(v) else round(v, 6) for k, v in figures.items()}
            | {
                "seconds": round(one["seconds"], 1),
                "cpu_seconds": round(one["cpu"], 1),
                "load": one["load"],
                "other_versions": str(one.get("versions", "")),
            }
        )
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """Prints one seed."""
    for row in rows:
        print(
            "{method:44}{accuracy:8.4f} [{low:.3f}, {high:.3f}]  {difference!s:>9} "
            "[{difference low!s:>9}, {difference high!s:>9}] p {p!s:8} "
            "log-loss {log_loss:.3f} AUC {auc:.4f} {seconds:8.1f} s"
            "{cpu_seconds:8.1f} CPU s".format(**row)
        )


def main() -> None:
    """Parses and runs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--heads", nargs="+", default=list(HEADS))
    parser.add_argument("--no-plain", action="store_true", help="no scikit-learn")
    parser.add_argument("--autogluon", metavar="PYTHON", help="one that has AutoGluon")
    parser.add_argument("--presets", nargs="+", default=list(PRESETS), metavar="NAME:S")
    parser.add_argument("--seeds", type=int, default=1, help="of the outer folds")
    parser.add_argument("--work", type=Path, help="folder for features and predictions")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="featcache-benchmark-") as folder:
        work = options.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        X, table = features(work / "cache")
        rows = []
        for seed in range(options.seeds):
            data = with_folds(X, table, seed)
            print(f"seed {seed}: {len(data.y)} images, {data.groups.max() + 1} groups")
            results = {
                name: kept(name, seed, run, data, work)
                for name, run in methods(options).items()
            }
            results["featcache mean"] = mean_of(results)
            of_seed = scored(results, data)
            show(of_seed)
            about = {"seed": seed, "images": len(data.y)}
            rows += [about | row for row in of_seed]
    append(Path(__file__), rows, LIBRARIES)


if __name__ == "__main__":
    main()
