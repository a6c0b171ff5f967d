"""``featcache extract --exchange``: plan, part, publish; only a URL is shared."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from featcache.backbones.engines import convert
from featcache.backbones.files import files_of
from featcache.commands.extract.computing import (
    PartResult,
    Worker,
    refuse_unknown,
    with_settings,
)
from featcache.commands.extract.exchange import (
    OPENVINO,
    Exchange,
    checked_url,
    find_exchange,
    notes_on,
    reaching,
)
from featcache.commands.extract.measure import prepared
from featcache.commands.extract.part_files import is_finished
from featcache.commands.extract.part_plan import NETWORKS, PLAN, PartPlan, open_plan
from featcache.commands.extract.part_work import writing_to
from featcache.commands.extract.plan import ExtractRequest, Job
from featcache.core.progress import SILENT, Reporter
from featcache.core.scratch import scratch_folder
from featcache.core.text import some
from featcache.dataset.manifest import Manifest
from featcache.dataset.sources import objects, remote
from featcache.dataset.urls import Location, Url, is_url
from featcache.errors import DatasetError, FeatcacheError, StoreError

_AT_ONCE = 8  # parts that are fetched


def opened_exchange(request: ExtractRequest, exchange: Location | str) -> Url:
    """The URL of an exchange, which can be read, for images that workers can read.

    Raises:
        DatasetError: Images or masks are not at URLs.
        FeatcacheError: The URL is none of a bucket, or cannot be read.
    """
    url = checked_url(exchange)
    for note in notes_on(url):
        request.reporter.message(note)
    dataset = request.manifest
    paths = [*dataset.ok["path"], *request.masks.paths.values()]
    here = [] if isinstance(dataset.root, Url) else [p for p in paths if not is_url(p)]
    if here:
        raise DatasetError(
            "images at URLs, for workers of an `exchange` do not see the disks of "
            "this machine",
            f"{len(here)} in {dataset.root}: {some(here, 3)}",
            "Upload them and scan their URL; or keep cache and images on a disk that "
            "all machines share, and leave `exchange` out.",
        )
    with reaching():
        objects.folders_in(url)
    return url


def upload(
    plan: PartPlan, url: Url, request: ExtractRequest, jobs: Sequence[Job]
) -> set[int]:
    """Uploads a plan with all that its workers need.

    Returns:
        Parts that are there already.

    Raises:
        OSError: The URL may not be written.
    """
    files: dict[str, Path] = {}
    ids = {i for rows in plan.references for i in rows.keys["image_id"]}
    for number, job in enumerate(jobs):
        for path in files_of(job.network):
            files[f"{NETWORKS}/{number}/{path.name}"] = path.resolve()
        if not job.network.is_baseline:
            for path in convert.files_of(prepared(request, job)):
                files[f"{OPENVINO}/{path.name}"] = path
        ids |= {*job.header.notes.get("calibration", [])}
    exchange = Exchange(url / plan.name)
    exchange.upload(plan, request.manifest, files, ids)
    return exchange.uploaded_parts()


def compute_exchanged(
    exchange: Location | str,
    parts: Sequence[int],
    *,
    plan: str | None = None,
    reporter: Reporter = SILENT,
) -> list[PartResult]:
    """Computes parts of a plan that was uploaded, with nothing but its URL.

    The plan is fetched into a temporary folder, and each part is uploaded as soon as it
    is computed: as with ``compute_parts``, the first valid one counts.

    Args:
        exchange: The URL that was planned with.
        parts: Numbers of the parts, from 0.
        plan: First digits of the plan's name; by default the only one there.
        reporter: Hears of the rows done.

    Raises:
        StoreError: No such plan; or as for ``compute_parts``.
        UsageError: There is no such part.
        FeatcacheError: The URL cannot be read or written.
    """
    url = checked_url(exchange)
    for note in notes_on(url):
        reporter.message(note)
    with scratch_folder() as cache, writing_to(cache, "a part of a plan"), reaching():
        away = find_exchange(url, plan)
        dataset, fetched = away.fetch(cache)
        refuse_unknown(fetched, parts)
        worker = Worker(dataset, fetched, is_fetched=True)
        results = []
        for part in dict.fromkeys(parts):
            results += _compute(away, worker, part, reporter)
    for line in remote.repeated():
        reporter.message(line)
    return results


def _compute(
    away: Exchange, worker: Worker, part: int, reporter: Reporter
) -> list[PartResult]:
    """Computes a part that is not there, and uploads it."""
    plan = worker.plan
    away.fetch_rows(plan, part)
    if away.fetched_record(plan, part):
        reporter.message(f"part {part} of plan {plan.name} is computed already")
        return []
    results = worker.run([part], reporter)
    if not away.upload_part(plan, part):
        reporter.message(
            f"part {part} was computed by another call meanwhile, which counts"
        )
    return [replace(one, path=away.part_url(part)) for one in results]


def missing_parts(
    dataset: Manifest | Path,
    plan: str | None = None,
    *,
    exchange: Location | str | None = None,
) -> list[int]:
    """Parts of a plan that are not there; whether the others are whole is not read.

    Args:
        dataset: The dataset, or its folder.
        plan: First digits of the plan's name; by default the only one.
        exchange: URL that it was uploaded to, where parts may be as well.

    Raises:
        StoreError: No such plan; or the URL cannot be read.
    """
    opened = open_plan(with_settings(dataset), plan)
    present = opened.present_parts()
    if exchange:
        with reaching():
            present |= Exchange(checked_url(exchange) / opened.name).uploaded_parts()
    return sorted({*range(len(opened.record.parts))} - present)


@contextmanager
def fetched_parts(
    plan: PartPlan, exchange: Location | str, reporter: Reporter
) -> Iterator[Url]:
    """Fetches the parts of a plan that are not here; removes it there once published.

    Yields:
        The URL that was planned with.

    Raises:
        FeatcacheError: The URL cannot be read.
    """
    url = checked_url(exchange)
    for note in notes_on(url):
        reporter.message(note)
    away = Exchange(url / plan.name)
    with writing_to(plan.folder, f"parts of plan {plan.name}"), reaching():
        _fetch_all(away, plan, reporter)
    try:
        yield url
    finally:
        if not (plan.folder / PLAN).exists():
            _remove(away, reporter)


def _fetch_all(away: Exchange, plan: PartPlan, reporter: Reporter) -> None:
    def fetch(part: int) -> None:
        if part >= len(plan.record.parts) or is_finished(plan, part):
            return
        try:
            away.fetch_part(plan, part)
        except (ValueError, StoreError) as error:
            reason = error.got if isinstance(error, StoreError) else error
            reporter.message(f"{away.part_url(part)} cannot be used: {reason}")

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(fetch, sorted(away.uploaded_parts())))
    for line in remote.repeated():
        reporter.message(line)


def _remove(away: Exchange, reporter: Reporter) -> None:
    try:
        with reaching():
            away.remove()
    except FeatcacheError as error:
        reporter.message(
            f"the plan was published, but {away.url} could not be removed "
            f"({error.got}): remove it yourself"
        )
