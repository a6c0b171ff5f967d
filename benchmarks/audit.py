r"""The audit on planted faults, beside cleanlab and nearest neighbours.

    FEATCACHE_REAL_DATA=... python benchmarks/audit.py --cleanlab VENV/bin/python

Label errors: 5 or 10 % of the labels are changed, at random or from each class mostly
to the next, in embeddings of generated classes (1,200 images of 600 groups, 64 numbers)
and in SqueezeNet's of darkcovid. Every method ranks the same images, from the same
embeddings and, where it needs probabilities, the same ones out of 5 folds of whole
groups (untuned logreg). Numbers are means over ``--seeds`` with their standard
deviation. "margin, confident first" was FC040's order before.

Near-duplicates: 60 images get a changed copy each (compressed, resized, darker,
clipped, cropped), among 600 phantoms and among darkcovid. Images are ranked by how
similar they are to the most similar other; those of planted pairs are to be found. Two
images of one phantom patient, and the one pair that darkcovid has itself, count as
mistakes. featcache sees the files, the others SqueezeNet's embeddings of them.

Needs $FEATCACHE_REAL_DATA (data/darkcovid, and SqueezeNet's weights) for all but the
generated classes. ``--cleanlab`` is a Python that has ``cleanlab[datalab]``; without it
its rows are left out. Prints average precision and recall among the first 50 and 100,
and appends them to benchmarks/audit.csv with machine, versions and date.
"""

import argparse
import io
import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from measurements import append
from PIL import Image
from sklearn.datasets import make_classification
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.neighbors import NearestNeighbors

import featcache
from featcache import features, heads
from featcache.commands.audit.context import AuditContext
from featcache.commands.audit.detail import confirmed
from featcache.commands.audit.labels import confident, ranked
from featcache.commands.audit.similarity import cut_alike
from featcache.core.progress import SILENT
from featcache.dataset.manifest import Manifest
from featcache.dataset.near_duplicates import CORRELATION, unit
from featcache.dataset.similar_pairs import pairs_above
from featcache.evaluation import fitting

BUDGETS = (50, 100)
NEIGHBOURS = 10
COPIES = 60
LIBRARIES = ("featcache", "numpy", "scikit-learn")
CLEANLAB = """
import json, sys
import numpy as np
import cleanlab
from cleanlab.rank import get_label_quality_scores
data = np.load(sys.argv[1])
out = {}
version = cleanlab.__version__
if "P" in data:
    for method in ("self_confidence", "normalized_margin"):
        scores = get_label_quality_scores(data["y"], data["P"], method=method)
        out[method] = scores.tolist()
else:
    from cleanlab import Datalab
    lab = Datalab({"x": np.arange(len(data["X"]))}, verbosity=0)
    lab.find_issues(features=data["X"], issue_types={"near_duplicate": {}})
    scores = lab.get_issues("near_duplicate")["near_duplicate_score"]
    out["near_duplicate"] = scores.tolist()
out = {f"cleanlab {version} {name}": values for name, values in out.items()}
json.dump(out, open(sys.argv[2], "w"))
"""
Rows = list[dict[str, Any]]


