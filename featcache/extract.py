"""``featcache extract``: run each frozen backbone once over a dataset's images."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib import metadata
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from featcache import backbones, images, store, views
from featcache.backbones import Network
from featcache.engines.base import Engine
from featcache.errors import DatasetError, UnreadableImageError, UsageError
from featcache.manifest import DUPLICATE, UNREADABLE, Manifest, some
from featcache.store import Header, Store
from featcache.views import Policy

if TYPE_CHECKING:
    import keras

ENGINES = ("auto", "tensorflow")
# Work is sealed about twice a second: that much, and the batch in flight, is what
# `kill -9` can cost.
_SEAL_SECONDS = 0.5
_LIBRARIES = ("featcache", "tensorflow", "keras", "pillow", "numpy", "h5py")

Progress = Callable[[str, int, int], None]
Message = Callable[[str], None]


@dataclass(frozen=True)
class StoreResult:
    """What a call did for one backbone.

    Attributes:
        backbone: Its name.
        weights: Its weights tag.
        path: The store.
        dim: Width D of the embedding.
        rows: Embeddings in the store now.
        computed: Embeddings computed by this call; 0: all was cached.
        seconds: Spent in computing them.
        failures: (path, reason) of each image that could not be read.
    """

    backbone: str
    weights: str
    path: Path
    dim: int
    rows: int
    computed: int
    seconds: float
    failures: list[tuple[str, str]]


@dataclass(frozen=True)
class _Plan:
    """What is wanted of a call, the same for all its backbones."""

    manifest: Manifest
    views: int
    policy: Policy
    batch_size: int
    progress: Progress | None
    message: Message


def extract(
    manifest: Manifest,
    networks: Sequence[Network],
    *,
    views: int = 0,
    policy: Policy | None = None,
    engine: str = "auto",
    batch_size: int = 32,
    max_bad: float = 0.05,
    progress: Progress | None = None,
    message: Message | None = None,
) -> list[StoreResult]:
    """Fills each network's store with the embeddings it lacks.

    Only what is missing is computed: more images, more views or another policy
    cost just their own rows, and a call for what is there builds no network.

    Args:
        manifest: The dataset.
        networks: What to run; see ``backbones.resolve``.
        views: Augmented views of each image beside the plain one.
        policy: Their recipe; by default the study's.
        engine: "auto" or "tensorflow".
        batch_size: Images in one pass.
        max_bad: Share of unreadable images above which the call ends in an error,
            after the good ones are stored.
        progress: Called with (backbone, rows done, rows to do).
        message: Called with what the user should know meanwhile.

    Raises:
        DatasetError: More than ``max_bad`` of the images cannot be read.
        StoreError: A store is damaged, locked, or does not fit on the disk.
        WeightsError: Weights cannot be had.
    """
    policy = policy or Policy()
    _check(views, policy, engine, batch_size, max_bad)
    if not manifest.root.is_dir():
        raise DatasetError(
            f"the images of {manifest.dataset} in {manifest.root}",
            "no such folder",
            f"Scan them where they are now: featcache scan SOURCE --dataset "
            f"{manifest.dataset} (features of known images are kept).",
        )
    plan = _Plan(
        manifest, views, policy, batch_size, progress, message or (lambda text: None)
    )
    results = [_extract_one(plan, network) for network in networks]
    _refuse_bad(manifest, results, max_bad)
    return results


def _check(
    views: int, policy: Policy, engine: str, batch_size: int, max_bad: float
) -> None:
    if not 0 <= views < 2**16:
        raise UsageError("--views from 0 to 65535", str(views), "0 is the plain view.")
    if views and policy.is_identity:
        raise UsageError(
            "a policy that changes the image",
            f"--views {views} with --no-flip --brightness 1,1 --zoom 1,1",
            "Every view would equal view 0: allow a change or use --views 0.",
        )
    if engine not in ENGINES:
        raise UsageError(f"--engine {', '.join(ENGINES)}", repr(engine), "Take one.")
    if batch_size < 1:
        raise UsageError("--batch-size of 1 or more", str(batch_size), "Try 32.")
    if not 0 <= max_bad <= 1:
        raise UsageError("--max-bad from 0 to 1", str(max_bad), "0.05 is 5 %.")


def _extract_one(plan: _Plan, network: Network) -> StoreResult:
    folder = plan.manifest.folder / "features"
    header, model = _known_header(folder, network), None
    if header is None:
        header, model = _new_header(network)
    path = store.store_path(folder, header)
    with store.writing(path, on_takeover=plan.message):
        for stale in folder.glob(f".{path.name}.*.tmp"):
            stale.unlink()
        found = store.publish(path, header, on_damage=plan.message)
        if found:
            store.check_contract(found, header)
            header = replace(header, policies=found.header.policies)
        wanted, header = _wanted(plan, header)
        missing = _missing(wanted, found)
        started = time.monotonic()
        failures: list[tuple[str, str]] = []
        if len(missing):
            engine = _engine(network, model, plan.batch_size)
            failures = _compute(plan, network, engine, path, header, missing)
            found = store.publish(path, header, on_damage=plan.message)
        lost = missing["path"].isin([p for p, _ in failures]).sum()
        return StoreResult(
            backbone=network.name,
            weights=network.weights,
            path=path,
            dim=found.dim if found else 0,
            rows=len(found.keys) if found else 0,
            computed=len(missing) - int(lost),
            seconds=time.monotonic() - started,
            failures=failures,
        )


def _contract(network: Network, weights_digest: str) -> dict[str, Any]:
    return {
        "backbone": network.name,
        "architecture": network.architecture,
        "weights_digest": weights_digest,
        "pooling": "average",
        "input_size": network.input_size,
        "resize": views.RESIZE,
        "colour": images.COLOUR,
        "preprocess": network.preprocess,
        "precision": "float32",
        "dtype": "float32",
        "decoder": images.DECODER_VERSION,
    }


def _known_header(folder: Path, network: Network) -> Header | None:
    """Finds a published store of these weights, so that no network is built."""
    key = backbones.weights_key(network)
    for path in sorted(folder.glob(f"{network.name}-{network.weights}-*.h5")):
        header = store.open_store(path).header
        contract = _contract(network, header.contract.get("weights_digest", ""))
        if header.weights_key == key and header.contract == contract:
            return header
    return None


def _new_header(network: Network) -> tuple[Header, "keras.Model"]:
    model = backbones.build(network)
    header = Header(
        contract=_contract(network, backbones.weights_digest(model)),
        policies=[],
        weights=network.weights,
        weights_key=backbones.weights_key(network) or "",
        engine="tensorflow",
        versions={name: metadata.version(name) for name in _LIBRARIES},
    )
    return header, model


def _engine(network: Network, model: "keras.Model | None", batch_size: int) -> Engine:
    from featcache.engines.tensorflow import TensorFlowEngine

    core = model or backbones.build(network)
    return TensorFlowEngine(backbones.with_pixels(core, network), batch_size=batch_size)


def _wanted(plan: _Plan, header: Header) -> tuple[pd.DataFrame, Header]:
    """All rows of the plan in order: image by image, view 0 first."""
    policy = store.NO_POLICY
    if plan.views:
        header, policy = header.with_policy(plan.policy.to_dict())
    ok = plan.manifest.ok
    view = np.tile(np.arange(plan.views + 1), len(ok))
    wanted = pd.DataFrame(
        {
            "image_id": np.repeat(ok["image_id"].to_numpy(), plan.views + 1),
            "view": view,
            "policy": np.where(view == 0, store.NO_POLICY, policy),
            "path": np.repeat(ok["path"].to_numpy(), plan.views + 1),
        }
    )
    return wanted, header


def _missing(wanted: pd.DataFrame, found: Store | None) -> pd.DataFrame:
    if found is None:
        return wanted
    have = pd.MultiIndex.from_frame(found.keys[store.KEY])
    return wanted[~pd.MultiIndex.from_frame(wanted[store.KEY]).isin(have)]


def _compute(
    plan: _Plan,
    network: Network,
    engine: Engine,
    path: Path,
    header: Header,
    missing: pd.DataFrame,
) -> list[tuple[str, str]]:
    """Computes and seals the missing rows; returns the images that failed."""
    failures: list[tuple[str, str]] = []
    blocks: list[np.ndarray] = []
    rows: list[int] = []
    sealed_at = time.monotonic()

    def seal() -> None:
        if rows:
            keys = missing.iloc[rows]
            store.seal(path, header, np.concatenate(blocks), keys)
            blocks.clear()
            rows.clear()

    try:
        numbers: deque[list[int]] = deque()
        batches = _batches(plan, network.input_size, missing, failures, numbers)
        for outputs in engine.run(batches):
            batch = numbers.popleft()
            blocks.append(outputs["features"])
            rows.extend(batch)
            if plan.progress:
                plan.progress(network.name, batch[-1] + 1, len(missing))
            if time.monotonic() - sealed_at > _SEAL_SECONDS:
                seal()
                sealed_at = time.monotonic()
    finally:
        seal()
    return failures


def _batches(
    plan: _Plan,
    size: int,
    missing: pd.DataFrame,
    failures: list[tuple[str, str]],
    numbers: deque[list[int]],
) -> Iterator[np.ndarray]:
    """Yields (n, size, size, 3) uint8; appends their row numbers to ``numbers``.

    Batches are cut from the rows in order, so that a resumed run cuts the same
    ones as an undisturbed run from where it stands.
    """
    rendered = _rendered(plan, size, missing, failures)
    while batch := list(islice(rendered, plan.batch_size)):
        numbers.append([row for row, _ in batch])
        yield np.stack([pixels for _, pixels in batch])


def _rendered(
    plan: _Plan,
    size: int,
    missing: pd.DataFrame,
    failures: list[tuple[str, str]],
) -> Iterator[tuple[int, np.ndarray]]:
    """Reads, decodes and renders in threads, a bounded number of images ahead."""
    files = zip(missing["path"], missing["image_id"], strict=True)
    work = [
        (path, image_id, [row for row, _ in rows])
        for (path, image_id), rows in groupby(enumerate(files), key=itemgetter(1))
    ]
    view = missing["view"].to_numpy()

    def one(path: str, image_id: str, rows: list[int]) -> list[np.ndarray]:
        image = _read(plan.manifest.root / path, image_id)
        drawn = (
            views.draw(plan.policy, image_id, int(view[row])) if view[row] else None
            for row in rows
        )
        return [views.render(image, size, d) for d in drawn]

    ahead = 8 + 2 * plan.batch_size // (plan.views + 1)
    queue: deque[tuple[str, list[int], Future[list[np.ndarray]]]] = deque()
    with ThreadPoolExecutor() as pool:
        try:
            for item in [*work, *[None] * ahead]:
                if item:
                    queue.append((item[0], item[2], pool.submit(one, *item)))
                if queue and (item is None or len(queue) > ahead):
                    path, rows, future = queue.popleft()
                    try:
                        yield from zip(rows, future.result(), strict=True)
                    except UnreadableImageError as error:
                        failures.append((path, error.got))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _read(path: Path, image_id: str) -> Any:
    """Reads and decodes the picture that the manifest means, or says why not."""
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
        raise UnreadableImageError("the file", reason, "Scan again.") from error
    if images.content_id(data) != image_id:
        raise UnreadableImageError("the file", "changed since the scan", "Scan again.")
    return images.decode(data)


def _refuse_bad(manifest: Manifest, results: list[StoreResult], max_bad: float) -> None:
    table = manifest.table[manifest.table["status"] != DUPLICATE]
    unreadable = table[table["status"] == UNREADABLE]
    bad = dict(zip(unreadable["path"], unreadable["reason"], strict=True))
    for result in results:
        bad |= dict(result.failures)
    if len(bad) > max_bad * len(table):
        raise DatasetError(
            f"at most {max_bad:.0%} unreadable images (--max-bad)",
            f"{len(bad)} of {len(table)}: "
            + some([f"{path} ({reason})" for path, reason in bad.items()], 3),
            "The good ones are stored. Replace the files and scan again, or raise "
            "--max-bad.",
        )
