"""Listing: which stores there are, what each says of itself, who uses it."""

import contextlib
import fcntl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from featcache.core.text import some
from featcache.dataset import manifest
from featcache.dataset.manifest import Manifest
from featcache.dataset.regions import WHOLE_PICTURE
from featcache.errors import DatasetError, StoreError, StoreUnavailableError
from featcache.evaluation import runs
from featcache.evaluation.runs import Run
from featcache.features import store
from featcache.features.contract import FLOAT32
from featcache.features.keys import is_plain, rows_by_region
from featcache.features.store import Header, Store

OK, WAITING, DAMAGED, UNAVAILABLE = "ok", "waiting", "damaged", "unavailable"


@dataclass(frozen=True)
class Entry:
    """A store as it is listed.

    Attributes:
        dataset: Whose images.
        store: Its file name.
        path: Where it is.
        status: "ok"; "damaged"; "unavailable", where it cannot be opened now; or
            "waiting": nothing but sealed parts yet.
        reason: Why the status is not "ok".
        bytes: Size of all its files.
        parts: Sealed parts that wait for the next extract.
        files: Files that hold the rows: 1, or the number of its part files.
        locked_by: The live process that writes it, if any.
        runs: Ids of the runs that use it.
        backbone: What made the embeddings; this and the rest are empty or 0 where
            the file cannot be read.
        weights: Weights tag.
        input_size: Side in pixels.
        precision: "float32" or "int8".
        dtype: How numbers are stored.
        rows: Embeddings.
        images: Images that they are of.
        views: Augmented views of whole pictures.
        regions: Other regions that there are renderings of, such as ":inside".
        dim: Width D of the embedding.
        taps: Inner layers.
        created: When it was written (ISO 8601).
    """

    dataset: str
    store: str
    path: Path
    status: str
    reason: str
    bytes: int
    parts: int
    files: int
    locked_by: str
    runs: list[str]
    backbone: str = ""
    weights: str = ""
    input_size: int = 0
    precision: str = ""
    dtype: str = ""
    rows: int = 0
    images: int = 0
    views: int = 0
    regions: list[str] = field(default_factory=list)
    dim: int = 0
    taps: list[str] = field(default_factory=list)
    created: str = ""


@dataclass(frozen=True)
class Coverage:
    """A store against its manifest.

    Attributes:
        with_rows: Usable images of the manifest that have a plain row.
        without_rows: Those that have none.
        left_over: Rows of images that are no longer in the manifest.
    """

    with_rows: int
    without_rows: int
    left_over: int


@dataclass(frozen=True)
class Info:
    """All that a store says of itself.

    Attributes:
        entry: As it is listed.
        contract_id: Digest of the contract.
        header: Contract, policies, engine, versions, notes.
        views: One a policy and view: ``policy``, ``view``, ``rows``.
        taps: One an inner layer: ``layer``, ``dim``, ``rows`` that are computed.
        coverage: Against the manifest; None where there is none.
    """

    entry: Entry
    contract_id: str
    header: Header
    views: list[dict[str, int]]
    taps: list[dict[str, Any]]
    coverage: Coverage | None


def store_paths(cache: Path, dataset: str | None = None) -> list[Path]:
    """Every store of a cache or a dataset, those with nothing but parts included."""
    if dataset:
        folders = [manifest.find(cache, dataset) / "features"]
    else:
        folders = list(cache.glob("*/features"))
    files = [p for f in folders for kind in ("*.h5", "*.parts") for p in f.glob(kind)]
    return sorted({path.with_suffix(".h5") for path in files})


def find(cache: Path, reference: str) -> Path:
    """Finds a store by its path, its file name, or a part that only one has.

    Raises:
        StoreError: None has it, or several have.
    """
    if Path(reference).is_file():
        return Path(reference)
    names = {p: p.relative_to(cache).as_posix() for p in store_paths(cache)}
    matches = [p for p in names if reference in (p.name, p.stem)]
    matches = matches or [p for p, name in names.items() if reference in name]
    if len(matches) == 1:
        return matches[0]
    raise StoreError(
        "the path or name of one feature store, or a unique part of it",
        f"{reference!r}, which matches {len(matches) or 'none'} of {len(names)} stores"
        + (f": {some([names[p] for p in matches])}" if matches else ""),
        "Run: featcache cache ls",
    )


