"""``featcache extract --part``: computes parts of a plan, and nothing but them."""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

import pandas as pd

from featcache.commands.extract.checks import check_request
from featcache.commands.extract.drift import changes
from featcache.commands.extract.part_files import (
    RECORD,
    PartRecord,
    install,
    is_finished,
)
from featcache.commands.extract.part_plan import PartPlan, PartRows, open_plan
from featcache.commands.extract.part_work import in_work, writing_to
from featcache.commands.extract.plan import ExtractRequest, Job
from featcache.commands.extract.plan_changes import (
    refuse_other_images,
    refuse_other_networks,
)
from featcache.commands.extract.proof import prove
from featcache.commands.extract.work import Work, compute, with_engines
from featcache.core import checked, records
from featcache.core.io import temporary_folder
from featcache.core.progress import SILENT, OneAtATime, Reporter
from featcache.core.text import counted, some
from featcache.dataset import manifest as manifests
from featcache.dataset.manifest import OK, Manifest
from featcache.dataset.urls import Location
from featcache.errors import StoreError, UsageError
from featcache.features.contract import FLOAT32


@dataclass(frozen=True)
class PartResult:
    """What a call did for a part.

    Attributes:
        plan: Name of the plan.
        part: Its number.
        path: Its folder; or where it was uploaded to.
        rows: Embeddings of all networks that are in it.
        seconds: From its first image to its last, and writing them.
        failures: (path, reason) of each image that could not be read.
    """

    plan: str
    part: int
    path: Location
    rows: int
    seconds: float
    failures: list[tuple[str, str]]


def compute_parts(
    dataset: Manifest | Path,
    parts: Sequence[int],
    *,
    plan: str | None = None,
    reporter: Reporter = SILENT,
) -> list[PartResult]:
    """Computes parts of a plan.

    Each is written once, as a folder that appears whole: a call for a part that is
    there computes nothing, and of two calls for one part at the same time the first
    to end counts. No lock is needed, and nothing else is written.

    Args:
        dataset: The dataset, or its folder: then the manifest is not read, because the
            plan has all that a part needs of it.
        parts: Numbers of the parts, from 0.
        plan: First digits of the plan's name; by default the only one.
        reporter: Hears of the rows done.

    Raises:
        StoreError: No such plan; or the images, a network or a library that the plan
            was made with has changed, so that the numbers would be others; or the disk
            is full, or cannot be written.
        UsageError: There is no such part.
    """
    opened = with_settings(dataset)
    return Worker(opened, open_plan(opened, plan)).run(parts, reporter)


def with_settings(dataset: Manifest | Path) -> Manifest:
    """A dataset; of its folder the settings are read, and the table is not."""
    return manifests.load_settings(dataset) if isinstance(dataset, Path) else dataset


def compute_kept(
    folder: Path,
    plan: str,
    parts: Sequence[int],
    *,
    session: str,
    reporter: Reporter = SILENT,
) -> list[PartResult]:
    """Computes parts as ``compute_parts``, and keeps what the next ones need.

    The first call of a session in this process checks the plan and opens the networks;
    its further parts cost their images.

    Args:
        folder: Of the dataset.
        plan: Name of the plan.
        parts: Numbers of the parts, from 0.
        session: Names the calls that belong together.
        reporter: Hears of the rows done.

    Raises:
        FeatcacheError: As for ``compute_parts``.
    """
    with _opening:
        worker = _kept_worker(folder, plan, session)
    return worker.run(parts, reporter)


def refuse_unknown(plan: PartPlan, parts: Sequence[int]) -> None:
    """Refuses numbers of parts that a plan does not have.

    Raises:
        UsageError: Names some of them.
    """
    count = len(plan.record.parts)
    if wrong := [str(part) for part in parts if not 0 <= part < count]:
        raise UsageError(
            f"parts from 0 to {count - 1}",
            some(wrong),
            f"Plan {plan.name} has {counted(count, 'part')}; the first is 0.",
        )


_opening = threading.Lock()


@lru_cache(maxsize=1)  # networks are large
def _kept_worker(folder: Path, plan: str, session: str) -> "Worker":
    dataset = manifests.load_settings(folder)
    return Worker(dataset, open_plan(dataset, plan))


