"""Worker processes, scratch folders, and how both end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from toys import header, make_dataset, slow_but, write_store

from featcache.core import scratch
from featcache.core.io import owner_mark
from featcache.core.parallel import side_by_side
from featcache.core.scratch import scratch_folder

# A head that says it has begun, and then takes a minute.
SLOW_HEAD = """
import time
from pathlib import Path
from sklearn.naive_bayes import GaussianNB
class SlowNB(GaussianNB):
    def fit(self, X, y):
        Path(__file__).with_name(f"began{time.time_ns()}").touch()
        time.sleep(60)
        return super().fit(X, y)
"""


def wait_until(holds: Callable[[], object], seconds: float) -> bool:
    """Whether something comes to hold within a time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.05)
    return bool(holds())


def processes_with(mark: str) -> list[int]:
    """Processes that have a variable of this value in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            lines = (folder / "environ").read_bytes().split(b"\0")
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if f"MARK={mark}".encode() in lines and state != "Z":
            found.append(int(folder.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads /proc")
@pytest.mark.parametrize(
    ("by", "exit_code"),
    slow_but(
        [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130),
         (signal.SIGKILL, -9)],
        (signal.SIGTERM, 143),
    ),
)  # fmt: skip
def test_a_stopped_training_leaves_no_process_and_no_folder(
    tmp_path: Path, by: signal.Signals, exit_code: int
) -> None:
    """Soon after a signal, workers are gone and so is the copy of features."""
    write_store(make_dataset(tmp_path), header())
    (tmp_path / "slow_head.py").write_text(SLOW_HEAD)
    temp = tmp_path / "temp"
    temp.mkdir()
    command = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    words = ["train-head", "-H", "slow_head:SlowNB", "--jobs", "2"]
    command += f"; from featcache.cli import main; main({words!r})"
    environment = {"MARK": str(tmp_path), "TMPDIR": str(temp)}
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    with subprocess.Popen(
        [sys.executable, "-c", command],
        cwd=tmp_path,
        env=os.environ | environment | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert wait_until(lambda: len(list(tmp_path.glob("began*"))) == 2, 60)
        assert list(temp.glob("featcache-*"))
        process.send_signal(by)
        assert wait_until(lambda: not processes_with(str(tmp_path)), 30)
        assert not list(temp.glob("featcache-*"))
        _, err = process.communicate(timeout=10)
    assert process.returncode == exit_code
    if by != signal.SIGKILL:
        assert err.count("\n") == 1
        assert err.startswith("Interrupted. Finished work is kept")


def test_a_scratch_folder_lives_as_long_as_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes with the block; one of a dead owner with the next, others stay."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dead, foreign = tmp_path / "featcache-dead", tmp_path / "featcache-other"
    for folder in (dead, foreign, tmp_path / "target"):
        folder.mkdir()
    (dead / scratch.LOCK).write_text("pid 1")
    (tmp_path / "target" / scratch.LOCK).write_text("pid 1")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    mark = owner_mark().replace(f"{os.getpid()}_", f"{gone.pid}_")
    (tmp_path / f"featcache-{mark}_abc").mkdir()  # died before it had a lock
    (tmp_path / "featcache-link").symlink_to(tmp_path / "target")
    with scratch_folder() as one, scratch_folder() as two:
        (one / "matrix").touch()
        scratch.sweep()
        assert (one / "matrix").exists()
        assert two.exists()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"featcache-other", "featcache-link", "target"}
    assert (tmp_path / "target" / scratch.LOCK).exists()


def test_a_worker_maps_a_file_and_has_one_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Maps are opened, not sent; one job too has a worker where threads are free."""
    np.save(tmp_path / "x.npy", np.arange(6.0).reshape(2, 3))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    monkeypatch.delenv("FEATCACHE_THREADS")
    (row,) = side_by_side(np.sum, [{"a": mapped, "axis": 0}], 1)
    assert row[0] == 0
    np.testing.assert_array_equal(row[1], [3, 5, 7])
    calls = [{"key": name} for name in ("FEATCACHE_THREADS", "OMP_NUM_THREADS")]
    assert dict(side_by_side(os.getenv, calls, 1)) == {0: "1", 1: "1"}


@pytest.mark.slow
def test_joblib_works_in_the_same_process() -> None:
    """Its pool of processes is its own, and ours is ours."""
    code = """if True:
        import joblib
        from featcache.core.parallel import side_by_side
        if __name__ == "__main__":
            for _ in range(2):
                print(sorted(side_by_side(dict, [{"x": 1}, {"x": 2}], 2)))
                calls = [joblib.delayed(abs)(i) for i in (-1, -2)]
                print(joblib.Parallel(n_jobs=2)(calls))
    """
    environment = {k: v for k, v in os.environ.items() if k != "FEATCACHE_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.stdout.splitlines()[-1] == "[1, 2]", done.stderr
