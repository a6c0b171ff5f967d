"""``featcache train-head``: train and evaluate heads on cached features."""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from featcache import features, heads, metrics, runs, splits, store
from featcache.errors import (
    DatasetError,
    StoreError,
    UnknownNameError,
    UsageError,
)
from featcache.evaluation import Fit, side_by_side
from featcache.features import Features
from featcache.manifest import Manifest
from featcache.runs import Run
from featcache.splits import Split
from featcache.store import Store

ALL = "all"
_LIBRARIES = ("featcache", "scikit-learn", "xgboost", "keras", "numpy")
# Longest first, so that no long fit is left alone at the end.
_SLOW_FIRST = ("xgboost", "svm", "mlp-dropout", "mlp", "softmax")

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class TrainResult:
    """What a call did.

    Attributes:
        runs: One a backbone and head, in the order asked; failed ones too.
        trained: Ids of the runs that this call trained; the rest was there.
        split: The split they were evaluated on.
    """

    runs: list[Run]
    trained: list[str]
    split: Split


@dataclass
class _Job:
    """One run to be trained: a head on a store's features."""

    folder: Path
    head: str
    record: dict[str, Any]
    meta: pd.DataFrame
    X: np.ndarray
    codes: np.ndarray
    places: np.ndarray
    outcomes: dict[int, Fit | str] = field(default_factory=dict)

    @property
    def parts(self) -> list[int]:
        """The folds, and last the refit on all of train (splits.TEST)."""
        return [*range(self.record["split"]["folds"]), splits.TEST]


