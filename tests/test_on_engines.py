"""Dask and Ray give the bytes of a local call, also when a worker is killed."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from toys import Heard, header, make_dataset, picture, train_flat, write_store

from featcache import backbones
from featcache.commands.extract import extract, on_workers
from featcache.commands.scan import scan
from featcache.core import workers
from featcache.dataset.manifest import Manifest
from featcache.errors import UsageError

pytestmark = [
    pytest.mark.slow,  # an engine takes seconds to start
    # Ray's processes outlive their sockets' owners.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
engines = pytest.mark.parametrize("on", ["dask", "ray"])
TESTS = Path(__file__).parent
# A head whose process is killed the first time that it is fitted.
DEADLY_HEAD = """
import os
from pathlib import Path
from sklearn.naive_bayes import GaussianNB
class DeadlyNB(GaussianNB):
    def fit(self, X, y):
        try:
            Path(__file__).with_name("died").touch(exist_ok=False)
        except FileExistsError:
            return super().fit(X, y)
        os.kill(os.getpid(), 9)
"""


@pytest.fixture(autouse=True)
def two_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that is started has two, and they find what the tests import."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    path = os.pathsep.join([str(TESTS), str(TESTS.parent), os.getenv("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 4 rows."""
    monkeypatch.setattr(on_workers, "_LEAST_ROWS", 4)


def content(path: Path) -> dict[str, Any]:
    """Every dataset of a store."""
    with h5py.File(path) as file:
        names: list[str] = []
        file.visititems(
            lambda name, one: (
                names.append(name) if isinstance(one, h5py.Dataset) else None
            )
        )
        return {name: file[name][()] for name in names}


def assert_same(left: Path, right: Path) -> None:
    """Two stores have the same rows, bit for bit."""
    own, other = content(left), content(right)
    assert own.keys() == other.keys()
    for name, values in own.items():
        assert np.array_equal(values, other[name]), name


@engines
def test_extract_gives_the_rows_of_a_local_call(
    on: str, image_folder: Path, tmp_path: Path, toy_network: Path, small_parts: None
) -> None:
    """A network and a baseline, views, an unreadable image and all that is reported."""
    networks = backbones.resolve_all([str(toy_network), "border"])
    stores, ticks, failures = [], [], []
    for where in ("local", on):
        dataset = scan(image_folder, tmp_path / where, group_by="image").manifest
        bad = image_folder / dataset.ok["path"].iloc[3]
        kept, heard = bad.read_bytes(), Heard()
        bad.write_bytes(b"no picture")
        results = extract(
            dataset, networks, views=1, batch_size=4, on=where, reporter=heard
        )
        bad.write_bytes(kept)
        stores.append([result.path for result in results])
        ticks.append({(name, total) for name, done, total in heard.ticks})
        failures.append([(r.failures, r.computed, r.rows) for r in results])
        assert not (dataset.folder / "plans").exists()
    for one, other in zip(*stores, strict=True):
        assert_same(one, other)
    assert ticks[0] == ticks[1]
    assert failures[0] == failures[1]
    assert [rows for _, rows, _ in failures[0]] == [70, 70]
    again = extract(dataset, networks, views=1, batch_size=4, max_bad=1, on="local")
    assert [result.computed for result in again] == [2, 2]
    whole = extract(dataset, networks, views=1, batch_size=4, on=on)
    assert [result.computed for result in whole] == [0, 0]


def large_dataset(folder: Path) -> Manifest:
    """24 images that take a while to decode."""
    (folder / "chest" / "a").mkdir(parents=True)
    for number in range(24):
        image = picture(number, 100, (2600, 2600))
        image.save(folder / "chest" / "a" / f"{number:02d}.png")
    return scan(folder / "chest", folder / "cache", fewest_classes=1).manifest


def kill_one(plans: Path, killed: list[int], stop: threading.Event) -> None:
    """Kills the first process that is seen to work on a part."""
    while not stop.is_set() and not killed:
        for temp in plans.glob("*/parts/.*.tmp"):
            match = re.match(r"\.\d+\.(\d+)_", temp.name)
            if match and int(match[1]) != os.getpid():
                os.kill(int(match[1]), signal.SIGKILL)
                killed.append(int(match[1]))
                break
        time.sleep(0.002)


