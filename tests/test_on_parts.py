"""Parts on workers: networks are opened once a process, and rates are those of work."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from test_extract_parts import content, twin

from featcache import backbones
from featcache.commands.extract import (
    compute_parts,
    computing,
    extract,
    on_workers,
    plan_parts,
    publish_parts,
)
from featcache.commands.extract.on_workers import compute_part
from featcache.commands.extract.part_plan import open_plan
from featcache.core import parallel
from featcache.core.workers.base import Workers
from featcache.dataset.manifest import Manifest
from featcache.errors import StoreError


class OneWorker(Workers):
    """A cluster whose only worker is this process, and which keeps what it sends."""

    text, count = "here", 1

    def __init__(self) -> None:
        self.outcomes: list[Any] = []

    def run(
        self,
        function: Callable[..., Any],
        calls: Sequence[dict[str, Any]],
        *,
        gpu: bool = False,
    ) -> Iterator[tuple[int, Any]]:
        """Makes one call after the other."""
        for number, arguments in enumerate(calls):
            self.outcomes.append(parallel.call(function, arguments))
            yield number, self.outcomes[-1]

    def scratch(self, home: Path) -> Any:
        """Nobody needs one."""


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> OneWorker:
    """`on="dask"` is this process, with parts of 4 rows."""
    one = OneWorker()

    @contextmanager
    def opened(*arguments: object, **options: object) -> Iterator[OneWorker]:
        yield one

    monkeypatch.setattr(on_workers, "opened", opened)
    monkeypatch.setattr(on_workers, "_LEAST_ROWS", 4)
    return one


@pytest.fixture
def openings(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """An entry for each time that networks are opened for parts."""
    entries: list[object] = []
    inner = computing.with_engines

    def with_engines(request: Any, jobs: Any) -> Any:
        entries.append(jobs)
        return inner(request, jobs)

    monkeypatch.setattr(computing, "with_engines", with_engines)
    return entries


@pytest.mark.slow
def test_a_worker_opens_its_networks_once_a_call(
    dataset: Manifest, worker: OneWorker, openings: list[object], tmp_path: Path
) -> None:
    """Nine parts, and one opening; the next call of that process has its own."""
    networks = backbones.resolve_all(["border", "metadata"])
    other = twin(dataset, tmp_path)
    whole = extract(dataset, networks, batch_size=4)
    parts = extract(other, networks, batch_size=4, on="dask")
    assert (len(worker.outcomes), len(openings)) == (9, 1)
    for one, two in zip(whole, parts, strict=True):
        assert content(one.path) == content(two.path)
    extract(other, networks, batch_size=4, views=1, on="dask")
    assert (len(worker.outcomes), len(openings)) == (18, 2)


def test_a_worker_sees_a_plan_that_is_gone(dataset: Manifest) -> None:
    """What it keeps of a plan does not hide that the plan was published."""
    plan = plan_parts(dataset, backbones.resolve_all(["border"]), parts=2, batch_size=4)
    words = {"folder": dataset.folder, "plan": plan.plan, "session": "one"}
    assert compute_part(**words, part=0).error is None
    compute_parts(dataset, [1])
    publish_parts(dataset)
    computed = compute_part(**words, part=1)
    assert isinstance(computed.error, StoreError)
    assert "published or removed" in str(computed.error)
    assert not (dataset.folder / "plans").exists()


def test_the_rate_is_that_of_the_workers_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two workers at a time, each a part of 4 s; what came before does not count."""
    clock = iter([100.0, 100.5, 104.0, 104.5])
    span = on_workers._Span()
    monkeypatch.setattr(on_workers.time, "monotonic", lambda: next(clock))
    assert span.seconds == 0
    for _ in range(4):
        span.add(4.0)
    assert span.seconds == 8.5  # from 96 to 104.5


def test_parts_of_a_call_that_was_stopped_count_with_their_own_seconds(
    dataset: Manifest, worker: OneWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rate of all rows is not that of the few that were left; damaged ones are."""
    border = backbones.resolve_all(["border"])
    plan_parts(dataset, border, part_rows=4, batch_size=4)
    compute_parts(dataset, range(8))
    plan = open_plan(dataset)
    (plan.part_folder(2) / "part.json").write_text("{}")
    earlier = [
        on_workers.read_record(plan.part_folder(n)) for n in (0, 1, 3, 4, 5, 6, 7)
    ]
    (name,) = earlier[0].seconds
    monkeypatch.setattr(on_workers._Span, "seconds", 50.0)
    (result,) = extract(dataset, border, batch_size=4, on="dask")
    assert len(worker.outcomes) == 2  # the damaged one, and the last
    spent = sum(record.seconds[name] for record in earlier)
    assert result.seconds == pytest.approx(50 + spent)
    assert result.computed == 36