def train_head(
    manifest: Manifest,
    reports: Path,
    *,
    backbones: Sequence[str] = (ALL,),
    heads: Sequence[str] = (ALL,),
    views: int | str = ALL,
    policy: int | None = None,
    taps: str = "none",
    tta: bool | None = None,
    folds: int = 5,
    test_size: float = 0.2,
    seed: int = 0,
    split: str | None = None,
    jobs: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> TrainResult:
    """Trains heads on every fold, refits them on all of train, records the runs.

    A run that is there already is not trained again.

    Args:
        manifest: The dataset; its stores hold the features.
        reports: The reports folder; runs go to ``reports/<dataset>/runs``.
        backbones: Names of stores (backbone, backbone-weights or file name), or
            "all".
        heads: Names of ``featcache.heads.HEADS``, ``module:Class``, or "all".
        views: Augmented views to train on: a number, or "all" that are stored.
        policy: Index of their policy in the store; by default the newest.
        taps: Inner layers to append to the embedding: "none", "all" that are
            stored, or names with commas between.
        tta: Predict held-out images as the mean over their views; by default
            where views were trained on.
        folds: Cross-validation folds.
        test_size: Share of the images in the test part; 0 for none.
        seed: Of the split and of the heads.
        split: Name of the split; by default made of how it is drawn.
        jobs: Parallel processes; by default one a core.
        force: Train again what is there.
        progress: Called with (run_id, fits done, fits to do).

    Raises:
        UnknownNameError: No such backbone or head.
        StoreError: Features are missing.
        SplitError: The folds cannot be made.
    """
    _check(views, jobs)
    if len(manifest.classes) < 2:
        raise DatasetError(
            f"at least two classes in {manifest.dataset}",
            f"{', '.join(manifest.classes) or 'none'}",
            "Scan a source with more classes.",
        )
    names = _head_names(heads, seed)
    drawn = features.draw_split(
        manifest, split, folds=folds, test_size=test_size, seed=seed
    )
    todo: list[_Job] = []
    folders: list[Path] = []
    for found in _stores(manifest, backbones):
        _refuse_statistics(found, drawn)
        data = _load(found, manifest, views, policy, taps)
        record = _about(manifest, found, data, drawn) | {
            "taps": features.tap_names(found, taps),
            "seed": seed,
        }
        record["tta"] = bool(record["views"]) and tta is not False
        for job in _jobs(manifest, reports, data, record, names, drawn):
            folders.append(job.folder)
            if force or not _is_done(job.folder):
                todo.append(job)
    _train(todo, jobs or os.cpu_count() or 1, seed, progress)
    return TrainResult(
        [runs.load(folder) for folder in folders],
        [job.folder.name for job in todo],
        drawn,
    )


def _check(views: int | str, jobs: int | None) -> None:
    if views != ALL and (not isinstance(views, int) or views < 0):
        raise UsageError("--views of 0 or more, or all", str(views), "Try all.")
    if jobs is not None and jobs < 1:
        raise UsageError("--jobs of 1 or more", str(jobs), "Leave it out.")


def _head_names(names: Sequence[str], seed: int) -> list[str]:
    chosen = [n for name in names for n in (heads.HEADS if name == ALL else [name])]
    for name in chosen:
        heads.make(name, seed=seed)  # raises on an unknown name, before any work
    return list(dict.fromkeys(chosen))


def _stores(manifest: Manifest, names: Sequence[str]) -> list[Store]:
    paths = sorted((manifest.folder / "features").glob("*.h5"))
    if not paths:
        raise StoreError(
            f"features of {manifest.dataset}",
            "none",
            f"Run: featcache extract --dataset {manifest.dataset} -b BACKBONE",
        )
    chosen: dict[Path, Store] = {}
    for name in names:
        stem = Path(name).stem if name.endswith((".keras", ".h5")) else name
        matches = [p for p in paths if stem == ALL or stem in _names_of(p)]
        if not matches:
            raise UnknownNameError(
                f"a backbone with features: {', '.join(p.stem for p in paths)}",
                repr(name),
                f"Run: featcache extract --dataset {manifest.dataset} -b {name}",
            )
        chosen |= {path: store.open_store(path) for path in matches}
    return list(chosen.values())


def _names_of(path: Path) -> set[str]:
    """A store answers to its file name, less the contract, less the weights tag."""
    parts = path.stem.rsplit("-", 2)
    return {path.stem, "-".join(parts[:2]), parts[0]}


def _refuse_statistics(found: Store, split: Split) -> None:
    """Features standardised on other images than the training part's would leak."""
    made_on = found.header.contract.get("statistics", {}).get("split", split.name)
    if made_on != split.name:
        raise StoreError(
            f"features of {found.path.name} standardised on the training images of "
            f"split {split.name}",
            f"split {made_on or '(all images)'}",
            "Use that split's --folds, --test-size and --seed, or extract again.",
        )


def _load(
    found: Store,
    manifest: Manifest,
    views: int | str,
    policy: int | None,
    taps: str,
) -> Features:
    if isinstance(views, str):
        newest = len(found.header.policies) - 1 if policy is None else policy
        stored = found.keys.loc[found.keys["policy"] == newest, "view"]
        views = int(stored.max()) if newest >= 0 and len(stored) else 0
    return features.join(found, manifest, views=views, policy=policy, taps=taps)


def _jobs(
    manifest: Manifest,
    reports: Path,
    data: Features,
    record: dict[str, Any],
    names: list[str],
    split: Split,
) -> Iterator[_Job]:
    plain = data.meta[data.meta["view"] == 0].reset_index(drop=True)
    places = split.of(plain["image_id"].tolist())
    splits.check(
        places,
        plain["label"].tolist(),
        plain["group"].tolist(),
        folds=split.folds,
        test_size=split.test_size,
    )
    code = {label: i for i, label in enumerate(manifest.classes)}
    shared = record | {
        "evaluation_id": _evaluation_id(plain, places),
        "n_images": len(plain),
        "n_groups": int(plain["group"].nunique()),
    }
    for name in names:
        about = {"head": name, "head_is": heads.describe(name, seed=record["seed"])}
        run_id = runs.make_id(name, record["backbone"], _inputs(shared | about))
        yield _Job(
            folder=reports / manifest.dataset / "runs" / run_id,
            head=name,
            record=shared | about,
            meta=plain,
            X=data.X.reshape(len(plain), record["views"] + 1, -1),
            codes=plain["label"].map(code).to_numpy(int),
            places=places,
        )


def _about(
    manifest: Manifest, found: Store, data: Features, split: Split
) -> dict[str, Any]:
    """What a run record says of its features and its split."""
    views = int(data.meta["view"].max())
    contract = found.header.contract
    return {
        "dataset": manifest.dataset,
        "backbone": contract["backbone"],
        "weights": found.header.weights,
        "input_size": contract["input_size"],
        "store": found.path.name,
        "contract_id": found.header.contract_id,
        "views": views,
        "policy": found.header.policies[data.meta["policy"].max()] if views else None,
        "classes": manifest.classes,
        "split": {
            "name": split.name,
            "folds": split.folds,
            "test_size": split.test_size,
            "seed": split.seed,
            "group_by": manifest.settings.group_by,
        },
    }


# The store's file name follows from the contract, the counts from the evaluation;
# a split's name and the dataset's decide nothing.
_NO_INPUT = ("dataset", "store", "split", "n_images", "n_groups", "head")


def _inputs(record: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in record.items() if k not in _NO_INPUT}


def _evaluation_id(plain: pd.DataFrame, places: np.ndarray) -> str:
    """Digest of who is judged on what: image, label, group and place of each.

    Runs with equal ids can be compared; with any other they cannot.
    """
    rows = zip(plain["image_id"], plain["label"], plain["group"], places, strict=True)
    text = "\n".join(sorted("\t".join(map(str, row)) for row in rows))
    return hashlib.sha256(text.encode()).hexdigest()


def _is_done(folder: Path) -> bool:
    return (folder / "run.json").is_file() and not runs.load(folder).failed


def _train(todo: list[_Job], n_jobs: int, seed: int, progress: Progress | None) -> None:
    """Runs all folds of all jobs side by side; records each run when it is whole."""
    order = {name: i for i, name in enumerate(_SLOW_FIRST)}
    tasks = [(job, part) for job in todo for part in job.parts]
    tasks.sort(key=lambda task: order.get(task[0].head, len(order)))
    with tempfile.TemporaryDirectory(prefix="featcache-") as models:
        calls = [_call(job, part, seed, Path(models)) for job, part in tasks]
        for done, (number, outcome) in enumerate(side_by_side(calls, n_jobs), 1):
            job, part = tasks[number]
            job.outcomes[part] = outcome
            if len(job.outcomes) == len(job.parts):
                _record(job, Path(models) / job.folder.name)
            if progress:
                progress(job.folder.name, done, len(tasks))


def _call(job: _Job, part: int, seed: int, models: Path) -> dict[str, Any]:
    """The arguments of one fit; see ``evaluation.fit_predict``."""
    in_train = (job.places != part) & (job.places != splits.TEST)
    return {
        "head": heads.make(job.head, seed=seed),
        "X": job.X,
        "y": job.codes,
        "groups": job.meta["group"].to_numpy(),
        "train": np.flatnonzero(in_train),
        "held": np.flatnonzero(job.places == part),
        "n_classes": len(job.record["classes"]),
        "tta": job.record["tta"],
        "save_to": models / job.folder.name if part == splits.TEST else None,
    }


def _record(job: _Job, model_folder: Path) -> None:
    """Writes the run; one that failed in any part is written as failed."""
    record = job.record | {
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": {name: metadata.version(name) for name in _LIBRARIES},
    }
    reasons = [o for o in job.outcomes.values() if isinstance(o, str)]
    fits = {k: o for k, o in job.outcomes.items() if isinstance(o, Fit)}
    if reasons:
        failed = {"status": "failed", "reason": reasons[0]}
        with runs.saving(job.folder, record | failed):
            return
    p = np.zeros((len(job.codes), len(record["classes"])))
    for part, fit in fits.items():
        p[job.places == part] = fit.p
    table = runs.predictions_table(job.meta, job.places, p, record["classes"])
    with runs.saving(job.folder, record | _figures(job, fits, p)) as folder:
        table.to_csv(folder / "predictions.csv", index=False)
        for file in model_folder.iterdir():
            shutil.move(file, folder / file.name)
        history = [{"fold": k, **row} for k in job.parts for row in fits[k].history]
        if history:
            pd.DataFrame(history).to_csv(folder / "history.csv", index=False)


def _figures(job: _Job, fits: dict[int, Fit], p: np.ndarray) -> dict[str, Any]:
    in_test = job.places == splits.TEST
    parts = {runs.TRAIN: ~in_test} | ({runs.TEST: in_test} if in_test.any() else {})
    groups = job.meta["group"].to_numpy()
    scores: dict[str, dict[str, float]] = {}
    for name, part in parts.items():
        y, given = job.codes[part], p[part]
        low, high = metrics.group_bootstrap(given.argmax(axis=1) == y, groups[part])
        interval = {"accuracy_low": low, "accuracy_high": high}
        scores[name] = metrics.scores(y, given) | interval
    return {
        "status": "ok",
        "model": fits[splits.TEST].model_file,
        "fit_seconds": round(fits[splits.TEST].fit_seconds, 3),
        "fold_seconds": [round(fits[k].fit_seconds, 3) for k in job.parts[:-1]],
        "predict_seconds": round(sum(f.predict_seconds for f in fits.values()), 3),
        "scores": scores,
    }
