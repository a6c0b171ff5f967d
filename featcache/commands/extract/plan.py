"""What a call asks for, what a store has, and so what is missing."""

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from featcache import backbones, features
from featcache.backbones import FEATUREWISE, Network
from featcache.core.progress import SILENT, Reporter
from featcache.core.taps import AVG
from featcache.core.versions import installed_versions
from featcache.dataset import splits
from featcache.dataset.manifest import Manifest
from featcache.dataset.narrowing import narrow, straddling
from featcache.dataset.sources import Masks, find_masks
from featcache.dataset.splits import Split, SplitOptions
from featcache.dataset.views import Policy
from featcache.errors import StoreError
from featcache.features import measured, store
from featcache.features.contract import FLOAT32, Contract
from featcache.features.copies import complete_rows
from featcache.features.keys import RenderingQuery
from featcache.features.store import FEATURES, Header, Store

if TYPE_CHECKING:
    import keras

LIBRARIES = ("featcache", "keras", "tensorflow", "openvino", "pillow", "numpy", "h5py")


@dataclass(frozen=True)
class ExtractRequest:
    """What a call asks for, the same for all its backbones.

    Attributes:
        manifest: The dataset.
        views: Augmented views beside the plain one.
        policy: Their recipe, and the region that all renderings show.
        taps: Inner layers: "none", "default", or names with commas.
        tap_pooling: How they are pooled, such as "avg+max".
        pooling: How the last map is, likewise.
        engine: "auto", "tensorflow" or "openvino".
        precision: "float32" or "int8".
        dtype: "float32" or "float16", as stored.
        batch_size: Images in one pass.
        reporter: Hears of the rows done for each backbone.
        split_by: Which split of the source the training images are of; None for that
            of the manifest.
    """

    manifest: Manifest
    views: int = 0
    policy: Policy = Policy()
    taps: str = "none"
    tap_pooling: str = AVG
    pooling: str = AVG
    engine: str = "auto"
    precision: str = FLOAT32
    dtype: str = FLOAT32
    batch_size: int = 32
    reporter: Reporter = SILENT
    split_by: str | None = None

    @property
    def cache(self) -> Path:
        """The cache folder, for converted networks."""
        return self.manifest.folder.parent

    @cached_property
    def masks(self) -> Masks:
        """What its region needs; read once."""
        return find_masks(self.manifest, self.policy.region)

    @property
    def renderings(self) -> RenderingQuery:
        """Which renderings the store has to have, of images whose region is known."""
        policy = self.policy
        return RenderingQuery(
            self.views, policy.to_dict(), policy.region, self.masks.ids
        )

    @cached_property
    def default_split(self) -> tuple[Manifest, Split]:
        """The default split with the seed of the policy, and the images it is of."""
        dataset = narrow(self.manifest, split_by=self.split_by)
        options = SplitOptions(seed=self.policy.seed, split_by=self.split_by)
        return dataset, features.draw_split(dataset, options)

    @property
    def training_images(self) -> tuple[str, list[str]]:
        """The default split's name, and the ids of its images outside the test set."""
        dataset, split = self.default_split
        ids = dataset.ok["image_id"].tolist()
        return split.name, [i for i in ids if split.fold_of[i] != splits.TEST]


@dataclass
class Job:
    """One network's share of a call.

    Attributes:
        network: What is run.
        header: Of its store.
        path: Of its store.
        taps: Outputs beside the embedding, such as "layer" or "features:max".
        model: The network, if it had to be built already.
        store: The store as it is.
        missing: Rows to compute, in the manifest's order; ``draw`` is 0 for the plain
            rendering, or the number of the draw.
        copied: Rows that were copied from other stores of the cache.
        failures: Path and reason of images that could not be read.
        seconds: Spent in computing.
    """

    network: Network
    header: Header
    path: Path
    taps: list[str]
    model: "keras.Model | None" = None
    store: Store | None = None
    missing: pd.DataFrame = field(default_factory=pd.DataFrame)
    copied: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


def contract(request: ExtractRequest, network: Network) -> Contract:
    """The contract of a network's features by this request, but what is measured."""
    return Contract.of(network, precision=request.precision, dtype=request.dtype)


