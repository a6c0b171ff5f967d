"""What calls to extract come to."""

from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from featcache.commands.extract.plan import Job
from featcache.core.progress import Reporter
from featcache.core.text import counted, percent, some
from featcache.dataset.manifest import DUPLICATE, UNREADABLE, Manifest
from featcache.errors import DatasetError


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
        seconds: Spent in computing them; of a plan that was published, in all its tasks
            together.
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


def result_of(job: Job) -> StoreResult:
    """What a call did for a job."""
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


def refuse_bad(
    manifest: Manifest,
    results: list[StoreResult],
    max_bad: float,
    reporter: Reporter,
) -> None:
    """Refuses a call in which too many images could not be read; reports fewer.

    Raises:
        DatasetError: Names some of them.
    """
    table = manifest.table[manifest.table["status"] != DUPLICATE]
    unreadable = table[table["status"] == UNREADABLE]
    bad = dict(zip(unreadable["path"], unreadable["reason"], strict=True))
    failures = dict(chain.from_iterable(result.failures for result in results))
    bad |= failures
    again = f"scan again: {manifest.scan_again(manifest.settings.source)}"
    if len(bad) > max_bad * len(table):
        raise DatasetError(
            f"at most {percent(max_bad)} unreadable images (`max_bad`)",
            f"{len(bad)} of {len(table)}: " + some(_reasons(failures | bad), 3),
            "The readable ones are stored. Raise `max_bad`, or replace the files and "
            f"{again}",
        )
    if failures:
        images = counted(len(failures), "image has", "images have")
        text = some(_reasons(failures), 3)
        reporter.message(f"{images} no features: {text}. To include them, {again}")


def _reasons(bad: dict[str, str]) -> list[str]:
    return [f"{path} ({reason})" for path, reason in bad.items()]
