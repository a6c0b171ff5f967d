"""What each network lacks, and the engines that compute it."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from featcache.backbones import Network
from featcache.backbones.engines import choose
from featcache.backbones.engines.base import Engine
from featcache.commands.extract import pipeline
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
    known_header,
    missing_rows,
    new_header,
    versions,
)
from featcache.commands.extract.proof import prove
from featcache.errors import UsageError
from featcache.features import store

Work = list[tuple[Job, Engine]]


def prepare(
    request: ExtractRequest, networks: Sequence[Network], locks: ExitStack
) -> list[Job]:
    """Sets what each store lacks, after what is there already was copied.

    Args:
        request: What is asked for.
        networks: What is run; of two with the same store, the first counts.
        locks: Keeps the stores' locks.
    """
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
    return list(jobs.values())


def with_engines(request: ExtractRequest, jobs: Sequence[Job]) -> Work:
    """Makes the engine of each job, and checks that it still gives the stored numbers.

    Raises:
        StoreError: It does not.
    """
    engines = choose.make(
        [prepared(request, job) for job in jobs],
        engine=request.engine,
        precision=request.precision,
        batch_size=request.batch_size,
        message=request.reporter.message,
    )
    work = list(zip(jobs, engines, strict=True))
    for job, engine in work:
        job.header = replace(job.header, engine=engine.name, versions=versions())
        check_drift(request, job, engine)
        job.model = None
    return work


def compute(request: ExtractRequest, work: Work) -> None:
    """Computes the missing rows of all jobs, and publishes each job's store."""
    if work:
        pipeline.run(request, work)
    for job, _ in work:
        job.store = store.publish(
            job.path, job.header, on_damage=request.reporter.message
        )


def _prepare(request: ExtractRequest, network: Network) -> Job:
    """Finds or makes a network's header; only a new store needs the network."""
    folder = request.manifest.folder / "features"
    taps = tap_names(request, network)
    header = known_header(request, network)
    if header:
        refuse_other_weights(network, header.contract.weights_digest)
        return Job(network, header, store.store_path(folder, header), taps)
    job = Job(network, new_header(request, network), folder, taps)
    fill_measured_fields(request, job)
    job.path = store.store_path(folder, job.header)
    return job


def tap_names(request: ExtractRequest, network: Network) -> list[str]:
    """Outputs of a network beside the embedding.

    Raises:
        UsageError: It has no default taps.
    """
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
