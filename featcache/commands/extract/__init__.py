"""``featcache extract``: run each frozen backbone once over a dataset's images."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from featcache.backbones import Network
from featcache.backbones.engines import choose
from featcache.commands.extract import pipeline
from featcache.commands.extract.checks import (
    DTYPES,
    ENGINES,
    PRECISIONS,
    check_baselines,
    check_request,
    report_class_scores,
)
from featcache.commands.extract.copying import copy_missing
from featcache.commands.extract.drift import check_drift
from featcache.commands.extract.measure import (
    fill_measured_fields,
    prepared,
    refuse_other_weights,
)
from featcache.commands.extract.plan import (
    ExtractRequest,
    Job,
    cached_job,
    check_split,
    known_header,
    missing_rows,
    new_header,
    read_only_folder,
    versions,
)
from featcache.commands.extract.proof import prove
from featcache.commands.extract.record import recording
from featcache.core.progress import SILENT, OneAtATime, Reporter
from featcache.core.text import percent, some
from featcache.dataset.manifest import DUPLICATE, UNREADABLE, Manifest, in_use
from featcache.dataset.sources import remote
from featcache.dataset.views import Policy
from featcache.errors import DatasetError, UsageError
from featcache.features import store

# Of a request, in the record of a call.
_RECORDED = (
    *("views", "taps", "tap_pooling", "pooling"),
    *("engine", "precision", "dtype"),
)
__all__ = ["DTYPES", "ENGINES", "PRECISIONS", "StoreResult", "extract", "find_store"]


@dataclass(frozen=True)
class StoreResult:
    """What a call did for one backbone.

    Attributes:
        backbone: Its name.
        weights: Its weights tag.
        input_size: Side of its input in pixels; 0 if it looks at none.
        path: The store.
        engine: What ran it; empty if nothing had to be run.
        dim: Width D of the embedding.
        taps: Names of the inner layers in the store.
        rows: Embeddings in the store now.
        computed: Embeddings computed by this call; 0: all was cached.
        copied: Embeddings that this call copied from other datasets of the cache.
        seconds: Spent in computing them.
        failures: (path, reason) of each image that could not be read.
    """

    backbone: str
    weights: str
    input_size: int
    path: Path
    engine: str
    dim: int
    taps: list[str]
    rows: int
    computed: int
    copied: int
    seconds: float
    failures: list[tuple[str, str]]


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
        reporter: Hears of the rows done for each backbone, and what the user should
            know meanwhile.

    Raises:
        DatasetError: More than ``max_bad`` of the images, or of their masks, cannot be
            read; or the region needs masks that are not there.
        StoreError: A store is damaged, locked, or does not fit on the disk.
        WeightsError: Weights cannot be had.
    """
    request = ExtractRequest(
        manifest=manifest,
        cache=manifest.folder.parent,
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
    check_request(request, max_bad)
    check_split(request, networks)
    check_baselines(request, networks)
    report_class_scores(request, networks)
    _report_missing_masks(request)
    if read_only_folder(manifest):
        jobs = [cached_job(request, n, _tap_names(request, n)) for n in networks]
        return [_result(job) for job in {job.path: job for job in jobs}.values()]
    with (
        in_use(manifest) as check,
        recording(manifest.folder, _arguments(request, networks)) as record,
    ):
        jobs = _run(request, networks, record)
        check()
        results = [_result(job) for job in jobs]
        record["stores"] = [asdict(r) | {"path": str(r.path)} for r in results]
        _refuse_bad(manifest, results, max_bad)
    return results


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
    request = ExtractRequest(
        manifest=manifest,
        cache=manifest.folder.parent,
        views=0,
        policy=Policy(),
        taps="none",
        tap_pooling="avg",
        pooling="avg",
        engine="auto",
        precision="float32",
        dtype=dtype,
        batch_size=1,
        reporter=SILENT,
    )
    header = known_header(request, network)
    return store.store_path(manifest.folder / "features", header) if header else None


def _report_missing_masks(request: ExtractRequest) -> None:
    region, missing = request.policy.region, request.masks.missing
    if missing:
        request.reporter.message(
            f"{len(missing)} of {len(request.manifest.ok)} images have no mask in "
            f"column {region.mask}, so no row for region {region.kind}: "
            f"{some(missing, 3)}"
        )


def _arguments(request: ExtractRequest, networks: Sequence[Network]) -> dict[str, Any]:
    return {
        "networks": [
            {
                "name": n.name,
                "weights": n.weights,
                "input_size": n.input_size,
                "file": str(n.file.resolve()) if n.file else None,
            }
            for n in networks
        ],
        "policy": request.policy.to_dict(),
        "batch_size": request.batch_size,
        "images": len(request.manifest.ok),
        **{name: getattr(request, name) for name in _RECORDED},
    }


def _run(
    request: ExtractRequest, networks: Sequence[Network], record: dict[str, Any]
) -> list[Job]:
    with ExitStack() as locks:
        jobs: dict[Path, Job] = {}
        for network in networks:
            job = _prepare(request, network)
            if job.path not in jobs:
                jobs[job.path] = job
                job.failures |= request.masks.lost
                locks.enter_context(
                    store.writing(job.path, on_takeover=request.reporter.message)
                )
                missing_rows(request, job)
                if len(job.missing):
                    prove(request, job)
                copy_missing(request, job)
                _report_cost_of_taps(request, job)
        todo = [job for job in jobs.values() if len(job.missing)]
        engines = choose.make(
            [prepared(request, job) for job in todo],
            engine=request.engine,
            precision=request.precision,
            batch_size=request.batch_size,
            message=request.reporter.message,
        )
        work = list(zip(todo, engines, strict=True))
        for job, engine in work:
            job.header = replace(job.header, engine=engine.name, versions=versions())
            check_drift(request, job, engine)
            job.model = None
        try:
            if work:
                pipeline.run(request, work)
        finally:
            record["failures"] = {
                path: reason
                for job in jobs.values()
                for path, reason in job.failures.items()
            }
            for line in remote.repeated():
                request.reporter.message(line)
        for job, _ in work:
            job.store = store.publish(
                job.path, job.header, on_damage=request.reporter.message
            )
    return list(jobs.values())


def _prepare(request: ExtractRequest, network: Network) -> Job:
    """Finds or makes a network's header; only a new store needs the network."""
    folder = request.manifest.folder / "features"
    taps = _tap_names(request, network)
    header = known_header(request, network)
    if header:
        refuse_other_weights(network, header.contract.weights_digest)
        return Job(network, header, store.store_path(folder, header), taps)
    job = Job(network, new_header(request, network), folder, taps)
    fill_measured_fields(request, job)
    job.path = store.store_path(folder, job.header)
    return job


def _tap_names(request: ExtractRequest, network: Network) -> list[str]:
    names = network.tap_names(request.taps, request.tap_pooling, request.pooling)
    has_none = request.taps == "default" and not network.taps
    if has_none and not network.is_baseline:
        raise UsageError(
            f"names of layers for `taps` of {network.text}",
            "default, but it has no default taps",
            'Name them, or add "taps": [...] to the JSON file beside the network.',
        )
    return names


def _report_cost_of_taps(request: ExtractRequest, job: Job) -> None:
    if job.store is None or not len(job.missing):
        return
    ids = set(zip(*(job.store.keys[k] for k in store.KEY), strict=True))
    again = sum(
        key in ids for key in zip(*(job.missing[k] for k in store.KEY), strict=True)
    )
    if again:
        request.reporter.message(
            f"{job.network.text}: {again} stored rows lack these taps and need one "
            "more pass each."
        )


def _result(job: Job) -> StoreResult:
    stored = job.store
    lost = int(job.missing["path"].isin(list(job.failures)).sum())
    return StoreResult(
        backbone=job.network.name,
        weights=job.network.weights,
        input_size=job.network.input_size,
        path=job.path,
        engine=job.header.engine if len(job.missing) else "",
        dim=stored.dim if stored else 0,
        taps=stored.taps if stored else [],
        rows=len(stored.keys) if stored else 0,
        computed=len(job.missing) - lost,
        copied=job.copied,
        seconds=job.seconds,
        failures=sorted(job.failures.items()),
    )


def _refuse_bad(manifest: Manifest, results: list[StoreResult], max_bad: float) -> None:
    table = manifest.table[manifest.table["status"] != DUPLICATE]
    unreadable = table[table["status"] == UNREADABLE]
    bad = dict(zip(unreadable["path"], unreadable["reason"], strict=True))
    for result in results:
        bad |= dict(result.failures)
    if len(bad) > max_bad * len(table):
        raise DatasetError(
            f"at most {percent(max_bad)} unreadable images (`max_bad`)",
            f"{len(bad)} of {len(table)}: "
            + some([f"{path} ({reason})" for path, reason in bad.items()], 3),
            "The readable ones are stored. Replace the files and scan again, or raise "
            "`max_bad`.",
        )