def known_header(request: ExtractRequest, network: Network) -> Header | None:
    """Finds a published store of this contract, so that no network is built."""
    folder = request.manifest.folder / "features"
    key, unmeasured = backbones.weights_key(network), contract(request, network)
    names = f"{glob.escape(network.name)}-{network.weights}-*.h5"
    for path in sorted(folder.glob(names)):
        header = store.open_store(path).header
        is_same = header.contract.without_measured == unmeasured
        if header.weights_key == key and is_same and _suits_split(request, header):
            return header
    return None


def _suits_split(request: ExtractRequest, header: Header) -> bool:
    """Whether a store can be trained on where the call's split is."""
    if not measured.is_measured(header):
        return True  # without drawing a split
    return not measured.leak(header, *request.default_split)


def check_split(request: ExtractRequest, networks: Sequence[Network]) -> None:
    """Checks the split that a call names, and tells what it is good for.

    Raises:
        DatasetError: There is no such split.
    """
    if request.split_by is None:
        return
    for line in straddling(narrow(request.manifest, split_by=request.split_by)):
        request.reporter.message(line)
    measured = any(n.preprocess == FEATUREWISE for n in networks)
    if not measured and request.precision == "float32":
        request.reporter.message(
            "These features are the same for every split: give "
            f"`split_by={request.split_by!r}` in training as well."
        )


def new_header(request: ExtractRequest, network: Network) -> Header:
    """The header of a store that is not there yet."""
    return Header(
        contract=contract(request, network),
        policies=[],
        weights=network.weights,
        weights_key=backbones.weights_key(network) or "",
        engine="",
        versions={},
        notes={},
    )


def read_only_folder(dataset: Manifest) -> Path | None:
    """The folder of a dataset that nothing can be written to, if there is one."""
    folders = dataset.folder, dataset.folder / "features"
    closed = (f for f in folders if f.exists() and not os.access(f, os.W_OK))
    return next(closed, None)


def cached_job(request: ExtractRequest, network: Network, taps: list[str]) -> Job:
    """A network's share of a call where nothing can be written.

    Raises:
        StoreError: Something is not stored yet.
    """
    header, missing = known_header(request, network), 0
    if header:
        path = store.store_path(request.manifest.folder / "features", header)
        job = Job(network, header, path, taps, store=store.open_store(path))
        job.failures |= request.masks.lost
        find_missing(request, job)
        missing = len(job.missing)
    if not header or missing:
        raise StoreError(
            f"all embeddings of {network.name} in the cache, for it cannot be written",
            f"{missing} that are missing" if header else "none",
            f"Change the permissions of {read_only_folder(request.manifest)}, or use "
            "a copy of the cache.",
        )
    return job


def versions() -> dict[str, str]:
    """Versions of the libraries that decide the numbers."""
    return installed_versions(LIBRARIES)


def missing_rows(request: ExtractRequest, job: Job) -> None:
    """Publishes what an earlier call sealed, and sets the rows missing then."""
    for stale in job.path.parent.glob(f".{job.path.name}.*.tmp"):
        stale.unlink()
    job.store = store.publish(job.path, job.header, on_damage=request.reporter.message)
    find_missing(request, job)


def find_missing(request: ExtractRequest, job: Job) -> None:
    """Compares what is asked for with the store as it is."""
    if job.store:
        store.check_contract(job.store, job.header)
        job.header = replace(job.store.header)
    query = request.renderings
    job.header = query.added_to(job.header)
    images = request.manifest.ok[["image_id", "path"]]
    images = images[images["image_id"].isin(query.masks)].set_index("image_id")
    rows = query.keys(images.index.to_numpy(), job.header).join(images, on="image_id")
    job.missing = _missing(rows, job.store, job.taps)


def _missing(rows: pd.DataFrame, stored: Store | None, taps: list[str]) -> pd.DataFrame:
    if stored is None:
        return rows
    complete = complete_rows(stored, [FEATURES, *taps])
    existing = pd.MultiIndex.from_frame(stored.keys.loc[complete, store.KEY])
    return rows[~pd.MultiIndex.from_frame(rows[store.KEY]).isin(existing)]