class Worker:
    """Makes the engines once, and computes parts with them; from any thread.

    Args:
        dataset: The dataset; of a plan that was fetched from a URL, images that are
            needed beside those of its parts.
        plan: The plan.
        is_fetched: Whether it was: there is no manifest to compare it with.
    """

    def __init__(
        self, dataset: Manifest, plan: PartPlan, *, is_fetched: bool = False
    ) -> None:
        self.plan, self.dataset, self.is_fetched = plan, dataset, is_fetched
        self.request = self.plan.record.options.request(dataset)
        self.work: Work | None = None
        self.opening = threading.Lock()

    def run(self, parts: Sequence[int], reporter: Reporter) -> list[PartResult]:
        """Computes those parts that are not there, one after the other."""
        plan = self.plan
        refuse_unknown(plan, parts)
        request = replace(self.request, reporter=OneAtATime(reporter))
        with in_work(plan):
            todo = [part for part in parts if not is_finished(plan, part)]
            for part in sorted({*parts} - {*todo}):
                reporter.message(f"part {part} of plan {plan.name} is computed already")
            if not todo:
                return []
            with self.opening:
                self.work = self.work or self._open(request)
            results = []
            for part in todo:
                with writing_to(plan.folder, f"part {part} of plan {plan.name}"):
                    results.append(self._compute(request, part, self.work))
            return results

    def _open(self, request: ExtractRequest) -> Work:
        check_request(request, 0)
        networks = self.plan.networks
        if not self.is_fetched:
            refuse_other_images(self.plan, self.dataset)
        refuse_other_networks(self.plan, self.dataset, networks)
        request = replace(request, manifest=self._known_images())
        pairs = zip(
            self.plan.record.networks, networks, self.plan.references, strict=True
        )
        jobs = [
            Job(network, replace(rows.header), rows.path, planned.taps, store=rows)
            for planned, network, rows in pairs
        ]
        for job in jobs:
            prove(request, job)
        work = with_engines(request, jobs)
        _report_changes(request, jobs)
        return work

    def _known_images(self) -> Manifest:
        """The images by which networks prove themselves, or are quantised again."""
        if self.request.precision != FLOAT32:
            return self.whole
        ids_and_paths = [
            rows.keys[["image_id", "path"]] for rows in self.plan.references
        ]
        images = pd.concat(ids_and_paths).drop_duplicates("image_id")
        return replace(self.dataset, table=images.assign(status=OK))

    @cached_property
    def whole(self) -> Manifest:
        """The dataset with all of its images."""
        dataset = self.dataset
        return dataset if dataset.has_table else manifests.load(dataset.folder)

    def _images(self, rows: PartRows) -> pd.DataFrame:
        """What the manifest has of a part's images, in its order."""
        if rows.has_mask_paths:
            return rows.table(self.request.policy.region.mask)
        ids = [image_id for image_id, *_ in rows.images]  # an earlier version's plan
        return self.whole.ok[self.whole.ok["image_id"].isin(ids)]

    def _compute(self, request: ExtractRequest, part: int, work: Work) -> PartResult:
        started = time.monotonic()
        rows = self.plan.rows(part)
        target = self.plan.part_folder(part)
        request, failures = self._part_request(request, rows)
        target.parent.mkdir(exist_ok=True)
        with temporary_folder(target) as temp:
            own = [
                (self._job(job, number, rows, temp, failures), engine)
                for number, (job, engine) in enumerate(work)
            ]
            compute(request, [one for one in own if len(one[0].missing)])
            jobs = [job for job, _ in own]
            for job in jobs:
                failures |= job.failures
            record = PartRecord(
                plan_id=self.plan.record.plan_id,
                part=part,
                seconds={job.path.name: round(job.seconds, 3) for job in jobs},
                failures=failures,
                files=checked.file_digests(temp.glob("*.h5")),
            )
            checked.write_record(temp / RECORD, records.to_json(record))
            if not install(self.plan, part, temp):
                request.reporter.message(
                    f"part {part} was computed by another call meanwhile, which counts"
                )
        return PartResult(
            plan=self.plan.name,
            part=part,
            path=target,
            rows=sum(len(job.store.keys) for job in jobs if job.store),
            seconds=time.monotonic() - started,
            failures=sorted(failures.items()),
        )

    def _part_request(
        self, request: ExtractRequest, rows: PartRows
    ) -> tuple[ExtractRequest, dict[str, str]]:
        """The request for a part's images alone, and those that lost their masks."""
        manifest = replace(self.dataset, table=self._images(rows))
        request = replace(request, manifest=manifest)
        masks, lost = request.masks, {}
        for image_id, path, mask_id, _ in rows.images:
            if path in masks.lost:
                lost[path] = masks.lost[path]
            elif masks.ids.get(image_id) != mask_id:
                raise StoreError(
                    f"the masks of plan {self.plan.name}",
                    f"another mask of {path}",
                    "Restore it, or plan again.",
                )
        return request, lost

    def _job(
        self, job: Job, number: int, rows: PartRows, temp: Path, lost: Mapping[str, str]
    ) -> Job:
        """A network's share of a part, whose store is in a temporary folder."""
        options = self.plan.record.options
        missing = rows.missing(number, job.header, options)
        return replace(
            job,
            path=temp / job.path.name,
            store=None,
            missing=missing[~missing["path"].isin(list(lost))].reset_index(drop=True),
            failures={},
            seconds=0.0,
        )


def _report_changes(request: ExtractRequest, jobs: Sequence[Job]) -> None:
    for job in jobs:
        if text := changes(job):
            request.reporter.message(
                f"{job.network.text}: this machine computes by other libraries "
                f"than the plan's ({text}); its numbers agree within the tolerance"
            )
