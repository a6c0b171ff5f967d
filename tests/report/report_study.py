"""A small dataset with runs, made by hand, for the tests of the report."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from records import make_contract, make_run, rewrite
from toys import picture

from featcache.commands.compare import Leaderboard, compare
from featcache.commands.scan import scan
from featcache.dataset import manifest
from featcache.dataset.manifest import Manifest
from featcache.evaluation import runs
from featcache.features import store

CLASSES = ("<img src=x onerror=alert(1)>", "A & B", "plain")
BACKBONE, STORE = "toynet", "toynet-file-00000000.h5"
IMAGES = 60


@dataclass(frozen=True)
class Study:
    """Where everything is."""

    cache: Path
    reports: Path

    @property
    def manifest(self) -> Manifest:
        """The dataset."""
        return manifest.load(self.cache)

    @property
    def board(self) -> Leaderboard:
        """Its runs, ranked."""
        return compare(self.reports)


def make(folder: Path, images: int = IMAGES, grain: float = 0) -> Study:
    """60 images of 30 patients in three classes; a store; three runs.

    Every fifth image of `logreg` is wrong, every third of `softmax`. With a grain the
    pictures are larger, and take more bytes.
    """
    source = write_source(folder / "chest", images, grain)
    scanned = scan(source, folder / "cache", group_by="patient")
    study = Study(scanned.manifest.folder, folder / "reports" / "chest")
    header = write_store(study)
    for head, wrong in (("logreg", 5), ("softmax", 3), ("majority", 0)):
        write_run(study, head, wrong, {"contract_id": header.contract_id})
    return study


def write_source(folder: Path, images: int = IMAGES, grain: float = 0) -> Path:
    """Pictures, and a table that says whose they are."""
    folder.mkdir(parents=True)
    lines = ["path,label,patient,view,age,site"]
    for i in range(images):
        name = f'odd "{i}" <b>.png' if i == 0 else f"image {i}.png"
        shown = picture(i, 40 + 60 * (i % 3), (96, 96) if grain else (60, 48))
        if grain:
            noise = np.random.default_rng(i).normal(0, grain, (96, 96))
            pixels = (np.asarray(shown) + noise).clip(0, 255)
            shown = Image.fromarray(pixels.astype(np.uint8))
        shown.save(folder / name)
        quoted = name.replace('"', '""')
        # A third of the patients are one class, the site is a class by another name.
        patient, view = f"P{i // 6 * 3 + i % 3:02d}", ("PA", "AP")[i % 2]
        site = ("north", "south", "east")[i % 3]
        lines.append(f'"{quoted}","{CLASSES[i % 3]}",{patient},{view},{20 + i},{site}')
    table = folder / "metadata.csv"
    table.write_text("\n".join(lines), encoding="utf-8")
    return table


def write_store(study: Study) -> store.Header:
    """Embeddings of 8 numbers that nearly tell the class."""
    contract = make_contract(backbone=BACKBONE)
    header = store.Header(
        contract, [], "file", "by hand", "by hand", {"keras": "0"}, {}
    )
    path = study.cache / "features" / STORE
    keys = study.manifest.ok[["image_id", "path"]].assign(
        view=0, policy=store.NO_POLICY
    )
    codes = pd.factorize(study.manifest.ok["label"], sort=True)[0]
    noise = np.random.default_rng(0).normal(0, 0.3, (len(keys), 8))
    store.seal(
        path, header, {"features": (np.eye(8)[codes] + noise).astype("f4")}, keys
    )
    store.publish(path, header)
    return header


def write_run(
    study: Study, head: str, wrong: int, further: dict[str, Any] | None = None
) -> Path:
    """A run whose every ``wrong``-th image is predicted as the next class."""
    ok = study.manifest.ok.reset_index(drop=True)
    classes = study.manifest.classes
    codes = ok["label"].map({name: i for i, name in enumerate(classes)}).to_numpy(int)
    group = pd.factorize(ok["group"], sort=True)[0]
    folds = np.where(group % 6 == 5, -1, group % 6)
    named = codes.copy()
    if wrong:
        named[::wrong] = (codes[::wrong] + 1) % len(classes)
    sure = np.linspace(0.5, 0.95, len(ok))[:, None]
    p = np.where(np.eye(len(classes))[named] > 0, sure, (1 - sure) / 2)
    if not wrong:
        p = np.tile([0.4, 0.3, 0.3], (len(ok), 1))
    about: dict[str, Any] = {
        "classes": classes, "head": head, "backbone": BACKBONE, "weights": "file",
        "store": STORE, "split": {"name": "patient-k5-test0.2-seed0"},
        "recipe_id": f"{head}-{wrong}", "evaluation_id": "e" * 64,
        "n_images": len(ok), "n_groups": 30,
    }  # fmt: skip
    table = runs.predictions_table(ok, folds, p, classes)
    run_id = f"{head}-{BACKBONE}-{wrong:010d}"
    run = make_run(study.reports, run_id, table, **about | (further or {}))
    if head == "softmax":
        epochs = [(k, e, 1 / e, 1 / e + 0.1) for k in range(5) for e in (1, 2, 3)]
        history = pd.DataFrame(epochs, columns=["fold", "epoch", "loss", "val_loss"])
        history.to_csv(run.folder / "history.csv", index=False)
        rewrite(run.folder)
    return run.folder
