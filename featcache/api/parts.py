"""Extraction in parts by a scheduler of one's own: plan, compute, publish."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from featcache.api.networks import Paths, on_networks
from featcache.api.progress import show
from featcache.api.words import DatasetLike, manifest_of, with_options_of
from featcache.commands import extract as extracting
from featcache.commands.extract import PartResult, PlanResult, StoreResult
from featcache.dataset import manifest as manifests
from featcache.dataset.urls import location


@dataclass(frozen=True)
class Plan:
    """A plan whose parts any process can compute that sees the cache, or the exchange.

    It is small and can be pickled: what is computed lies in the cache, or at a URL.

    Attributes:
        folder: Of the dataset, ``cache/<dataset>``, as an absolute path.
        name: Of the plan; empty where nothing was missing.
        parts: Number of parts, which are numbered from 0.
        rows: Embeddings to compute, by network.
        exchange: URL that plan and parts are exchanged at; empty for a shared cache.
        session: A process keeps its networks open for the parts of one session.
    """

    folder: Path
    name: str
    parts: int
    rows: dict[str, int]
    exchange: str = ""
    session: str = field(default_factory=lambda: uuid4().hex, repr=False)

    @property
    def missing(self) -> list[int]:
        """Parts that are still to be computed, by a look at which are there.

        Where the cache is, also with an exchange.

        ``publish_parts`` reads them, and names damaged ones.

        Raises:
            StoreError: The plan was published or removed.
        """
        if not self.name:
            return []
        return extracting.missing_parts(
            self.folder, self.name, exchange=self.exchange or None
        )


@with_options_of(on_networks, extracting.extract, without=["max_bad", "on"])
def plan_parts(
    dataset: DatasetLike = None,
    backbones: Paths = "densenet121",
    *,
    parts: int | None = None,
    part_rows: int | None = None,
    exchange: str | None = None,
    cache: str | Path | None = None,
    progress: bool | None = None,
    **options: Any,
) -> Plan:
    """Plans what ``featcache.extract`` would compute, cut into parts.

    What all parts have to agree on is measured now. The same call makes the same plan,
    and parts of it that are computed stay.

    Args:
        dataset: As for ``featcache.extract``.
        backbones: Likewise; each part has rows of all of them.
        parts: How many; fewer where there are not so many batches.
        part_rows: Instead, embeddings of a backbone in each part.
        exchange: A folder in an object store, such as "s3://bucket/folder", for workers
            that share no disk: the plan is uploaded there, and so are its parts.
        cache: The cache folder; without an exchange all workers have to see it under
            the same path.
        progress: Whether to show a bar; by default in notebooks and terminals.
        options: The others of ``featcache.extract``, but for max_bad and on.

    Raises:
        FeatcacheError: As ``commands.extract.plan_parts``.
    """
    manifest = manifest_of(dataset, cache)
    result: PlanResult = on_networks(
        extracting.plan_parts,
        manifest,
        backbones,
        progress=progress,
        parts=parts,
        part_rows=part_rows,
        exchange=exchange,
        **options,
    )
    return Plan(
        manifest.folder.resolve(),
        result.plan,
        result.parts,
        result.rows,
        exchange=str(location(exchange)) if exchange else "",
    )


def compute_part(
    plan: Plan, part: int, *, progress: bool | None = None
) -> PartResult | None:
    """Computes a part of a plan, in whatever process this is called.

    It may be called twice, also at the same time, and killed at any moment: the first
    part that is whole counts. A process opens the networks for its first part, and
    keeps them for further parts of the same plan; with an exchange each call fetches
    the plan and opens them.

    Args:
        plan: As ``featcache.plan_parts`` gives it.
        part: Number of the part, from 0.
        progress: Whether to show a bar; by default in notebooks and terminals.

    Returns:
        What was computed; None if the part was there already.

    Raises:
        FeatcacheError: As ``commands.extract.compute_parts``.
    """
    with show(progress) as reporter:
        if plan.exchange:
            results = extracting.compute_exchanged(
                plan.exchange, [part], plan=plan.name, reporter=reporter
            )
        else:
            results = extracting.compute_kept(
                plan.folder, plan.name, [part], session=plan.session, reporter=reporter
            )
    return results[0] if results else None


def publish_parts(
    plan: Plan, *, max_bad: float = 0.05, progress: bool | None = None
) -> list[StoreResult]:
    """Publishes a plan whose parts are all computed, each store in one step.

    Args:
        plan: As ``featcache.plan_parts`` gives it.
        max_bad: As for ``featcache.extract``.
        progress: Whether to show a bar; by default in notebooks and terminals.

    Returns:
        What each store has now; empty if nothing was missing when it was planned.

    Raises:
        FeatcacheError: As ``commands.extract.publish_parts``; lists missing parts.
    """
    if not plan.name:
        return []
    with show(progress) as reporter:
        return extracting.publish_parts(
            manifests.load(plan.folder),
            plan=plan.name,
            max_bad=max_bad,
            exchange=plan.exchange or None,
            reporter=reporter,
        )
