"""``featcache extract --plan-only``: cuts what is missing into parts."""

import hashlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from featcache.backbones import Network
from featcache.commands.extract.checks import check_call
from featcache.commands.extract.exchange import reaching
from featcache.commands.extract.exchanging import opened_exchange, upload
from featcache.commands.extract.measure import plain_views
from featcache.commands.extract.part_plan import (
    ID_DIGITS,
    PLAN,
    REFERENCE,
    ROWS,
    SCHEMA,
    PartPlan,
    PartRows,
    PlannedNetwork,
    PlannedPart,
    PlanOptions,
    PlanRecord,
    plans_folder,
    read_plan,
)
from featcache.commands.extract.plan import ExtractRequest, Job, versions
from featcache.commands.extract.planned_images import file_of_images, images_digest
from featcache.commands.extract.work import Work, prepare, with_engines
from featcache.core import checked, records
from featcache.core.io import atomic_path, fsync_dir, temporary_folder
from featcache.core.progress import SILENT, OneAtATime, Reporter
from featcache.dataset.manifest import Manifest, in_use
from featcache.dataset.urls import Location
from featcache.dataset.views import Policy
from featcache.errors import DatasetError, UsageError
from featcache.features import store

_REFERENCE_ROWS = 8
_TRIED_IMAGES = 64  # for the reference rows
_MOST_PARTS = 10**6


@dataclass(frozen=True)
class PlanResult:
    """A plan as it was made, or was there already.

    Attributes:
        plan: Its name; empty where nothing is missing.
        path: Its folder; None where nothing is missing.
        images: Images of the dataset.
        rows: Embeddings to compute, by network.
        parts: Number of parts.
        done: Parts that are computed already.
    """

    plan: str
    path: Path | None
    images: int
    rows: dict[str, int]
    parts: int
    done: int


def plan_parts(
    manifest: Manifest,
    networks: Sequence[Network],
    *,
    parts: int | None = None,
    part_rows: int | None = None,
    exchange: Location | str | None = None,
    reporter: Reporter = SILENT,
    **options: Any,
) -> PlanResult:
    """Writes a plan of what ``extract`` would compute, cut into parts.

    Rows of other datasets are copied now, and what a contract has to measure is
    measured now: the parts need no agreement. The same call makes the same plan.

    Args:
        manifest: The dataset.
        networks: What to run; each part has rows of all of them.
        parts: How many; fewer where there are not so many batches.
        part_rows: Instead, rows of a network in a part, rounded down to whole batches.
        exchange: URL that the plan is uploaded to, with all that workers need that
            share no disk with this machine; the images have to be at URLs then.
        reporter: As for ``extract``.
        options: The others of ``extract``, but for ``max_bad``.

    Raises:
        UsageError: Neither ``parts`` nor ``part_rows``, or both.
        FeatcacheError: As for ``extract``.
    """
    _check_size(parts, part_rows)
    policy = options.pop("policy", None) or Policy()
    request = ExtractRequest(
        manifest=manifest, policy=policy, reporter=OneAtATime(reporter), **options
    )
    check_call(request, networks, 0)
    url = opened_exchange(request, exchange) if exchange else None
    with in_use(manifest), reaching(), ExitStack() as locks:
        jobs = prepare(request, networks, locks)
        todo = [job for job in jobs if len(job.missing)]
        if not todo:
            return PlanResult("", None, len(manifest.ok), {}, 0, 0)
        work = with_engines(request, todo)
        plan = _write(request, work, parts, part_rows)
        done = plan.present_parts()
        if url:
            done |= upload(plan, url, request, [job for job, _ in work])
    record = plan.record
    return PlanResult(
        plan=plan.name,
        path=plan.folder,
        images=record.images,
        rows={one.store.removesuffix(".h5"): one.rows for one in record.networks},
        parts=len(record.parts),
        done=len(done),
    )


def _check_size(parts: int | None, part_rows: int | None) -> None:
    if (parts is None) == (part_rows is None):
        raise UsageError(
            "either `parts` or `part_rows`",
            "neither" if parts is None else "both",
            "Say how many parts, or how large they are.",
        )
    name, size = ("part_rows", part_rows) if parts is None else ("parts", parts)
    if not 1 <= (size or 0) <= _MOST_PARTS:
        raise UsageError(
            f"`{name}` from 1 to {_MOST_PARTS}", str(size), "Try 100 or 10000."
        )


