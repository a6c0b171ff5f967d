"""``featcache extract``: run each frozen backbone once over a dataset's images."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from featcache.backbones import Network
from featcache.commands.extract.checks import (
    DTYPES,
    ENGINES,
    PRECISIONS,
    check_call,
)
from featcache.commands.extract.computing import (
    PartResult,
    compute_kept,
    compute_parts,
)
from featcache.commands.extract.exchanging import compute_exchanged, missing_parts
from featcache.commands.extract.on_workers import extract_on
from featcache.commands.extract.plan import (
    ExtractRequest,
    Job,
    cached_job,
    known_header,
    read_only_folder,
)
from featcache.commands.extract.planning import PlanResult, plan_parts
from featcache.commands.extract.publishing import publish_parts
from featcache.commands.extract.record import arguments, recorded, recording
from featcache.commands.extract.results import StoreResult, refuse_bad, result_of
from featcache.commands.extract.stale import idle_plans
from featcache.commands.extract.work import compute, prepare, tap_names, with_engines
from featcache.core.progress import SILENT, Once, OneAtATime, Reporter
from featcache.core.workers import LOCAL, Site
from featcache.dataset.manifest import Manifest, in_use
from featcache.dataset.sources import remote
from featcache.dataset.views import Policy
from featcache.features import store

__all__ = [
    "DTYPES",
    "ENGINES",
    "PRECISIONS",
    "PartResult",
    "PlanResult",
    "StoreResult",
    "compute_exchanged",
    "compute_kept",
    "compute_parts",
    "extract",
    "find_store",
    "idle_plans",
    "missing_parts",
    "plan_parts",
    "publish_parts",
]


def extract(
    manifest: Manifest,
    networks: Sequence[Network],
    *,
    views: int = 0,
    policy: Policy | None = None,
    taps: str = "none",
    tap_pooling: str = "avg",
    pooling: str = "avg",
    engine: str = "auto",
    precision: str = "float32",
    dtype: str = "float32",
    batch_size: int = 32,
    max_bad: float = 0.05,
    split_by: str | None = None,
    on: str = LOCAL,
    reporter: Reporter = SILENT,
) -> list[StoreResult]:
    """Fills each network's store with the embeddings it lacks.

    Only what is missing is computed: more images, more views, another policy or
    further taps cost just their own rows, and a call for what is there builds no
    network and needs no permission to write. Rows that other datasets of the cache
    have of the same images are copied. Each image is decoded once for all networks.

    Args:
        manifest: The dataset.
        networks: What to run; see ``backbones.resolve``.
        views: Augmented views of each image beside the plain one.
        policy: Their recipe, by default the study's, and the region that all
            renderings show; of another region than the whole picture there is a plain
            rendering too.
        taps: Inner layers to pool beside the embedding: "none", "default" (the ends
            of the blocks), or names with commas between.
        tap_pooling: How they are pooled: one or several of "avg", "max", "gem",
            "grid2" and "grid3", such as "avg+max".
        pooling: How the last map is pooled besides, likewise; "max" is stored as the
            tap "features:max". Its average is the embedding, and always stored.
        engine: "auto" (OpenVINO on a CPU), "tensorflow" or "openvino".
        precision: "float32", or "int8" by post-training quantisation.
        dtype: "float32", or "float16" to store half the bytes.
        batch_size: Images in one pass.
        max_bad: Share of unreadable images above which the call ends in an error,
            after the good ones are stored.
        split_by: The split of the source whose training images "featurewise" and int8
            are measured on, as in `SplitOptions`; by default as its scan says.
        on: Where to compute: "local" in this process, "dask" or "ray" in processes of
            one thread on this machine, or a cluster, "dask://HOST:PORT" or
            "ray://HOST:PORT", whose workers see the cache and the images under the
            same paths.
        reporter: Hears of the rows done for each backbone, and what the user should
            know meanwhile.

    Raises:
        DatasetError: More than ``max_bad`` of the images, or of their masks, cannot be
            read; or the region needs masks that are not there.
        StoreError: A store is damaged, locked, or does not fit on the disk.
        WeightsError: Weights cannot be had.
        UsageError: The cluster cannot be reached, or is lost.
    """
    Site.of(on)
    request = ExtractRequest(
        manifest=manifest,
        views=views,
        policy=policy or Policy(),
        taps=taps,
        tap_pooling=tap_pooling,
        pooling=pooling,
        engine=engine,
        precision=precision,
        dtype=dtype,
        batch_size=batch_size,
        reporter=OneAtATime(reporter),
        split_by=split_by,
    )
    if on != LOCAL:
        request = replace(request, reporter=Once(request.reporter))
    check_call(request, networks, max_bad)
    if read_only_folder(manifest):
        jobs = [cached_job(request, n, tap_names(request, n)) for n in networks]
        return [result_of(job) for job in {job.path: job for job in jobs}.values()]
    if on != LOCAL:
        return extract_on(
            on, request, networks, max_bad, lambda some: _here(request, some, max_bad)
        )
    return _here(request, networks, max_bad)


def _here(
    request: ExtractRequest, networks: Sequence[Network], max_bad: float
) -> list[StoreResult]:
    """Computes what is missing in this process."""
    manifest = request.manifest
    with (
        in_use(manifest) as check,
        recording(manifest.folder, arguments(request, networks)) as record,
    ):
        jobs = _run(request, networks, record)
        check()
        results = [result_of(job) for job in jobs]
        record["stores"] = recorded(results)
        refuse_bad(manifest, results, max_bad, request.reporter)
    return results


def _run(
    request: ExtractRequest, networks: Sequence[Network], record: dict[str, Any]
) -> list[Job]:
    with ExitStack() as locks:
        jobs = prepare(request, networks, locks)
        work = with_engines(request, [job for job in jobs if len(job.missing)])
        try:
            compute(request, work)
        finally:
            record["failures"] = {
                path: reason for job in jobs for path, reason in job.failures.items()
            }
            for line in remote.repeated():
                request.reporter.message(line)
    return jobs


def find_store(
    manifest: Manifest, network: Network, *, dtype: str = "float32"
) -> Path | None:
    """The published store that ``extract`` would fill, if there is one.

    Args:
        manifest: The dataset; only its folder matters.
        network: As for ``extract``.
        dtype: As for ``extract``.

    Raises:
        StoreError: A store of this network is damaged.
    """
    request = ExtractRequest(manifest=manifest, dtype=dtype)
    header = known_header(request, network)
    return store.store_path(manifest.folder / "features", header) if header else None
