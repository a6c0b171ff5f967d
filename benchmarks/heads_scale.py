"""Heads on many rows: seconds and memory of one fit, at growing numbers of images.

    python benchmarks/heads_scale.py
    python benchmarks/heads_scale.py --images 200000 --heads logreg svm --tuned

Each measurement is `fitting.fit_predict` on four fifths of the images, whole groups, in
a process of its own with one thread, which maps the features as a worker of
``train-head`` does. Its own memory (RssAnon, looked up every 20 ms) is counted beyond
what it had with its libraries loaded, and given in copies of the whole matrix in
float32 as well; the mapped file is not counted, for all processes share its pages.

Prints a table and appends every measurement to benchmarks/heads_scale.csv.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from measurements import append, peak_memory

HEADS = ("logreg", "softmax", "mlp", "mlp-dropout", "xgboost", "svm")
LIBRARIES = ("featcache", "scikit-learn", "xgboost", "tensorflow", "keras", "numpy")
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")} | {
    "FEATCACHE_THREADS": "1"
}
BLOCK = 5_000  # images that are made at once
MIB = 2**20


def write_features(folder: Path, images: int, width: int, seed: int = 0) -> None:
    """Embeddings as of `heads.generate`, in blocks: features.npy (N, 1, D), labels.

    Three classes; correlated columns that are cut off at zero; patients of one to a few
    images.
    """
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(width, width)) / np.sqrt(width)
    mix = (mix * np.arange(1, width + 1)[:, None] ** -0.7).astype(np.float32)
    deviation = 1.26 * np.sqrt(np.square(mix).sum(axis=0).mean())

    def maps(rows: int) -> np.ndarray:
        return np.asarray(rng.standard_normal((rows, width), np.float32) @ mix)

    means = 0.15 * maps(3)
    shape = (images, 1, width)
    X = np.lib.format.open_memmap(folder / "features.npy", "w+", np.float32, shape)
    labels, patients = [], []
    for start in range(0, images, BLOCK):
        rows = min(BLOCK, images - start)
        groups = np.sort(rng.integers(0, rows // 2, rows))
        y = rng.integers(0, 3, groups.max() + 1)[groups]
        made = means[y] + 0.7 * maps(groups.max() + 1)[groups] + maps(rows)
        X[start : start + rows, 0] = np.maximum(made / deviation + 0.5, 0)
        labels.append(y)
        patients.append(groups + start)
    X.flush()
    np.savez(
        folder / "labels.npz", y=np.concatenate(labels), groups=np.concatenate(patients)
    )


def measure(name: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One fit and its predictions, in this process."""
    from featcache import heads
    from featcache.evaluation.fitting import fit_predict

    more = {"tune": True} if options.tuned else {}
    head = heads.make(name, transform=options.transform, pca=options.pca, **more)
    _warm_up(name)
    X = np.load(folder / "features.npy", mmap_mode="r")
    labels = np.load(folder / "labels.npz")
    y, groups = labels["y"], labels["groups"]
    held_out = np.isin(groups, np.unique(groups)[::5])
    with peak_memory() as memory:
        fit = fit_predict(
            head,
            X,
            y=y,
            groups=groups,
            train=np.flatnonzero(~held_out),
            held_out=np.flatnonzero(held_out),
            n_classes=3,
            save_to=folder / "saved",
        )
    p = np.clip(fit.p[np.arange(held_out.sum()), y[held_out]], 1e-15, 1)
    return {
        "fit_seconds": round(fit.fit_seconds, 1),
        "predict_seconds": round(fit.predict_seconds, 1),
        "peak_mib": round(memory["peak"] / MIB),
        "copies": round(memory["peak"] / X.nbytes, 2),
        "accuracy": round(float((fit.p.argmax(1) == y[held_out]).mean()), 4),
        "log_loss": round(float(-np.log(p).mean()), 5),
    }


def _warm_up(name: str) -> None:
    """Loads the libraries of a head, whose memory is not that of the fit."""
    from featcache import heads

    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4)).astype(np.float32)
    heads.make(name).fit(X, np.arange(60) % 3).predict_proba(X)


def run(name: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Measures in a process of its own."""
    load = os.getloadavg()[0]
    command = [sys.executable, __file__, "--one", name, str(folder)]
    command += ["--transform", options.transform, "--pca", options.pca]
    command += ["--tuned"] if options.tuned else []
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | ONE_THREAD,
    )
    if done.returncode:
        sys.exit(f"{name}: {done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result | {"load": round(load, 1)}


def table(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every head at every size; prints a line each."""
    print(f"{'head':12}{'images':>8}{'fit s':>8}{'pred s':>7}{'MiB':>6}", end="")
    print(f"{'copies':>7}{'accuracy':>9}{'log-loss':>9}{'load':>5}", flush=True)
    lines = []
    for images in options.images:
        with tempfile.TemporaryDirectory(
            prefix="featcache-benchmark-", dir=options.scratch
        ) as scratch:
            write_features(Path(scratch), images, options.width)
            for name in options.heads:
                one = run(name, Path(scratch), options)
                print(
                    f"{name:12}{images:8}{one['fit_seconds']:8}"
                    f"{one['predict_seconds']:7}{one['peak_mib']:6}{one['copies']:7}"
                    f"{one['accuracy']:9}{one['log_loss']:9}{one['load']:5}",
                    flush=True,
                )
                setting = "tuned" if options.tuned else "default"
                about = {"label": options.label, "head": name, "setting": setting}
                about |= {"transform": options.transform, "pca": options.pca}
                lines.append(about | {"images": images, "width": options.width} | one)
    return lines


def main() -> None:
    """Parses and runs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sizes = [5_000, 20_000, 50_000, 200_000]
    parser.add_argument("--images", type=int, nargs="+", default=sizes)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--heads", nargs="+", default=HEADS)
    parser.add_argument("--tuned", action="store_true", help="heads tune themselves")
    parser.add_argument("--transform", default="none")
    parser.add_argument("--pca", default="none")
    parser.add_argument("--label", default="", help="what to call the measurements")
    parser.add_argument("--scratch", type=Path, help="folder for the features")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, folder = options.one
        print(json.dumps(measure(name, Path(folder), options)))
        return
    append(Path(__file__), table(options), LIBRARIES)


if __name__ == "__main__":
    main()
