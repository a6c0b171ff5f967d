"""Floor 0: writing that survives a crash, digests, locks, names."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from featcache.core import io
from featcache.core.registry import Registry
from featcache.core.text import natural_key
from featcache.errors import FeatcacheError, LockedError, UnknownNameError


def test_natural_order_counts_numbers() -> None:
    """``(2)`` comes before ``(10)``, and letters' case does not matter."""
    names = ["COVID (10).png", "covid (2).png", "COVID (1).png"]
    expected = ["COVID (1).png", "covid (2).png", "COVID (10).png"]
    assert sorted(names, key=natural_key) == expected


def test_equal_values_have_equal_digests() -> None:
    """A digest does not depend on the order of keys."""
    assert io.digest({"a": 1, "b": [2]}) == io.digest({"b": [2], "a": 1})
    assert io.digest({"a": 1}) != io.digest({"a": 2})


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """An exception inside the block keeps the old bytes and no temporary file."""
    path = tmp_path / "a.txt"
    io.write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), io.atomic_path(path) as temp:  # noqa: PT012
        temp.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_is_published_whole(tmp_path: Path) -> None:
    """A folder appears when its block ends, replaces an old one, or not at all."""
    target = tmp_path / "run"
    for text in ("one", "two"):
        with io.atomic_folder(target) as temp:
            (temp / "x").write_text(text)
    with (  # noqa: PT012
        pytest.raises(ValueError, match="stop"),
        io.atomic_folder(target) as temp,
    ):
        (temp / "x").write_text("three")
        raise ValueError("stop")
    assert (target / "x").read_text() == "two"
    assert os.listdir(tmp_path) == ["run"]


def test_what_a_killed_writer_left_goes_with_the_next_write(tmp_path: Path) -> None:
    """Files and folders of one path whose process has died; all others stay."""
    code = (
        "import os, signal; from pathlib import Path\n"
        "from featcache.core import io\n"
        f"here = Path({str(tmp_path)!r})\n"
        "with (io.atomic_path(here / 'a.csv') as file, io.atomic_folder(here / 'run')\n"
        "      as run, io.temporary_folder(here / 'net.xml') as net):\n"
        "    file.touch(), (run / 'x').touch(), (net / 'x').touch()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    strays = sorted(os.listdir(tmp_path))
    assert [name[:5] for name in strays] == [".a.cs", ".net.", ".run."]
    (tmp_path / f"{strays[2]}.old").mkdir()  # killed between its two renames
    other_machine = ".a.csv.1_00000000.tmp"
    (tmp_path / other_machine).touch()
    io.write_text(tmp_path / "b.csv", "")
    assert {*strays, other_machine} <= {*os.listdir(tmp_path)}
    with io.atomic_path(tmp_path / "a.csv") as one:
        one.write_text("1")
        with io.atomic_path(tmp_path / "a.csv.2") as two:
            two.touch()
        assert one.exists()  # its owner lives
    for _ in range(2):
        with io.atomic_folder(tmp_path / "run") as run:
            (run / "x").touch()
    with io.temporary_folder(tmp_path / "net.xml"):
        pass
    left = [other_machine, "a.csv", "a.csv.2", "b.csv", "run"]
    assert sorted(os.listdir(tmp_path)) == left


def test_a_second_writer_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    """A held lock names its owner's pid; after the block nothing is left."""
    path = tmp_path / "a.lock"
    with (
        io.lock(path, "store a"),
        pytest.raises(LockedError, match=f"pid {os.getpid()}"),
        io.lock(path, "store a"),
    ):
        pass
    assert not path.exists()


def test_ctrl_c_leaves_no_lock(tmp_path: Path) -> None:
    """An interrupt inside the block removes the lock file."""
    path = tmp_path / "a.lock"
    with pytest.raises(KeyboardInterrupt), io.lock(path, "store a"):
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_a_dead_owners_lock_is_taken_over_and_reported(tmp_path: Path) -> None:
    """After kill -9 the lock is free, and the next owner is told whose it was."""
    path = tmp_path / "a.lock"
    code = (
        "import sys, time; from pathlib import Path\n"
        "from featcache.core.io import lock\n"
        f"with lock(Path({str(path)!r}), 'store a'): print('held', flush=True); "
        "time.sleep(60)"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    with owner, owner.stdout:
        assert owner.stdout.readline() == "held\n"
        owner.send_signal(signal.SIGKILL)
    said: list[str] = []
    with io.lock(path, "store a", timeout=5, on_takeover=said.append):
        pass
    assert len(said) == 1
    assert f"pid {owner.pid}" in said[0]


def test_a_waiter_gets_the_lock_when_it_is_free(tmp_path: Path) -> None:
    """Two processes that wait for one lock never hold it at once."""
    code = (
        "import sys; from pathlib import Path; from featcache.core.io import lock\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "for _ in range(20):\n"
        "    with lock(folder / 'a.lock', 'a', timeout=30):\n"
        "        n = int((folder / 'n').read_text())\n"
        "        (folder / 'n').write_text(str(n + 1))\n"
    )
    (tmp_path / "n").write_text("0")
    workers = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [w.wait(60) for w in workers] == [0, 0, 0]
    assert (tmp_path / "n").read_text() == "60"


def test_an_unknown_name_offers_the_nearest() -> None:
    """A miss names all rows, the nearest ones, and is no KeyError."""
    table = Registry("fruit", {"apple": 1, "kiwi": 2}, hint="Or bring your own.")
    with pytest.raises(UnknownNameError) as caught:
        table["aple"]
    assert "Did you mean apple? Or bring your own." in str(caught.value)
    assert table["kiwi"] == 2
    assert list(table) == ["apple", "kiwi"]
    assert "plum" not in table
    with pytest.raises(UnknownNameError, match=r"got 'x{150}\.\.\.'\. Or bring"):
        table["x" * 10**6]
    with pytest.raises(UnknownNameError, match="expected a fruit, of which there are"):
        Registry("fruit", {})["kiwi"]


def test_errors_survive_pickling() -> None:
    """An error raised in a worker process arrives whole."""
    import pickle

    error = pickle.loads(pickle.dumps(FeatcacheError("a", "b", "c")))
    assert str(error) == "expected a; got b. c"


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_names_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the temporary file, which nobody knows and which is gone by then."""
    with (
        pytest.raises(OSError, match="No space") as caught,
        io.atomic_path(tmp_path / "a.txt"),
    ):
        full_disk()
    assert caught.value.filename == str(tmp_path)
    monkeypatch.setattr(io.os, "fsync", full_disk)
    with (
        pytest.raises(OSError, match="No space") as caught,
        io.atomic_folder(tmp_path / "run") as temp,
    ):
        (temp / "x").write_text("one")
    assert caught.value.filename == str(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [NotImplementedError(), OSError(errno.ENOLCK, "")])
def test_a_file_system_without_locks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Writing needs a lock; where there are none, the error says so."""

    def no_locks(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("filelock.FileLock.acquire", no_locks)
    with (
        pytest.raises(LockedError, match="a file system with locks"),
        io.lock(tmp_path / "a.lock", "a"),
    ):
        pass