def cleanlab(python: str | None, **arrays: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of cleanlab, low for a fault, by the name of the method."""
    if not python:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        request, answer = Path(folder) / "in.npz", Path(folder) / "out.json"
        np.savez(request, **arrays)
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        command = [python, "-c", CLEANLAB, str(request), str(answer)]
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        scores = json.loads(answer.read_text())
    return {name: np.array(values) for name, values in scores.items()}


# Label errors


def changed(y: np.ndarray, rate: float, kind: str, seed: int) -> np.ndarray:
    """Labels (N,) of which a share is wrong."""
    rng, classes = np.random.default_rng(seed), int(y.max()) + 1
    noisy = y.copy()
    at = rng.permutation(len(y))[: round(rate * len(y))]
    by = rng.integers(1, classes, len(at))
    if kind == "class":
        by = np.where(rng.random(len(at)) < 0.9, 1, by)
    noisy[at] = (y[at] + by) % classes
    return noisy


def out_of_fold(X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Probabilities (N, C) of an untuned logreg out of 5 folds of whole groups."""
    P = np.empty((len(y), int(y.max()) + 1))
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    for train, held_out in folds.split(X, y, groups):
        fit = fitting.fit_predict(
            heads.make("logreg", tune=False),
            X[:, None],
            y=y,
            groups=groups,
            train=train,
            held_out=held_out,
            n_classes=P.shape[1],
        )
        P[held_out] = fit.p
    return P


def agreement(X: np.ndarray, y: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The share of the nearest images of other groups that have an image's label."""
    rows = X / np.linalg.norm(X, axis=1, keepdims=True)
    alike = rows @ rows.T
    alike[groups[:, None] == groups] = -np.inf
    nearest = np.argsort(-alike, axis=1)[:, :NEIGHBOURS]
    weights = np.take_along_axis(alike, nearest, axis=1)
    same = y[nearest] == y[:, None]
    return (same * weights).sum(axis=1) / weights.sum(axis=1)


def listed(y: np.ndarray, P: np.ndarray) -> np.ndarray:
    """The place of each image in FC040's list; others come behind."""
    names = [f"c{c}" for c in range(P.shape[1])]
    table = pd.DataFrame(P, columns=[f"p_{name}" for name in names])
    ids = np.arange(len(y))
    table = table.assign(image_id=ids, path=ids, label=np.array(names)[y])
    places = np.full(len(y), float(len(y)))
    rows = ranked(names, table)["image_id"].to_numpy(int)
    places[rows] = np.arange(len(rows))
    return places


def label_methods(
    X: np.ndarray, y: np.ndarray, groups: np.ndarray, python: str | None
) -> dict[str, np.ndarray]:
    """Scores (N,) by method, low for a wrong label."""
    P = out_of_fold(X, y, groups)
    own = P[np.arange(len(y)), y]
    others = P.copy()
    others[np.arange(len(y)), y] = -1
    margin = own - others.max(axis=1)
    near = agreement(X, y, groups)
    scores = {
        "featcache FC040": listed(y, P),
        "margin, confident first": margin - 9 * confident(y, P),
        "kNN disagreement": near,
        "probability + kNN": own + near,
    }
    return scores | cleanlab(python, y=y, P=P)


def figures(truth: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Average precision, and recall at each budget."""
    order = np.argsort(scores, kind="stable")
    return {"AP": float(average_precision_score(truth, -scores))} | {
        f"recall at {n}": float(truth[order[:n]].sum() / truth.sum()) for n in BUDGETS
    }


def generated() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings, classes and groups: three classes of two clusters each."""
    X, y = make_classification(
        1200, 64, n_informative=16, n_redundant=16, n_classes=3,
        n_clusters_per_class=2, class_sep=1.5, flip_y=0, random_state=0,
    )  # fmt: skip
    return X.astype(np.float32), y, (np.argsort(np.argsort(y, kind="stable")) // 2)


def label_rows(
    name: str, data: tuple[np.ndarray, ...], seeds: int, python: str | None
) -> Rows:
    """A row a rate, kind and method: means and deviations over seeds."""
    X, y, groups = data
    rows: Rows = []
    for rate in (0.05, 0.1):
        for kind in ("random", "class"):
            each: dict[str, list[dict[str, float]]] = {}
            for seed in range(seeds):
                noisy = changed(y, rate, kind, seed)
                for method, scores in label_methods(X, noisy, groups, python).items():
                    each.setdefault(method, []).append(figures(noisy != y, scores))
            rows += [row(name, f"labels {rate:.0%} {kind}", method, some)
                     for method, some in each.items()]  # fmt: skip
    return rows


def row(name: str, fault: str, method: str, some: Rows) -> dict[str, Any]:
    """A line of the table: means and deviations of some results."""
    table = pd.DataFrame(some)
    return {"data": name, "fault": fault, "method": method, "seeds": len(some)} | {
        key: round(float(value), 3)
        for column in table
        for key, value in ((column, table[column].mean()),
                           (f"{column} sd", table[column].std(ddof=0)))
    }  # fmt: skip


# Near-duplicates


def compressed(image: Image.Image, quality: int) -> Image.Image:
    """An image after JPEG."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("L")


def cropped(image: Image.Image, *edges: float) -> Image.Image:
    """An image without shares of its left, top, right and bottom."""
    w, h = image.size
    left, top, right, bottom = edges
    return image.crop((round(w * left), round(h * top), round(w * (1 - right)),
                       round(h * (1 - bottom))))  # fmt: skip


CHANGES: list[Callable[[Image.Image], Image.Image]] = [
    lambda image: compressed(image, 30),
    lambda image: image.resize((image.width * 9 // 10, image.height * 9 // 10)),
    lambda image: image.point(lambda grey: round(grey * 0.75)),
    lambda image: image.point(lambda grey: min(255, round(grey * 1.25))),
    lambda image: cropped(image, 0.03, 0.03, 0.03, 0.03),
    lambda image: cropped(image, 0.03, 0, 0, 0),
]


def plant(table: pd.DataFrame, root: Path, folder: Path, seed: int) -> Path:
    """A table of the images and of changed copies of some, each a group of its own."""
    folder.mkdir(parents=True)
    table = table[["path", "label"]].assign(copy_of="")
    copies = []
    for n, at in enumerate(
        np.random.default_rng(seed).permutation(len(table))[:COPIES]
    ):
        path = root / table["path"].iloc[at]
        copy = CHANGES[n % len(CHANGES)](Image.open(path).convert("L"))
        copy.save(folder / f"copy{n}.png")
        copies.append({"path": f"copy{n}.png", "label": table["label"].iloc[at],
                       "copy_of": str(path)})  # fmt: skip
    table["path"] = [str(root / path) for path in table["path"]]
    pd.concat([table, pd.DataFrame(copies)]).to_csv(
        folder / "metadata.csv", index=False
    )
    return folder / "metadata.csv"


def best_of_pairs(
    n: int, i: np.ndarray, j: np.ndarray, value: np.ndarray
) -> np.ndarray:
    """The largest value of an image's pairs, negated; 0 without a pair."""
    best = np.zeros(n)
    np.maximum.at(best, np.r_[i, j], np.r_[value, value])
    return -best


def duplicate_rows(
    name: str, data: Manifest, X: np.ndarray, python: str | None
) -> Rows:
    """A row a method, of one set with planted copies."""
    images = data.ok.reset_index(drop=True)
    paths, copy_of = images["path"].tolist(), images["copy_of"].fillna("")
    truth = (copy_of != "").to_numpy() | images["path"].isin(set(copy_of)).to_numpy()
    thumbs = AuditContext(data, Path(), SILENT).thumbs
    whole = list(pairs_above(thumbs, CORRELATION, scale=unit))
    cut = [*whole, *cut_alike(thumbs, CORRELATION)]
    methods = {}
    for method, pairs in (("FC003", whole), ("FC003 and FC006", cut)):
        i, j, value = (np.concatenate(part) for part in zip(*pairs, strict=True))
        methods[f"{method}, small only"] = best_of_pairs(len(images), i, j, value)
        (table,) = confirmed(pairs, data.root, paths).chunks()
        columns = (table["a"].to_numpy(), table["b"].to_numpy(),
                   table["product"].to_numpy())  # fmt: skip
        methods[f"featcache {method}"] = best_of_pairs(len(images), *columns)
    rows = X / np.linalg.norm(X, axis=1, keepdims=True)
    distances = NearestNeighbors(n_neighbors=2).fit(rows).kneighbors(rows)[0][:, 1]
    methods["kNN distance"] = distances
    methods |= cleanlab(python, X=X)
    return [row(name, f"{COPIES} copies", method, [figures(truth, scores)])
            for method, scores in methods.items()]  # fmt: skip


# All together


def embeddings(table: Path, weights: Path, cache: Path, group_by: str) -> Any:
    """The dataset of a table, and SqueezeNet's embeddings of its images."""
    made = featcache.scan(table, group_by=group_by, cache=cache, progress=False)
    network = f"{weights}:preprocess=caffe,size=224"
    featcache.extract(made, network, cache=cache, progress=False)
    (stored,) = features.find_sets(made.manifest, ["all"])
    selection = stored.select(made.manifest, views=0)
    at = {image: n for n, image in enumerate(selection.meta["image_id"])}
    images = made.manifest.ok
    X = selection.read()[[at[image] for image in images["image_id"]]]
    return made.manifest, X.reshape(len(images), -1)


def real_rows(home: Path, work: Path, seeds: int, python: str | None) -> Rows:
    """Labels of darkcovid, and copies among it and among phantoms."""
    weights = home / "weights" / "squeezenet1_1_imagenet.keras"
    dark = home / "data" / "darkcovid"
    data, X = embeddings(dark / "metadata.csv", weights, work / "cache", "patient")
    y, groups = pd.factorize(data.ok["label"], sort=True)[0], data.ok["group"]
    rows = label_rows("darkcovid", (X, y, groups.to_numpy(str)), seeds, python)
    featcache.phantoms(work / "phantoms", 600, size=256, progress=False)
    for name, root in (("phantoms", work / "phantoms"), ("darkcovid", dark)):
        source = pd.read_csv(root / "metadata.csv", dtype=str)
        if not (planted := work / f"{name}-copies" / "metadata.csv").is_file():
            plant(source, root, planted.parent, 0)
        some = embeddings(planted, weights, work / "cache-copies", "image")
        rows += duplicate_rows(name, *some, python)
    return rows


def main() -> None:
    """Measures everything, prints the table and appends it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cleanlab", metavar="PYTHON")
    parser.add_argument("--work", type=Path, help="A folder to keep features in.")
    args = parser.parse_args()
    rows = label_rows("generated", generated(), args.seeds, args.cleanlab)
    if home := os.environ.get("FEATCACHE_REAL_DATA"):
        with tempfile.TemporaryDirectory() as folder:
            work = args.work or Path(folder)
            rows += real_rows(Path(home), work, args.seeds, args.cleanlab)
    print(pd.DataFrame(rows).to_string(index=False))
    append(Path(__file__), rows, LIBRARIES)


if __name__ == "__main__":
    main()
