"""An array of tasks: lost images, full disks, kills, two at once, and the commands."""

import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from test_extract_parts import content, twin
from toys import Heard

from featcache import backbones
from featcache.cli.extract_parts import TASK_VARIABLES
from featcache.commands.extract import (
    compute_parts,
    computing,
    extract,
    plan_parts,
    publish_parts,
)
from featcache.commands.extract.part_plan import open_plan
from featcache.commands.scan import scan
from featcache.dataset.manifest import Manifest
from featcache.errors import DatasetError, LockedError, StoreError
from featcache.features import store

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def border(dataset: Manifest) -> Manifest:
    """A dataset with a plan of one baseline in 4 parts."""
    plan_parts(dataset, backbones.resolve_all(["border"]), parts=4, batch_size=4)
    return dataset


def test_an_image_that_is_lost_is_counted_at_the_end(
    border: Manifest, image_folder: Path
) -> None:
    """The good rows are published; more lost images than allowed are an error then."""
    (image_folder / "COVID" / "p000_COVID (1).png").write_bytes(b"no image")
    parts = compute_parts(border, range(4))
    assert [len(part.failures) for part in parts] == [1, 0, 0, 0]
    with pytest.raises(DatasetError, match="at most 0 % unreadable"):
        publish_parts(border, max_bad=0)
    path = next((border.folder / "features").glob("*.h5"))
    assert len(store.open_store(path).keys) == 35


def test_two_publications_at_once(border: Manifest) -> None:
    """The second is told of the first, and nothing is written twice."""
    compute_parts(border, range(4))
    planned = open_plan(border).record.networks[0]
    with (
        store.writing(border.folder / "features" / planned.store),
        pytest.raises(LockedError, match="is being written by pid"),
    ):
        publish_parts(border)
    assert publish_parts(border)[0].rows == 36
    with pytest.raises(StoreError, match="a plan of parts; got none"):
        publish_parts(border)


def test_a_publication_that_was_killed_is_repeated(
    border: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that are in the store already are not there twice."""
    compute_parts(border, range(4))
    with monkeypatch.context() as patch:
        patch.setattr("featcache.commands.extract.publishing.remove", None)
        with pytest.raises(TypeError):
            publish_parts(border)
    assert publish_parts(border)[0].rows == 36


def test_a_part_that_comes_after_the_publication(
    border: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow second call for a part says that there is nothing left to do."""
    run = computing.compute

    def publish_first(*arguments: object) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(computing, "compute", run)
            compute_parts(border, range(4))
        publish_parts(border)
        run(*arguments)

    monkeypatch.setattr(computing, "compute", publish_first)
    with pytest.raises(StoreError, match="published or removed while this call ran"):
        compute_parts(border, [0])
    assert not (border.folder / "plans").exists()


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow beyond 2,000 bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_no_part(border: Manifest, small_files: None) -> None:
    """A part that cannot be written is an error, and no trace of it stays."""
    with pytest.raises(StoreError, match=r"part 0 of plan .* written to .*: File too"):
        compute_parts(border, [0])
    assert [*(open_plan(border).folder / "parts").iterdir()] == []


def test_fewer_parts_than_asked_for_are_told(run: Run, image_folder: Path) -> None:
    """36 images are nine batches of four."""
    plan = ("-b", "border", "--plan-only", "--batch-size", 4, "--parts")
    code, out, _ = run("extract", image_folder, *plan, 30)
    assert (code, "9 parts" in out) == (0, True)
    assert "fewer parts than asked for" in out
    assert "fewer" not in run("extract", *plan, 9)[1]


def test_the_commands_of_an_array(
    run: Run, image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plan, a task for each part and publish, as a scheduler calls them."""
    plan = ("-b", "border", "--plan-only", "--parts", 3, "--batch-size", 4)
    code, out, _ = run("extract", image_folder, *plan)
    assert code == 0
    assert "sbatch --array=0-2 --wrap 'featcache extract --dataset chest --part'" in out
    for task, name in enumerate(TASK_VARIABLES):
        with monkeypatch.context() as patch:
            patch.setenv(name, str(task))
            code, out, _ = run("extract", "--dataset", "chest", "--part")
        assert code == 0
        assert out.startswith(f"part {task} of plan ")
    code, out, _ = run("extract", "--publish")
    assert code == 0
    assert re.search(r"36 computed in [\d.]+ s of all tasks \(\d+/s each\)", out)
    assert run("extract", "-b", "border", "--plan-only", "--parts", 3)[1] == (
        "All cached: there is nothing to plan.\n"
    )


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--part"], "none of SLURM_ARRAY_TASK_ID"),
        (["--part", "3-1"], "numbers of parts in --part"),
        (["--part", "one"], "numbers of parts in --part"),
        (["--part", "4"], "parts from 0 to 3; got 4"),
        (["--part", "0", "--publish"], "one of --plan-only, --part and --publish"),
        (["--part", "0", "-b", "border"], "without what the plan says; got -b"),
        (["--part", "0", "--max-bad", "1"], "got --max-bad"),
        (["--publish", "--views", "2"], "got --views"),
        (["-b", "border", "--parts", "2"], "no --plan-only"),
        (["-b", "border", "--plan", "1"], "--plan with --part or --publish"),
        (["-b", "border", "--plan-only"], "either --parts or --part-rows; got neither"),
        (["-b", "border", "--plan-only", "--parts", "0"], "--parts from 1 to"),
    ],
)
def test_options_that_do_not_go_together(
    run: Run, border: Manifest, words: list[str], text: str
) -> None:
    """Each is refused with the option that is in the way."""
    for name in TASK_VARIABLES:
        os.environ.pop(name, None)
    code, _, err = run("extract", *words)
    assert code == 1
    assert text in err


@pytest.mark.slow
def test_seven_tasks_in_random_order_two_twice_and_one_killed(
    image_folder: Path, toy_network: Path, tmp_path: Path
) -> None:
    """Processes that know nothing of each other: the bytes of one undivided call."""
    dataset = scan(image_folder, tmp_path / "cache").manifest
    other = twin(dataset, tmp_path)
    networks = backbones.resolve_all([str(toy_network), "baselines"])
    options = {"views": 5, "batch_size": 8}
    whole = extract(dataset, networks, **options)
    plan = plan_parts(other, networks, parts=7, **options)
    command = [sys.executable, "-m", "featcache", "extract"]
    command += ["--cache", str(other.folder.parent), "--part"]

    def task(part: int) -> "subprocess.Popen[bytes]":
        return subprocess.Popen([*command, str(part)], stdout=subprocess.DEVNULL)

    assert plan.path
    with task(3) as killed:
        while not [*plan.path.glob("parts/.000003*/*.parts/*.h5")]:
            assert killed.poll() is None
            time.sleep(0.001)
        killed.send_signal(signal.SIGKILL)
    assert not (plan.path / "parts" / "000003").exists()
    groups = [[1, 1], [5, 5], [0, 6], [2], [3, 4]]  # those of a group at once
    random.Random(5).shuffle(groups)
    for group in groups:
        tasks = [task(part) for part in group]
        assert [one.wait() for one in tasks] == [0] * len(group)
    assert [path.name for path in sorted((plan.path / "parts").iterdir())] == [
        f"{number:06d}" for number in range(7)
    ]
    parts = publish_parts(other, reporter=Heard())
    for one, two in zip(whole, parts, strict=True):
        assert content(one.path) == content(two.path)
    assert [replace(one, path=tmp_path).rows for one in parts] == [216] * 4
