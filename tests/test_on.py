"""Where work runs: what `on` may say, and which workers are refused."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from toys import Heard, header, make_dataset, train_flat, write_store

from featcache import cli
from featcache.commands.extract.on_workers import part_rows
from featcache.core import workers
from featcache.core.parallel import ONE_THREAD
from featcache.core.workers import Site, base, task
from featcache.core.workers.task import expected_versions, pack, starter
from featcache.errors import UnknownNameError, UsageError


@pytest.mark.parametrize(
    ("text", "site"),
    [
        ("local", Site("local")),
        ("dask", Site("dask")),
        ("dask://10.0.0.1:8786", Site("dask", "10.0.0.1", 8786)),
        ("ray://head.example.org:10001", Site("ray", "head.example.org", 10001)),
        ("dask://[::1]:8786", Site("dask", "[::1]", 8786)),
    ],
)
def test_on_names_an_engine_and_an_address(text: str, site: Site) -> None:
    """Of the form NAME or NAME://HOST:PORT, and written as it was read."""
    assert Site.of(text) == site
    assert str(site) == text


@pytest.mark.parametrize(
    "text",
    ["dask://", "dask://host", "dask://host:", "dask://host:0", "dask://host:65536",
     "dask://a b:1", "dask://user@host:1", "dask://host:1/", "local://host:1"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    """Before anything is started, with the forms that there are."""
    with pytest.raises(UsageError, match="dask://HOST:PORT") as refused:
        Site.of(text)
    assert repr(text) in str(refused.value)


@pytest.mark.parametrize("text", ["", "dusk", "Slurm", "dask:8786"])
def test_other_engines_are_refused(text: str) -> None:
    """The nearest names are offered."""
    with pytest.raises(UnknownNameError, match="local"):
        Site.of(text)


@pytest.mark.parametrize("name", ["dask", "ray"])
def test_an_engine_that_is_not_installed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the extra."""
    monkeypatch.setattr(base.util, "find_spec", lambda package: None)
    with (
        pytest.raises(UsageError, match=rf"pip install 'featcache\[{name}\]'"),
        workers.opened(name),
    ):
        pass


@pytest.mark.parametrize("name", ["dask", "ray"])
def test_nobody_listens(name: str, unused_port: int) -> None:
    """A refused connection ends the call at once, and names the address."""
    on = f"{name}://127.0.0.1:{unused_port}"
    with pytest.raises(UsageError, match=on), workers.opened(on):
        pass


@pytest.fixture
def unused_port() -> int:
    """A port of this machine on which nobody listens."""
    import socket

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def test_jobs_are_not_for_a_cluster() -> None:
    """Its workers are there already."""
    on = "dask://127.0.0.1:1"
    with pytest.raises(UsageError, match="`jobs`"), workers.opened(on, jobs=2):
        pass


def test_a_worker_of_the_same_versions_works() -> None:
    """What it calls gives its result, and a failure as a text."""
    start, same = starter(), expected_versions()
    call = pack(sorted, {"iterable": [2, 1]})
    assert start(pack(len, {}), same, ONE_THREAD)[1].startswith("TypeError")
    state, result = start(call, same, ONE_THREAD)
    assert (state, result) == ("done", "TypeError: sorted expected 1 argument, got 0")
    assert start(pack(dict, {"a": 1}), same, ONE_THREAD) == ("done", {"a": 1})


@pytest.mark.parametrize("name", ["python", "featcache", "numpy"])
def test_a_worker_of_other_versions_is_refused(name: str) -> None:
    """It says what it has, before it unpacks what it is to do."""
    expected = expected_versions() | {name: "0.0.1"}
    state, text = starter()(b"not a pickle", expected, {})
    assert state == "refused"
    assert f"{name} " in text
    assert "instead of 0.0.1" in text


def test_a_worker_with_several_threads_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """TensorFlow's threads would reach the last digits."""
    monkeypatch.setattr(task, "has_one_thread", lambda: False)
    state, text = starter()(pack(dict, {}), expected_versions(), {})
    assert state == "refused"
    assert "TensorFlow" in text


def test_a_worker_without_a_module_is_refused() -> None:
    """A call of a function that only the caller has."""
    payload = pickle.dumps(dict).replace(b"builtins", b"bluitins")
    state, text = starter()(payload, expected_versions(), {})
    assert state == "refused"
    assert "bluitins" in text


def test_a_worker_without_the_package_can_say_so(tmp_path: Path) -> None:
    """The function that it gets is code that needs the standard library alone."""
    from ray import cloudpickle

    (tmp_path / "start.pickle").write_bytes(cloudpickle.dumps(starter()))
    code = (
        "import pickle, sys; sys.modules['featcache'] = None; "
        f"start = pickle.load(open({str(tmp_path / 'start.pickle')!r}, 'rb')); "
        "print(*start(b'', {}, {}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.startswith("refused a worker on"), done.stderr
    assert "featcache" in done.stdout


class RefusingWorkers(base.ClusterWorkers):
    """A cluster of one worker that has another numpy."""

    def outcomes(self, payloads: Any) -> Any:
        """Answers without looking at the call."""
        yield 0, ("refused", "a worker on there, with numpy 1 instead of 2")


def test_a_refusal_is_one_clear_error() -> None:
    """It says of which cluster, what differs, and what to do."""
    cluster = RefusingWorkers("dask://there:1", 1, Heard())
    with pytest.raises(UsageError, match="numpy 1 instead of 2") as refused:
        list(cluster.run(dict, [{}]))
    assert "dask://there:1" in str(refused.value)
    assert "same environment" in str(refused.value)


def test_a_killed_worker_is_told_in_one_line() -> None:
    """With the number of tasks that are done again."""
    heard = Heard()
    RefusingWorkers("dask", 1, heard).report_death("tcp://there:2")
    assert heard.messages == [
        "a worker of dask died (tcp://there:2): the task it had is retried"
    ]


@pytest.mark.parametrize(
    ("rows", "size"),
    [(1, 256), (256 * 256, 256), (256 * 256 + 1, 512), (10**6, 4096), (10**9, 4096)],
)
def test_parts_do_not_depend_on_the_number_of_workers(rows: int, size: int) -> None:
    """So that a call that was stopped goes on with its parts anywhere."""
    assert part_rows(rows) == size


def test_scratch_of_a_cluster_is_beside_the_reports(tmp_path: Path) -> None:
    """All workers see it; it is hidden, and gone after the block."""
    cluster = RefusingWorkers("dask", 1, Heard())
    with cluster.scratch(tmp_path / "reports") as folder:
        assert folder.parent == tmp_path / "reports"
        assert folder.name.startswith(".")
    assert list((tmp_path / "reports").iterdir()) == []


def test_a_wrong_engine_ends_a_call_before_any_work(tmp_path: Path) -> None:
    """Even where all runs are there already."""
    dataset = make_dataset(tmp_path)
    write_store(dataset, header())
    with pytest.raises(UnknownNameError, match="engine"):
        train_flat(dataset, tmp_path / "reports", on="dusk")


def test_a_plan_alone_needs_no_workers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``--on`` would be ignored beside ``--plan-only``."""
    words = ["extract", str(tmp_path), "-b", "border", "--plan-only", "--parts", "2"]
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, "--on", "dask", "--cache", str(tmp_path / "cache")])
    assert ended.value.code == 1
    assert "--on dask" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()