def _write(
    request: ExtractRequest, work: Work, parts: int | None, part_rows: int | None
) -> PartPlan:
    """Writes a plan; one that is there already stays as it is."""
    folder = plans_folder(request.manifest)
    folder.mkdir(parents=True, exist_ok=True)
    with temporary_folder(folder / "new") as temp:
        lines = _rows_of_parts(request, [job for job, _ in work], parts, part_rows)
        planned = _write_rows(temp / ROWS, lines)
        record = _record(request, work, planned)
        target = folder / record.plan_id[:ID_DIGITS]
        if not target.exists():
            for job, engine in work:
                _write_reference(temp / REFERENCE / job.path.name, request, job, engine)
            files = checked.file_digests((temp / REFERENCE).iterdir())
            record = replace(record, files=files)
            checked.write_record(temp / PLAN, records.to_json(record))
            temp.chmod(0o755)
            os.rename(temp, target)
            fsync_dir(folder)
    return read_plan(target)


def _rows_of_parts(
    request: ExtractRequest,
    jobs: Sequence[Job],
    parts: int | None,
    part_rows: int | None,
) -> Iterator[PartRows]:
    """Cuts each network's missing rows between batches, into parts of the same size."""
    size = request.batch_size
    batches = [-(-len(job.missing) // size) for job in jobs]
    if parts is None:
        assert part_rows
        parts = -(-max(batches) // max(1, part_rows // size))
    parts = min(parts, max(batches))
    for part in range(parts):
        missing = [
            job.missing.iloc[
                number * part // parts * size : number * (part + 1) // parts * size
            ]
            for job, number in zip(jobs, batches, strict=True)
        ]
        yield _rows_of_part(missing, request.masks.paths)


def _rows_of_part(
    missing: Sequence[pd.DataFrame], mask_paths: Mapping[str, str]
) -> PartRows:
    columns = ["image_id", "path", "mask_id"]
    rows = pd.concat([rows[columns] for rows in missing])
    # The index of rows is that of all renderings of the manifest's images, in order.
    images = rows.sort_index(kind="stable").drop_duplicates("image_id")
    images["mask"] = [mask_paths.get(image_id, "") for image_id in images["image_id"]]
    index = pd.Index(images["image_id"])
    return PartRows(
        list(images.itertuples(index=False, name=None)),
        [index.get_indexer(rows["image_id"]) for rows in missing],
        [rows["draw"].to_numpy(int) for rows in missing],
    )


def _write_rows(path: Path, parts: Iterator[PartRows]) -> list[PlannedPart]:
    planned, offset = [], 0
    with atomic_path(path) as temp, temp.open("wb") as file:
        for part in parts:
            line = part.line()
            file.write(line)
            rows = sum(len(image) for image in part.image_of)
            sha256 = hashlib.sha256(line).hexdigest()
            planned.append(
                PlannedPart(offset=offset, bytes=len(line), sha256=sha256, rows=rows)
            )
            offset += len(line)
    return planned


def _record(
    request: ExtractRequest, work: Work, parts: list[PlannedPart]
) -> PlanRecord:
    names = PlanOptions.__dataclass_fields__
    options = {name: getattr(request, name) for name in names}
    networks = [
        PlannedNetwork(
            **PlannedNetwork.words(job.network),
            store=job.path.name,
            contract=job.header.contract.to_json(),
            weights_key=job.header.weights_key,
            taps=job.taps,
            rows=len(job.missing),
        )
        for job, _ in work
    ]
    images_sha256 = images_digest(request.manifest)
    record = PlanRecord(
        schema=SCHEMA,
        plan_id="",
        created=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        images=len(request.manifest.ok),
        images_sha256=images_sha256,
        options=PlanOptions(**options | {"policy": request.policy.to_dict()}),
        networks=networks,
        parts=parts,
        files={},
        failures=dict(request.masks.lost),
        versions=versions(),
        manifest=file_of_images(request.manifest.folder, images_sha256),
    )
    return replace(record, plan_id=record.content_id)


def _write_reference(
    path: Path, request: ExtractRequest, job: Job, engine: Any
) -> None:
    """Writes the plain rows of the first images, by which workers prove themselves."""
    images = request.manifest.ok.iloc[:_TRIED_IMAGES]
    readable, pixels = [], []
    for number, image_id in enumerate(images["image_id"]):
        views = list(plain_views(request, job.network, [image_id]))
        readable += [number] * len(views)
        pixels += views
        if len(pixels) == min(_REFERENCE_ROWS, request.batch_size):
            break
    if not pixels:
        raise DatasetError(
            f"images that can be read in {request.manifest.root}",
            f"none among the first {len(images)}",
            "Check the disk and the connection to it, or scan the source again.",
        )
    (outputs,) = engine.run([np.concatenate(pixels)])
    keys = images.iloc[readable][["image_id", "path"]].assign(
        view=0, policy=store.NO_POLICY
    )
    store.write_rows(path, job.header, outputs, keys)
