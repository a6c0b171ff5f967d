"""Fine-tuning by workers: a network a task, and the same numbers."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from toys import Heard

from featcache.commands import finetune as finetuning
from featcache.commands.finetune import FinetuneResult
from featcache.core.workers import opened
from featcache.core.workers.base import ClusterWorkers
from featcache.core.workers.task import Outcome, starter
from featcache.dataset.manifest import Manifest
from featcache.errors import UnreadableImageError
from featcache.evaluation import runs


class Pickled(ClusterWorkers):
    """This process as the only worker: what is sent is packed and unpacked."""

    def outcomes(
        self, payloads: Sequence[tuple[Any, ...]]
    ) -> Iterator[tuple[int, Outcome]]:
        """Works from the last to the first."""
        for number in reversed(range(len(payloads))):
            yield number, starter()(*payloads[number])


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two workers wherever they are started; "dask://toy:1" is this process."""
    engines: list[str] = []
    monkeypatch.setattr(os, "cpu_count", lambda: 2)

    @contextmanager
    def toy(on: str, **options: Any) -> Iterator[Any]:
        engines.append(on)
        if on == "dask://toy:1":
            yield Pickled(on, 2, options["reporter"])
            return
        with opened(on, **options) as workers:
            yield workers

    monkeypatch.setattr(finetuning, "opened", toy)
    return engines


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.slow
@pytest.mark.parametrize("on", ["dask://toy:1", "dask"])
def test_networks_are_trained_by_workers(
    on: str,
    tune: Callable[..., FinetuneResult],
    cached: Callable[..., runs.Run],
    tmp_path: Path,
    started: list[str],
) -> None:
    """Predictions, history and what is said are those of a call in one process."""
    base, local, heard = cached("softmax"), Heard(), Heard()
    shutil.copytree(tmp_path / "reports", tmp_path / "other")
    (expected,) = tune(init_head=base.run_id, reporter=local).runs
    reports = tmp_path / "other"
    made = tune(init_head=base.run_id, reports=reports, on=on, reporter=heard)
    (run,) = made.runs
    assert started == [on]
    assert made.new_run_ids == [expected.run_id]
    for name in (runs.PREDICTIONS, "history.csv"):
        assert (run.folder / name).read_bytes() == (expected.folder / name).read_bytes()
    for name in ("parameters", "weights_digest", "features", "scores", "init_head"):
        assert getattr(run.record, name) == getattr(expected.record, name)
    assert (run.folder / "model.keras").stat().st_size > 0
    assert [one.epochs for one in run.record.trainings] == [2, 2, 2]
    epochs = {text.partition(";")[0] for text in local.messages if ": epoch " in text}
    assert len(epochs) == 6
    assert epochs <= {text.partition(";")[0] for text in heard.messages}
    assert heard.ticks == [(run.record.backbone, done, 3) for done in (1, 2, 3)]
    left = {path.name for path in run.folder.parents[1].iterdir()}
    assert left <= {"runs", "checkpoints"}
    tune(init_head=base.run_id, reports=reports, on=on)
    assert started == [on]  # a run that is there needs no workers


@pytest.mark.slow
def test_an_error_of_a_worker_is_that_of_a_call(
    tune: Callable[..., FinetuneResult],
    dataset: Manifest,
    started: list[str],
) -> None:
    """An image that is gone; nothing is recorded, and the scratch folder is removed."""
    path = dataset.root / dataset.ok["path"].iloc[0]
    kept = path.read_bytes()
    path.unlink()
    try:
        with pytest.raises(UnreadableImageError, match=path.name.partition(" ")[0]):
            tune(on="dask://toy:1")
    finally:
        path.write_bytes(kept)


@pytest.mark.slow
def test_time_is_shared_by_those_that_work_at_once(
    tune: Callable[..., FinetuneResult],
    started: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three networks on two workers take two rounds."""
    seconds: list[float] = []
    run = Pickled.run

    def keep(self: Pickled, function: Any, calls: Any, **options: Any) -> Any:
        seconds.extend(call["seconds"] for call in calls)
        return run(self, function, calls, **options)

    monkeypatch.setattr(Pickled, "run", keep)
    tune(on="dask://toy:1", max_minutes=60)
    assert [round(one / 60) for one in seconds] == [30, 30, 30]