@engines
def test_a_worker_killed_in_mid_part(
    on: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine retries the part, which is told; the rows are the same."""
    monkeypatch.setattr(on_workers, "_LEAST_ROWS", 8)
    networks = backbones.resolve_all(["border", "pixels48"])
    dataset = large_dataset(tmp_path / on)
    killed: list[int] = []
    stop, heard = threading.Event(), Heard()
    watcher = threading.Thread(
        target=kill_one, args=(dataset.folder / "plans", killed, stop)
    )
    watcher.start()
    try:
        results = extract(dataset, networks, batch_size=4, on=on, reporter=heard)
    finally:
        stop.set()
        watcher.join()
    assert len(killed) == 1
    assert [line for line in heard.messages if "died" in line and "retried" in line]
    local = extract(large_dataset(tmp_path / "local"), networks, batch_size=4)
    for one, other in zip(results, local, strict=True):
        assert_same(one.path, other.path)


@engines
def test_train_head_gives_the_predictions_of_a_local_call(
    on: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Byte for byte, although a process is killed at the first fit of one head."""
    dataset = make_dataset(tmp_path)
    write_store(dataset, header())
    (tmp_path / "deadly_head.py").write_text(DEADLY_HEAD)
    path = f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}"
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.syspath_prepend(tmp_path)
    heads, heard = ["softmax", "logreg", "xgboost", "deadly_head:DeadlyNB"], Heard()
    tables = {}
    for where in (on, "local"):
        reports = tmp_path / where
        found = train_flat(
            dataset, reports, heads=heads, folds=3, on=where, reporter=heard
        )
        assert [run.record.reason for run in found.runs if run.failed] == []
        tables[where] = {
            run.run_id: (run.folder / "predictions.csv").read_bytes()
            for run in found.runs
        }
        hidden = [p.name for p in (reports / dataset.dataset).iterdir()]
        assert hidden == ["runs"]
    assert len(tables[on]) == 4
    assert tables[on] == tables["local"]
    assert len([line for line in heard.messages if "died" in line]) == 1


CLUSTER = """
import time
from distributed import LocalCluster
if __name__ == "__main__":
    cluster = LocalCluster(
        n_workers=1, threads_per_worker={threads}, dashboard_address="127.0.0.1:0"
    )
    print(cluster.scheduler_address, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def scheduler(
    request: pytest.FixtureRequest,
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A Dask cluster in another process: its `on`, and the process."""
    code = CLUSTER.format(threads=getattr(request, "param", 1))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True,
        stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        try:
            assert process.stdout
            yield process.stdout.readline().strip().replace("tcp", "dask"), process
        finally:
            process.kill()


def test_a_scheduler_that_is_lost(
    scheduler: tuple[str, subprocess.Popen[str]],
) -> None:
    """The call ends with one error, while what it had sent is still computed."""
    on, process = scheduler
    calls = [{"args": ["true"]}, {"args": ["sleep", "30"]}]
    with workers.opened(on) as cluster:
        results = cluster.run(subprocess.run, calls)
        number, result = next(results)
        assert number == 0
        assert not isinstance(result, str)
        process.kill()
        with pytest.raises(UsageError, match=f"{on} was lost"):
            next(results)


@pytest.mark.parametrize("scheduler", [3], indirect=True)
def test_workers_of_several_threads_are_refused(
    scheduler: tuple[str, subprocess.Popen[str]],
) -> None:
    """Their settings would be shared; the error says how to start them."""
    with (
        pytest.raises(UsageError, match="nthreads 1"),
        workers.opened(scheduler[0]),
    ):
        pass


def test_ray_of_another_call_is_not_joined() -> None:
    """It would be lost when that call ends."""
    ray = pytest.importorskip("ray", reason="needs the extra ray")
    start = (
        "import ray, sys; ray.init('local', num_cpus=1, include_dashboard=False, "
        "log_to_driver=False); print(ray.get_runtime_context().gcs_address, "
        "flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", start],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with other:
        address = other.stdout.readline().strip()
        assert address
        with workers.opened("ray", jobs=1):
            assert ray.get_runtime_context().gcs_address != address