def ls(cache: Path, reports: Path, *, dataset: str | None = None) -> list[Entry]:
    """Lists every store of a cache, or of one dataset; damaged ones with the reason."""
    paths = store_paths(cache, dataset)
    names = {path.parent.parent.name for path in paths}
    good = {name: runs.list_runs(reports / name)[0] for name in names}
    return [_entry(path, good[path.parent.parent.name]) for path in paths]


def _entry(path: Path, good: list[Run]) -> Entry:
    parts = store.part_files(path)
    files = [p for p in (path, *parts) if p.exists()]
    facts: dict[str, Any] = {"runs": [], "files": 0}
    status, reason = OK, ""
    if not path.exists():
        status, reason = WAITING, "nothing published yet"
    try:
        # Where nothing is published yet, the first part tells what it will be.
        for stored in map(store.open_store, files[:1]):
            facts = _facts(stored, stored.keys if status == OK else stored.keys[:0])
            facts["files"] = stored.n_files if status == OK else 0
            mine = stored.header.contract_id
            facts["runs"] = [run.run_id for run in good if mine in run.contracts]
    except StoreUnavailableError as error:
        status, reason = UNAVAILABLE, error.got
    except StoreError as error:
        status, reason = DAMAGED, error.got
    return Entry(
        dataset=path.parent.parent.name,
        store=path.name,
        path=path,
        status=status,
        reason=reason,
        bytes=sum(map(size, [*files, store.data_folder(path)])),
        parts=len(parts),
        locked_by=owner(path.with_suffix(".lock")),
        **facts,
    )


def _facts(stored: Store, rows: pd.DataFrame) -> dict[str, Any]:
    contract = stored.header.contract
    by_region = rows_by_region(rows, stored.header)
    views = rows.loc[by_region.pop(WHOLE_PICTURE), "view"]
    return {
        "backbone": contract.backbone,
        "weights": stored.header.weights,
        "input_size": contract.input_size,
        "precision": contract.precision or FLOAT32,
        "dtype": stored.header.dtype.name,
        "rows": len(rows),
        "images": int(rows["image_id"].nunique()),
        "views": int(views.max()) if len(views) else 0,
        "regions": sorted(region.suffix for region in by_region),
        "dim": stored.dims.get(store.FEATURES, 0),
        "taps": stored.taps,
        "created": stored.created,
    }


def size(path: Path) -> int:
    """Bytes of a file, or of the files in a folder; 0 where there is none now."""
    files = path.rglob("*") if path.is_dir() else [path]
    total = 0
    for file in files:
        with contextlib.suppress(FileNotFoundError):
            total += 0 if file.is_dir() else file.stat().st_size
    return total


def owner(path: Path) -> str:
    """Who holds a lock file now; empty if nobody does, as after a crash."""
    text = ""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read().strip()
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return ""
    except OSError:  # held, or not ours to try
        return text or "another process"
    return ""


def info(path: Path, reports: Path) -> Info:
    """Reads all that a store says of itself.

    Raises:
        StoreError: It is damaged.
    """
    stored = store.open_store(path)
    counts = stored.keys.groupby(["policy", "view"], as_index=False).size()
    return Info(
        entry=_entry(path, runs.list_runs(reports / path.parent.parent.name)[0]),
        contract_id=stored.header.contract_id,
        header=stored.header,
        views=[
            {"policy": int(policy), "view": int(view), "rows": int(rows)}
            for policy, view, rows in counts.itertuples(index=False, name=None)
        ],
        taps=[
            {"layer": name, "dim": stored.dims[name], "rows": stored.filled[name]}
            for name in stored.taps
        ],
        coverage=_coverage(stored, path.parent.parent),
    )


def _coverage(stored: Store, folder: Path) -> Coverage | None:
    try:
        images = manifest.load(folder)
    except DatasetError:
        return None
    plain = stored.keys.loc[is_plain(stored.keys), "image_id"]
    have = int(images.ok["image_id"].isin(plain).sum())
    return Coverage(have, len(images.ok) - have, int(gone(stored, images).sum()))


def gone(stored: Store, images: Manifest) -> np.ndarray:
    """Which rows are of images that the manifest no longer has, (N,) bool."""
    return ~stored.keys["image_id"].isin(images.table["image_id"]).to_numpy()
