"""Made-up pictures, and datasets and stores whose features nearly tell the class."""

import re
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from records import CLASSES, D, N, make_contract

from featcache.backbones import Network
from featcache.commands.finetune import FinetuneResult, finetune
from featcache.commands.train_head import TrainResult, train_head
from featcache.core.options import arguments
from featcache.core.progress import Reporter
from featcache.dataset import manifest
from featcache.dataset.manifest import COLUMNS, Manifest, Settings
from featcache.dataset.views import Policy
from featcache.features import store
from featcache.features.store import Header

# Where the tests run in the background, Ctrl-C is ignored from birth.
HEARS_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
POLICY = Policy().to_dict()


class Heard(Reporter):
    """Keeps what it hears.

    Args:
        messages: Where messages go.
        ticks: Where progress goes.
        at_each: Called with each progress.
    """

    def __init__(
        self,
        messages: list[str] | None = None,
        ticks: list[tuple[str, int, int]] | None = None,
        at_each: Callable[[str, int, int], None] | None = None,
    ) -> None:
        self.messages = [] if messages is None else messages
        self.ticks = [] if ticks is None else ticks
        self.at_each = at_each

    def progress(self, name: str, done: int, total: int) -> None:
        """Keeps it."""
        self.ticks.append((name, done, total))
        if self.at_each:
            self.at_each(name, done, total)

    def message(self, text: str) -> None:
        """Keeps it."""
        self.messages.append(text)


def stopping(at: int, name: str = "") -> Heard:
    """A reporter that interrupts what has done so many, of a name or of any."""

    def stop(doing: str, done: int, _: int) -> None:
        if done >= at and name in ("", doing):
            raise KeyboardInterrupt

    return Heard(at_each=stop)


def train_flat(dataset: Manifest, reports: Path, **keywords: Any) -> TrainResult:
    """``train_head`` with the fields of its groups as keywords."""
    return train_head(dataset, reports, **arguments(train_head, keywords))


def finetune_flat(
    dataset: Manifest, networks: list[Network], **keywords: Any
) -> FinetuneResult:
    """``finetune`` with the fields of its groups as keywords."""
    return finetune(dataset, networks, **arguments(finetune, keywords))


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
        contract=make_contract(backbone=backbone, **contract),
        policies=list(policies),
        weights=weights,
        weights_key="",
        engine="tensorflow",
        versions={},
        notes={},
    )


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
