"""``featcache extract --publish``: the finished parts of a plan become one store."""

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

from featcache.backbones import Network
from featcache.commands.extract.drift import made_by
from featcache.commands.extract.exchanging import fetched_parts
from featcache.commands.extract.part_files import Part, read_part
from featcache.commands.extract.part_plan import (
    PartPlan,
    open_plan,
    read_plan,
)
from featcache.commands.extract.part_work import in_work, writing_to
from featcache.commands.extract.planned_images import images_digest
from featcache.commands.extract.record import arguments, recorded, recording
from featcache.commands.extract.results import StoreResult, refuse_bad
from featcache.core.io import owner_mark
from featcache.core.progress import SILENT, Reporter
from featcache.dataset.manifest import Manifest, in_use
from featcache.dataset.urls import Location
from featcache.errors import StoreError
from featcache.features import store
from featcache.features.store import Store


def publish_parts(
    manifest: Manifest,
    *,
    plan: str | None = None,
    max_bad: float = 0.05,
    exchange: Location | str | None = None,
    reporter: Reporter = SILENT,
) -> list[StoreResult]:
    """Publishes a plan whose parts are all there: each store in one step.

    Every part is checked before the first store is written. Then the plan is removed.
    A plan that can no longer be finished, because the images have changed, is published
    with the parts that it has.

    Args:
        manifest: The dataset.
        plan: First digits of the plan's name; by default the only one.
        max_bad: As for ``extract``.
        exchange: URL that the plan was uploaded to: its parts are fetched first, and
            all of it is removed there once it is published.
        reporter: Hears of parts that are damaged.

    Raises:
        DatasetError: As for ``extract``.
        LockedError: Another call is publishing it.
        StoreError: Parts are missing; names them as an array. Or the disk is full or
            cannot be written: a store that is done stays, and the call can be repeated.
    """
    opened = open_plan(manifest, plan)
    if not exchange:
        return _publish_all(manifest, opened, max_bad, "", reporter)
    with fetched_parts(opened, exchange, reporter) as url:
        return _publish_all(manifest, opened, max_bad, f"--exchange {url} ", reporter)


def _publish_all(
    manifest: Manifest,
    opened: PartPlan,
    max_bad: float,
    option: str,
    reporter: Reporter,
) -> list[StoreResult]:
    networks = opened.networks
    request = opened.record.options.request(manifest)
    with (
        in_work(opened),
        writing_to(manifest.folder, f"what plan {opened.name} has"),
        in_use(manifest),
        ExitStack() as locks,
        recording(manifest.folder, arguments(request, networks)) as record,
    ):
        for planned in opened.record.networks:
            path = manifest.folder / "features" / planned.store
            locks.enter_context(store.writing(path, on_takeover=reporter.message))
        is_current = images_digest(manifest) == opened.record.images_sha256
        parts = _parts(read_plan(opened.folder), is_current, option, reporter)
        results = [
            _publish(manifest, opened, number, network, parts, reporter)
            for number, network in enumerate(networks)
        ]
        record["failures"] = {path: why for r in results for path, why in r.failures}
        record["stores"] = recorded(results)
        remove(opened.folder)
        refuse_bad(manifest, results, max_bad, reporter)
    return results


def _parts(
    plan: PartPlan, is_current: bool, option: str, reporter: Reporter
) -> list[Part]:
    """Reads the parts of a plan, all of them if they can still be computed.

    Args:
        plan: The plan.
        is_current: Whether the images are still the plan's.
        option: Of the command that computes a part, where it is no usual one.
        reporter: Hears of damaged ones.

    Raises:
        StoreError: Some are not there, or not as they were written.
    """
    count = len(plan.record.parts)

    def read(number: int) -> Part | None:
        try:
            return read_part(plan, number)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, StoreError) as error:
            reason = error.got if isinstance(error, StoreError) else str(error)
            reporter.message(f"part {number} cannot be used: {reason}")
            return None

    with ThreadPoolExecutor() as pool:
        parts = list(pool.map(read, range(count)))
    if missing := [number for number, part in enumerate(parts) if part is None]:
        ranges = array_of(missing)
        if len(missing) == count and not is_current:
            raise StoreError(
                f"a part of plan {plan.name} that was computed before the images of "
                "the dataset changed",
                "none",
                "Make a new plan. To remove this one: featcache cache prune --yes",
            )
        if not is_current:
            reporter.message(
                f"parts {ranges} of plan {plan.name} were not computed before the "
                "images of the dataset changed: the others are published, and the "
                "next call of extract, or the next plan, has the rest"
            )
            return [part for part in parts if part]
        raise StoreError(
            f"all {count} parts of plan {plan.name}",
            f"{count - len(missing)}: {ranges} to be computed",
            f"Compute them, as with sbatch --array={ranges}, or here with featcache "
            f"extract {option}--part {ranges}, and publish again.",
        )
    return [part for part in parts if part]


def array_of(numbers: Sequence[int]) -> str:
    """Ascending numbers as Slurm writes an array: "3,17-19"."""
    members = {*numbers}
    starts = [n for n in numbers if n - 1 not in members]
    ends = [n for n in numbers if n + 1 not in members]
    pairs = zip(starts, ends, strict=True)
    return ",".join(f"{a}-{b}" if a != b else str(a) for a, b in pairs)


def _publish(
    manifest: Manifest,
    plan: PartPlan,
    number: int,
    network: Network,
    parts: Sequence[Part],
    reporter: Reporter,
) -> StoreResult:
    planned, header = plan.record.networks[number], plan.references[number].header
    path = manifest.folder / "features" / planned.store
    published = store.publish(path, header, on_damage=reporter.message)
    stores = [part.stores[number] for part in parts]
    sources = [one for one in stores if one]
    _report_makers(network, sources, reporter)
    if sources:
        published = store.add(path, header, [published] if published else [], sources)
    records = [part.record for part in parts]
    failures = dict(plan.record.failures)
    for record in records:
        failures |= record.failures
    return StoreResult(
        backbone=network.name,
        weights=network.weights,
        input_size=network.input_size,
        path=path,
        engine=sources[-1].header.engine if sources else "",
        dim=published.dim if published else 0,
        taps=published.taps if published else [],
        rows=len(published.keys) if published else 0,
        computed=sum(len(one.keys) for one in sources),
        copied=0,
        seconds=sum(record.seconds.get(planned.store, 0.0) for record in records),
        failures=sorted(failures.items()),
    )


def _report_makers(
    network: Network, sources: Sequence[Store], reporter: Reporter
) -> None:
    makers = [made_by(one.header) for one in sources]
    names = sorted({name for one in makers for name in one})
    mixed = [name for name in names if len({one.get(name) for one in makers}) > 1]
    if mixed:
        reporter.message(
            f"{network.text}: its parts come from machines with other versions of "
            f"{', '.join(mixed)}; their numbers agree within the tolerance"
        )


def remove(folder: Path) -> None:
    """Removes a plan, which nobody sees half removed."""
    gone = folder.with_name(f".{folder.name.strip('.')}.{owner_mark()}_done.old")
    os.replace(folder, gone)
    shutil.rmtree(gone, ignore_errors=True)
    with suppress(OSError):  # other plans
        folder.parent.rmdir()
