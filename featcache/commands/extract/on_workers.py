"""``featcache extract --on``: the parts of a plan as tasks of Dask or Ray."""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import uuid4

from featcache.backbones import Network
from featcache.commands.extract.computing import compute_kept
from featcache.commands.extract.part_files import is_finished, read_record
from featcache.commands.extract.part_plan import (
    PartPlan,
    PlannedNetwork,
    PlanOptions,
    open_plan,
)
from featcache.commands.extract.plan import (
    ExtractRequest,
    Job,
    find_missing,
    known_header,
)
from featcache.commands.extract.planning import plan_parts
from featcache.commands.extract.publishing import publish_parts
from featcache.commands.extract.results import StoreResult
from featcache.commands.extract.work import tap_names
from featcache.core.progress import Messages
from featcache.core.workers import Workers, opened
from featcache.errors import FeatcacheError, StoreError
from featcache.features import store

# Rows of a network in a part. Parts do not depend on the number of workers, so that a
# call that was stopped goes on with its parts on any other cluster.
_LEAST_ROWS, _MOST_ROWS, _PARTS = 256, 4096, 256

# Of a request, what `plan_parts` takes.
_PLANNED = (*PlanOptions.__dataclass_fields__, "split_by", "reporter")


def extract_on(
    on: str,
    request: ExtractRequest,
    networks: Sequence[Network],
    max_bad: float,
    cached: Callable[[list[Network]], list[StoreResult]],
) -> list[StoreResult]:
    """Plans here, computes the parts on workers, and publishes here.

    Args:
        on: Where the workers are.
        request: What is asked for.
        networks: What is run.
        max_bad: As for ``extract``.
        cached: ``extract`` for networks of which nothing is missing.

    Raises:
        FeatcacheError: As for ``extract``; parts that are computed are kept.
    """
    rows = max(_count_missing(request, network) for network in networks)
    if not rows:
        return cached(list(networks))
    options = {name: getattr(request, name) for name in _PLANNED}
    with opened(on, reporter=request.reporter) as workers:
        planned = plan_parts(
            request.manifest, networks, part_rows=part_rows(rows), **options
        )
        if not planned.path:  # other datasets of the cache had them all
            return cached(list(networks))
        plan = open_plan(request.manifest, planned.plan)
        seconds = _compute(plan, request, workers)
    published = publish_parts(
        request.manifest, plan=plan.name, max_bad=max_bad, reporter=request.reporter
    )
    published = [
        replace(one, seconds=seconds[one.path.name] if one.computed else 0.0)
        for one in published
    ]
    return _in_order(plan, networks, published, cached)


def part_rows(rows: int) -> int:
    """Rows of a network in a part: a power of two, by the rows of all parts."""
    size = _LEAST_ROWS
    while size < _MOST_ROWS and size * _PARTS < rows:
        size *= 2
    return size


def _count_missing(request: ExtractRequest, network: Network) -> int:
    header = known_header(request, network)
    if not header:
        return len(request.manifest.ok) * (request.views + 1)
    path = store.store_path(request.manifest.folder / "features", header)
    job = Job(network, header, path, tap_names(request, network))
    job.store = store.open_store(path)
    find_missing(request, job)
    return len(job.missing)


@dataclass
class _Span:
    """The time in which parts were computed side by side, by this machine's clock.

    Starting the workers and opening the networks for the first part is before it.

    Attributes:
        begin: When the first part began; None before any has ended.
        end: When the last one ended.
    """

    begin: float | None = None
    end: float = 0.0

    def add(self, seconds: float) -> None:
        """Takes in a part that ended just now, and took so long."""
        self.end = time.monotonic()
        begin = self.end - seconds
        self.begin = begin if self.begin is None else min(begin, self.begin)

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.end - self.begin if self.begin is not None else 0.0


def _compute(
    plan: PartPlan, request: ExtractRequest, workers: Workers
) -> dict[str, float]:
    """Computes the parts that are missing; tells of the rows of each network.

    Returns:
        By store, how long its rows took: this call's parts together, and each part
        that was there already.
    """
    reporter, parts = request.reporter, range(len(plan.record.parts))
    todo = [part for part in parts if not is_finished(plan, part)]
    common = {
        "folder": request.manifest.folder.resolve(),
        "plan": plan.name,
        "session": uuid4().hex,
    }
    texts = [network.network.text for network in plan.record.networks]
    done = [0] * len(texts)
    seconds = {network.store: 0.0 for network in plan.record.networks}

    def count(part: int) -> None:
        rows = plan.rows(part).image_of
        for number, (text, planned) in enumerate(
            zip(texts, plan.record.networks, strict=True)
        ):
            done[number] += len(rows[number])
            reporter.progress(text, done[number], planned.rows)

    for part in sorted({*parts} - {*todo}):
        count(part)
        record = read_record(plan.part_folder(part))
        seconds = {
            name: s + record.seconds.get(name, 0.0) for name, s in seconds.items()
        }
    span, calls = _Span(), [common | {"part": part} for part in todo]
    with closing(workers.run(compute_part, calls, gpu=True)) as results:
        for number, outcome in results:
            computed = _checked(outcome, todo[number], plan)
            span.add(computed.seconds)
            for text in computed.texts:
                reporter.message(text)
            count(todo[number])
    return {name: spent + span.seconds for name, spent in seconds.items()}


@dataclass
class Computed:
    """What a worker has to say of a part.

    Attributes:
        error: Why it was not computed.
        texts: What was said meanwhile.
        seconds: That its images took.
    """

    error: FeatcacheError | None = None
    texts: list[str] = field(default_factory=list)
    seconds: float = 0.0


def _checked(outcome: Computed | str, part: int, plan: PartPlan) -> Computed:
    """What a worker said, if it computed its part.

    Raises:
        FeatcacheError: It did not.
    """
    if isinstance(outcome, str):
        raise StoreError(
            f"part {part} of plan {plan.name} to be computed",
            outcome,
            "Parts that are computed are kept: put that right and repeat the command.",
        )
    if outcome.error:
        raise outcome.error
    return outcome


def compute_part(folder: Path, plan: str, part: int, session: str) -> Computed:
    """Computes a part, on a worker; see ``compute_kept``."""
    messages, computed = Messages(), Computed()
    try:
        parts = compute_kept(folder, plan, [part], session=session, reporter=messages)
        computed.seconds = sum(one.seconds for one in parts)
    except FeatcacheError as error:
        computed.error = error
    computed.texts = messages.texts
    return computed


def _in_order(
    plan: PartPlan,
    networks: Sequence[Network],
    published: Sequence[StoreResult],
    cached: Callable[[list[Network]], list[StoreResult]],
) -> list[StoreResult]:
    """The results of all networks, each store once, in the order of the call."""
    planned = [PlannedNetwork.words(one.network) for one in plan.record.networks]
    results: dict[Path, StoreResult] = {}
    for network in networks:
        words = PlannedNetwork.words(network)
        own = [published[planned.index(words)]] if words in planned else []
        for result in own or cached([network]):
            results.setdefault(result.path, result)
    return list(results.values())
