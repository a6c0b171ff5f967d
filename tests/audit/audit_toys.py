"""Runs, splits, stores and pictures in which the audit is to find something or not."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from records import make_run as write_run
from toys import CLASSES, N, header, picture

from featcache.backbones import BASELINES
from featcache.commands.audit import AuditResult
from featcache.commands.audit.base import Finding
from featcache.dataset import manifest
from featcache.dataset.manifest import Manifest
from featcache.evaluation import runs
from featcache.features import store

Y = np.array([i // 2 % 3 for i in range(N)])  # the classes of toys.make_dataset
PATIENT = np.arange(N) // 2
FOLDS = PATIENT // 3 % 3  # whole patients, every class in every fold


def make_run(
    dataset: Manifest,
    reports: Path,
    backbone: str,
    right: float,
    *,
    head: str = "logreg",
    wrong: tuple[int, ...] = (),
    folds: np.ndarray | None = None,
    store: str = "none",
    groups: list[str] | None = None,
    region: str = "",
    split: str = "patient",
) -> runs.Run:
    """A run that is right on a share of the images, sure of itself at 0.9."""
    miss = np.random.default_rng(len(backbone)).permutation(N)[round(right * N) :]
    predicted = Y.copy()
    predicted[[*miss, *wrong]] = (predicted[[*miss, *wrong]] + 1) % 3
    p = np.full((N, 3), 0.05)
    p[np.arange(N), predicted] = 0.9
    meta = dataset.ok if groups is None else dataset.ok.assign(group=groups)
    table = runs.predictions_table(
        meta, FOLDS if folds is None else folds, p, [*CLASSES]
    )
    weights = "none" if backbone in BASELINES else "imagenet"
    return write_run(
        reports / dataset.dataset,
        f"{head}-{backbone}{region}",
        table,
        head=head,
        backbone=backbone,
        weights=weights,
        recipe_id=f"{head}-{backbone}{region}",
        evaluation_id=split,
        split={"name": split},
        store=store,
        features=[{"region": region} if region else {}],
    )


def of(result: AuditResult, code: str) -> Finding:
    return next(finding for finding in result.findings if finding.code == code)


def with_table(dataset: Manifest, table: pd.DataFrame) -> Manifest:
    changed = replace(dataset, table=table)
    manifest.save(changed)
    return changed


def planted(root: Path) -> Path:
    """24 pictures in two classes, and four made of the first by small changes."""
    for label in ("a", "b"):
        (root / label).mkdir(parents=True)
        for i in range(12):
            shown = picture(1000 * (label == "b") + i, 120, (96, 96))
            shown.save(root / label / f"p{label}{i}.png")
    first = Image.open(root / "a/pa0.png").convert("L")
    first.resize((70, 70)).save(root / "a/resized.png")
    first.save(root / "a/jpeg.jpg", quality=40)
    first.point(lambda grey: round(grey * 0.85)).save(root / "a/dark.png")
    first.crop((1, 1, 95, 95)).save(root / "b/cut.png")
    return root


def write_split(dataset: Manifest, fold_of: dict[str, int], name: str = "hand") -> None:
    path = dataset.folder / f"splits-{name}.json"
    path.write_text(json.dumps({"images": fold_of}), encoding="utf-8")


def put_store(dataset: Manifest, rows: np.ndarray) -> str:
    """Seals embeddings as the dataset's features, and gives the store's name."""
    about = header("net")
    path = store.store_path(dataset.folder / "features", about)
    keys = dataset.ok[["image_id", "path"]].assign(view=0, policy=store.NO_POLICY)
    store.seal(path, about, {"features": rows.astype(np.float32)}, keys)
    store.publish(path, about)
    return path.name
