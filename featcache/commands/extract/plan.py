"""What a call wants, what a store has, and so what is missing."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from featcache import backbones
from featcache.backbones import Network
from featcache.core.progress import Reporter
from featcache.dataset.manifest import Manifest
from featcache.dataset.sources import Masks, find_masks
from featcache.dataset.views import Policy
from featcache.features import store
from featcache.features.contract import Contract
from featcache.features.store import FEATURES, Header, Store

if TYPE_CHECKING:
    import keras

LIBRARIES = ("featcache", "keras", "tensorflow", "openvino", "pillow", "numpy", "h5py")


@dataclass(frozen=True)
class Plan:
    """What is wanted of a call, the same for all its backbones.

    Attributes:
        manifest: The dataset.
        cache: The cache folder, for converted networks.
        views: Augmented views beside the plain one.
        policy: Their recipe, and the region that all renderings show.
        taps: Inner layers: "none", "default", or names with commas.
        tap_pooling: "avg" or "avg+max".
        engine: "auto", "tensorflow" or "openvino".
        precision: "float32" or "int8".
        dtype: "float32" or "float16", as stored.
        batch_size: Images in one pass.
        reporter: Hears of the rows done for each backbone.
    """

    manifest: Manifest
    cache: Path
    views: int
    policy: Policy
    taps: str
    tap_pooling: str
    engine: str
    precision: str
    dtype: str
    batch_size: int
    reporter: Reporter

    @cached_property
    def masks(self) -> Masks:
        """What its region needs; read once."""
        return find_masks(self.manifest, self.policy.region)


@dataclass
class Job:
    """One network's share of a call.

    Attributes:
        network: What is run.
        header: Of its store.
        path: Of its store.
        taps: Outputs beside the embedding, as "layer" or "layer:max".
        model: The network, if it had to be built already.
        found: The store as it is.
        missing: Rows to compute, in the plan's order; ``draw`` is 0 for the plain
            rendering, or the number of the draw.
        failures: Path and reason of images that could not be read.
        seconds: Spent in computing.
    """

    network: Network
    header: Header
    path: Path
    taps: list[str]
    model: "keras.Model | None" = None
    found: Store | None = None
    missing: pd.DataFrame = field(default_factory=pd.DataFrame)
    failures: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


def contract(plan: Plan, network: Network) -> Contract:
    """The contract of a network's features by this plan, but what is measured."""
    return Contract.of(network, precision=plan.precision, dtype=plan.dtype)


def known_header(plan: Plan, network: Network) -> Header | None:
    """Finds a published store of this contract, so that no network is built."""
    folder = plan.manifest.folder / "features"
    key, wanted = backbones.weights_key(network), contract(plan, network)
    for path in sorted(folder.glob(f"{network.name}-{network.weights}-*.h5")):
        header = store.open_store(path).header
        same = header.contract.without_measured == wanted
        if header.weights_key == key and same:
            return header
    return None


def new_header(plan: Plan, network: Network) -> Header:
    """The header of a store that is not there yet."""
    return Header(
        contract=contract(plan, network),
        policies=[],
        weights=network.weights,
        weights_key=backbones.weights_key(network) or "",
        engine="",
        versions={},
        notes={},
    )


def versions() -> dict[str, str]:
    """Versions of the libraries that decide the numbers."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def look_up(plan: Plan, job: Job) -> None:
    """Publishes what an earlier call sealed, and finds what is missing then."""
    for stale in job.path.parent.glob(f".{job.path.name}.*.tmp"):
        stale.unlink()
    job.found = store.publish(job.path, job.header, on_damage=plan.reporter.message)
    if job.found:
        store.check_contract(job.found, job.header)
        job.header = replace(job.found.header)
    wanted, job.header = _wanted(plan, job.header)
    job.missing = _missing(wanted, job.found, job.taps)


def _wanted(plan: Plan, header: Header) -> tuple[pd.DataFrame, Header]:
    """All rows of the plan in order: image by image, the plain rendering first."""
    plain, policy = store.NO_POLICY, store.NO_POLICY
    region = plan.policy.region.to_dict()
    if region:  # view 0 is always the whole picture
        header, plain = header.with_policy(region)
    if plan.views:
        header, policy = header.with_policy(plan.policy.to_dict())
    ids = plan.masks.ids
    rows = plan.manifest.ok[["image_id", "path"]]
    rows = rows[rows["image_id"].isin(ids)].assign(draw=0)
    rows = rows.loc[np.repeat(rows.index, plan.views + 1)].reset_index(drop=True)
    rows["draw"] = np.arange(len(rows)) % (plan.views + 1)
    is_plain = rows["draw"] == 0
    rows["view"] = rows["draw"].where(~is_plain, int(bool(region)))
    rows["policy"] = np.where(is_plain, plain, policy)
    rows["mask_id"] = rows["image_id"].map(ids)
    return rows, header


def _missing(
    wanted: pd.DataFrame, found: Store | None, taps: list[str]
) -> pd.DataFrame:
    if found is None:
        return wanted
    whole = np.logical_and.reduce([found.has(name) for name in (FEATURES, *taps)])
    have = pd.MultiIndex.from_frame(found.keys.loc[whole, store.KEY])
    return wanted[~pd.MultiIndex.from_frame(wanted[store.KEY]).isin(have)]
