"""Made-up pictures, and datasets and stores whose features nearly tell the class."""

import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from featcache.dataset import manifest
from featcache.dataset.manifest import COLUMNS, Manifest, Settings
from featcache.features import store
from featcache.features.store import Header

N, D, CLASSES = 90, 6, ("COVID", "NORMAL", "Viral Pneumonia")
# Where the tests run in the background, Ctrl-C is ignored from birth.
HEARS_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
POLICY = {"flip": True, "seed": 0}
CONTRACT = {
    "backbone": "toy", "input_size": 32, "preprocess": "tf", "precision": "float32",
    "dtype": "float32",
}  # fmt: skip
BLOCK = CONTRACT | {
    "weights": "random", "contract_id": "c", "store": "toy.h5", "tap": None, "dim": D,
}  # fmt: skip


def slow_but(cases: Iterable[Any], *fast: Any) -> list[Any]:
    """Cases of a test, values or tuples of them, that are slow but for some."""
    rows = [(case, case if isinstance(case, tuple) else (case,)) for case in cases]
    return [
        pytest.param(*row, marks=[pytest.mark.slow] * (case not in fast))
        for case, row in rows
    ]


def picture(seed: int, shade: float, size: tuple[int, int] = (40, 32)) -> Image.Image:
    """A grey picture of noise around a shade, unlike that of any other seed."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(shade, 60, (6, 6)).clip(0, 255).astype(np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def write_images(root: Path) -> Path:
    """Three class folders of 12 images, patients of two images each."""
    for label, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for i in range(12):
            image = picture(100 * label + i, 60 + 60 * label)
            image.save(root / name / f"p{label}{i // 2:02d}_{name} ({i + 1}).png")
    return root


def image_ids(count: int = N) -> list[str]:
    return [f"{i:064x}" for i in range(count)]


def header(
    backbone: str = "toy",
    *,
    policies: tuple[dict[str, Any], ...] = (POLICY,),
    weights: str = "random",
    **contract: Any,
) -> Header:
    """What a store says of itself; 32 px unless told otherwise."""
    return Header(
        contract=CONTRACT | {"backbone": backbone} | contract,
        policies=list(policies),
        weights=weights,
        weights_key="",
        engine="tensorflow",
        versions={},
        notes={},
    )


def run_record(**fields: Any) -> dict[str, Any]:
    """All that a run of a head says of itself; one block of features, of its fields."""
    record = {
        "status": "ok", "created": "2026-01-01T00:00:00.000+00:00", "dataset": "chest",
        "backbone": "toy", "weights": "random", "input_size": 32, "store": "toy.h5",
        "contract_id": "c", "taps": [], "views": 0, "policy": None, "tta": False,
        "classes": list(CLASSES), "exclude": [], "seed": 0, "n_images": N,
        "n_groups": N // 2, "evaluation_id": "e", "head": "logreg", "recipe_id": "r",
        "model": "model.skops", "fit_seconds": 1.0, "fold_seconds": [1.0] * 5,
        "predict_seconds": 0.1, "tuning": [], "calibration": None, "scores": {},
        "versions": {"numpy": "2"},
    } | fields  # fmt: skip
    split = {
        "name": "s", "folds": 5, "test_size": 0.2, "seed": 0, "group_by": "patient",
        "repeat": 0,
    } | fields.get("split", {})  # fmt: skip
    head_is = {"head": record["head"], "revision": 1, "params": {}}
    own = {key: record[key] for key in BLOCK.keys() & record.keys()}
    return record | {
        "split": {"base": split["name"]} | split,
        "head_is": head_is | fields.get("head_is", {}),
        "features": [BLOCK | own | b for b in fields.get("features", [{}])],
    }


def naming_modules(folder: Path) -> list[str]:
    """Files of a run, and parts of those that are archives, that name our modules."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    for path in filter(zipfile.is_zipfile, folder.iterdir()):
        with zipfile.ZipFile(path) as archive:
            files |= {f"{path.name}/{n}": archive.read(n) for n in archive.namelist()}
    assert "run.json" in files
    return [name for name, data in files.items() if re.search(rb"featcache[.:/]", data)]


def make_dataset(folder: Path, count: int = N) -> Manifest:
    """Images of patients with two images each; 6 are disputed; two wards."""
    numbers = range(count)
    table = pd.DataFrame("", index=numbers, columns=list(COLUMNS))
    table["image_id"] = image_ids(count)
    table["path"] = [f"{i}.png" for i in numbers]
    table["label"] = [CLASSES[i // 2 % 3] for i in numbers]
    table["group"] = [f"p{i // 2}" for i in numbers]
    table["status"] = "ok"
    table[["width", "height", "bytes"]] = 1
    table["patient"] = table["group"]
    table["disputed"] = ["yes" if i < 6 else "0" for i in numbers]
    table["ward"] = ["" if i == 0 else f"w{i // 3}" for i in numbers]
    made = Manifest(
        folder / "cache" / "chest",
        Settings(str(folder), str(folder), "patient"),
        table,
    )
    manifest.save(made)
    return made


def write_store(
    dataset: Manifest,
    about: Header,
    *,
    views: int = 2,
    policy: int = 0,
    dim: int = D,
    taps: dict[str, int] | None = None,
    seed: int = 0,
) -> Path:
    """A store whose rows come shuffled; views 1.. are near their view 0."""
    rng = np.random.default_rng(seed)
    count = len(dataset.table)
    codes = np.array([CLASSES.index(label) for label in dataset.table["label"]])

    def matrix(width: int) -> np.ndarray:
        plain = (
            rng.normal(size=(count, width))
            + 1.2 * np.eye(max(width, 3))[codes][:, :width]
        )
        X = np.repeat(plain, views + 1, axis=0)
        return (X + 0.1 * rng.normal(size=X.shape)).astype(np.float32)

    view = np.tile(np.arange(views + 1), count)
    keys = pd.DataFrame(
        {
            "image_id": np.repeat(image_ids(count), views + 1),
            "view": view,
            "policy": np.where(view == 0, -1, policy),
            "path": np.repeat(dataset.table["path"].to_numpy(), views + 1),
        }
    )
    order = rng.permutation(len(keys))
    widths = {"features": dim} | (taps or {})
    outputs = {name: matrix(width)[order] for name, width in widths.items()}
    path = store.store_path(dataset.folder / "features", about)
    store.seal(path, about, outputs, keys.iloc[order])
    store.publish(path, about)
    return path
