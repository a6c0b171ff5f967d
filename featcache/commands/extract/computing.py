"""``featcache extract --part``: computes parts of a plan, and nothing but them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
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
from featcache.commands.extract.part_plan import (
    PARTS,
    PLAN,
    PartPlan,
    PartRows,
    open_plan,
)
from featcache.commands.extract.plan import ExtractRequest, Job
from featcache.commands.extract.proof import prove
from featcache.commands.extract.work import Work, compute, with_engines
from featcache.core import checked, records
from featcache.core.io import temporary_folder
from featcache.core.progress import SILENT, OneAtATime, Reporter
from featcache.core.text import some
from featcache.dataset.manifest import Manifest
from featcache.errors import StoreError, UsageError


@dataclass(frozen=True)
class PartResult:
    """What a call did for a part.

    Attributes:
        plan: Name of the plan.
        part: Its number.
        path: Its folder.
        rows: Embeddings of all networks that are in it; 0 where it was there already.
        seconds: Spent in computing.
        failures: (path, reason) of each image that could not be read.
    """

    plan: str
    part: int
    path: Path
    rows: int
    seconds: float
    failures: list[tuple[str, str]]


def compute_parts(
    manifest: Manifest,
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
        manifest: The dataset.
        parts: Numbers of the parts, from 0.
        plan: First digits of the plan's name; by default the only one.
        reporter: Hears of the rows done.

    Raises:
        StoreError: No such plan; or the images, a network or a library that the plan
            was made with has changed, so that the numbers would be others.
        UsageError: There is no such part.
    """
    opened = open_plan(manifest, plan)
    count = len(opened.record.parts)
    if wrong := [str(part) for part in parts if not 0 <= part < count]:
        raise UsageError(
            f"parts from 0 to {count - 1}",
            some(wrong),
            f"Plan {opened.name} has {count} parts; let the array begin at 0.",
        )
    with _while_there(opened):
        todo = [part for part in parts if not is_finished(opened, part)]
        for part in sorted({*parts} - {*todo}):
            reporter.message(f"part {part} of plan {opened.name} is computed already")
        return _Worker(opened, manifest, OneAtATime(reporter)).run(todo)


@contextmanager
def _while_there(plan: PartPlan) -> Iterator[None]:
    """Lets an error say so if the plan was published meanwhile."""
    try:
        yield
    except (OSError, StoreError) as error:
        if (plan.folder / PLAN).exists():
            raise
        with suppress(OSError):
            for folder in (plan.folder / PARTS, plan.folder, plan.folder.parent):
                folder.rmdir()
        raise StoreError(
            f"plan {plan.name}",
            "none any more: it was published or removed while this call ran",
            "Nothing is left to compute if it was published.",
        ) from error


class _Worker:
    """Makes the engines once, and computes parts with them."""

    def __init__(
        self, plan: PartPlan, manifest: Manifest, reporter: OneAtATime
    ) -> None:
        self.plan = plan
        request = plan.record.options.request(manifest)
        self.request = replace(request, reporter=reporter)
        self.images = manifest.ok
        self.number_of = pd.Index(self.images["image_id"])

    def run(self, parts: Sequence[int]) -> list[PartResult]:
        """Computes parts one after the other."""
        if not parts:
            return []
        check_request(self.request, 0)
        networks = [one.network for one in self.plan.record.networks]
        self.plan.refuse_changes(self.request.manifest, networks)
        pairs = zip(
            self.plan.record.networks, networks, self.plan.references, strict=True
        )
        jobs = [
            Job(network, replace(rows.header), rows.path, planned.taps, store=rows)
            for planned, network, rows in pairs
        ]
        for job in jobs:
            prove(self.request, job)
        work = with_engines(self.request, jobs)
        self._report_changes(jobs)
        return [self._compute(part, work) for part in parts]

    def _report_changes(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if text := changes(job):
                self.request.reporter.message(
                    f"{job.network.text}: this machine computes by other libraries "
                    f"than the plan's ({text}); its numbers agree within the tolerance"
                )

    def _compute(self, part: int, work: Work) -> PartResult:
        rows = self.plan.rows(part)
        target = self.plan.part_folder(part)
        request, failures = self._part_request(rows)
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
            seconds=sum(job.seconds for job in jobs),
            failures=sorted(failures.items()),
        )

    def _part_request(self, rows: PartRows) -> tuple[ExtractRequest, dict[str, str]]:
        """The request for a part's images alone, and those that lost their masks."""
        numbers = self.number_of.get_indexer([image_id for image_id, *_ in rows.images])
        manifest = replace(
            self.request.manifest, table=self.images.iloc[sorted(numbers)]
        )
        request = replace(self.request, manifest=manifest)
        masks, lost = request.masks, {}
        for image_id, path, mask_id in rows.images:
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
