"""No epoch is lost: time limits, checkpoints, and trainings that are stopped."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_training import OPTIONS, QUICK, Undisturbed
from toys import HEARS_CTRL_C, Heard

from featcache.commands import finetune as command
from featcache.commands.compare import compare
from featcache.commands.finetune import FinetuneResult, training
from featcache.commands.finetune.checkpoint import Checkpoint, State, others
from featcache.commands.finetune.plan import RunPlan
from featcache.core.io import write_json
from featcache.dataset.manifest import Manifest
from featcache.errors import RunError
from featcache.evaluation import runs


@pytest.mark.slow
def test_a_time_limit(
    tune: Callable[..., FinetuneResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends with what it has, and says so; with more time it goes on from there."""
    told: list[str] = []
    plain, clock = training._fit, iter([0.0, float("inf")])
    real = time.monotonic

    def fit(net: Any, data: Any, asked: Any, done: int, watch: Any) -> Any:
        return plain(net, data, asked, done, replace(watch, deadline=deadline()))

    def deadline() -> float:
        return real() + 1e6 if next(clock) == 0 else 0.0

    monkeypatch.setattr(training, "_fit", fit)
    again = {"fold": "test", "epochs": 3, "reporter": Heard(told)}
    (short,) = tune(**again, max_minutes=1.0).runs
    assert short.record.trainings[0].stopped == training.TIME
    assert "the time limit stopped 1 of 1 networks early" in told[-1]
    assert "`max_minutes`" in told[-1]
    assert tune(**again, max_minutes=1.0).new_run_ids == []
    monkeypatch.undo()
    told.clear()
    tune(**again | {"epochs": 1})
    assert "with other settings (epochs 3, not 1)" in told[0]
    (whole,) = tune(**again, max_minutes=9.0).runs
    assert whole.run_id != short.run_id
    assert any("resumes after epoch 1" in line for line in told)
    assert whole.record.trainings[0].epochs == 3
    assert tune(**again).new_run_ids == []
    (line,) = compare(whole.folder.parents[1], part="test").excluded
    assert f"{short.run_id} is not ranked: run {whole.run_id} has the same" in line


@pytest.mark.parametrize("kind", ["folder", "short"])
def test_force_replaces_a_broken_run(
    tune: Callable[..., FinetuneResult], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody opens it, and its checkpoints go; one that is not there keeps its own."""
    todo: list[RunPlan] = []

    def train(plans: list[RunPlan], *_: Any) -> dict[RunPlan, Path]:
        todo[:] = plans
        return {}

    monkeypatch.setattr(command, "_train", train)
    tune(max_minutes=1.0)
    checkpoints, folder = todo[0].checkpoints, getattr(todo[0], kind)
    checkpoints.mkdir(parents=True)
    tune(max_minutes=1.0, force=True)
    assert checkpoints.is_dir()
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{")
    todo.clear()
    with pytest.raises(RunError, match="`force=True`"):
        tune(max_minutes=1.0)
    tune(max_minutes=1.0, force=True)
    assert len(todo) == 1
    assert not checkpoints.exists()


def test_checkpoints_of_others(tmp_path: Path) -> None:
    """One of other settings, or a damaged one, is left alone with a word."""
    path = tmp_path / "a" / "0.npz"
    state = State(epoch=3, best=[np.arange(3)], history=[{"loss": 0.5}])
    Checkpoint(path, "these").save(state)
    found, told = Checkpoint(path, "these").load()
    assert told == ""
    assert found is not None
    assert (found.epoch, found.history) == (3, [{"loss": 0.5}])
    assert found.best[0].tolist() == [0, 1, 2]
    assert Checkpoint(path, "others").load() == (
        None,
        f"{path} belongs to other settings",
    )
    whole = path.read_bytes()
    for data in (whole[:-40], b"", b"PK"):
        path.write_bytes(data)
        found, told = Checkpoint(path, "these").load()
        assert found is None
        assert "damaged" in told
    for at in range(0, len(whole), 7):  # refused, or a byte that no number hangs on
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 8]) + whole[at + 1 :])
        found, told = Checkpoint(path, "these").load()
        if found is None:
            assert "damaged" in told
        else:
            assert (found.epoch, found.history) == (3, [{"loss": 0.5}])
            assert found.best[0].tolist() == [0, 1, 2]
    assert Checkpoint(tmp_path / "none.npz", "these").load() == (None, "")


def test_checkpoints_of_other_settings(tmp_path: Path) -> None:
    """Those of the same network are told, with what differs and what to do."""
    one = {"network": "toynet", "keras": "3.1", "params": {"ema": 0.5, "epochs": 3}}
    two = {"network": "toynet", "keras": "3.2", "params": {"ema": 0.0, "epochs": 3}}
    write_json(tmp_path / "a" / "about.json", one)
    write_json(tmp_path / "b" / "about.json", two | {"network": "vgg19"})
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "about.json").write_text("{")
    assert others(tmp_path / "a", one) == []
    (told,) = others(tmp_path / "d", two)
    assert f"{tmp_path / 'a'} holds a training of toynet" in told
    assert "(keras 3.1, not 3.2, ema 0.5, not 0.0)" in told
    assert "delete the folder" in told


TOLERANCE = 1e-5  # of probabilities, after a resume on one machine


def stopped(
    words: list[Any], step: int, by: signal.Signals, read_s: float = 0
) -> tuple[int, str]:
    """Trains in a process of its own, which a signal meets at a step of the progress.

    Args:
        words: The command.
        step: Which step.
        by: Which signal.
        read_s: Seconds that the reading of an image takes longer than usual.

    Returns:
        How it ended, and what it told.
    """
    code = f"""
import os, signal, time
from contextlib import nullcontext
from featcache import cli
from featcache.cli import finetune
from featcache.cli.output import Said
from featcache.commands.finetune.inputs import Images
{HEARS_CTRL_C}
class Killer(Said):
    def progress(self, name, done, total):
        if done == {step}:
            os.kill(os.getpid(), {int(by)})
def slow(images, row, view, pixels=Images.pixels):
    time.sleep({read_s})
    return pixels(images, row, view)
finetune.bars = lambda: nullcontext(Killer())
Images.pixels = slow
cli.main({[str(word) for word in words]!r})
"""
    command = [sys.executable, "-X", "faulthandler", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    return done.returncode, done.stderr


@pytest.mark.slow
def test_a_stopped_training_goes_on(
    run: Callable[..., tuple[int, str, str]],
    whole: Undisturbed,
    dataset: Manifest,
    toy_network: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed in the second fold, interrupted in the last network: no epoch is lost."""
    reports = tmp_path / "again"
    words = ["finetune", "-b", toy_network, "--cache", dataset.folder.parent,
             "--reports", reports, "--no-calibrate"]  # fmt: skip
    for name, value in (QUICK | OPTIONS).items():
        words += [] if name == "calibrate" else [f"--{name.replace('_', '-')}", value]
    first, last = (whole.ticks[i][2] // 9 for i in (0, -1))  # steps an epoch
    # In the second of three epochs: of fold 1, and of the network of the test part.
    status, _ = stopped(words, 4 * first + 2, signal.SIGKILL)
    assert status == -signal.SIGKILL
    status, told = stopped(words, 7 * last + 2, signal.SIGINT)
    assert status == 130, told
    assert "toynet, fold 0: already trained" in told
    assert "fold 0: epoch" not in told
    assert "toynet, fold 1: resumes after epoch 1" in told
    assert told.splitlines()[-1].endswith("run the same command to resume.")
    monkeypatch.chdir(tmp_path)
    status, out, told = run(*words)
    assert status == 0
    assert "toynet, test: resumes after epoch 1" in told
    assert whole.run.run_id in out
    resumed = runs.load(reports / dataset.dataset / "runs" / whole.run.run_id)
    p, wanted = (r.table.filter(regex="^p_").to_numpy() for r in (resumed, whole.run))
    np.testing.assert_allclose(p, wanted, atol=TOLERANCE)
    assert not any((reports / dataset.dataset / "checkpoints").iterdir())


@pytest.mark.slow
def test_an_interrupt_while_images_are_read_ends_the_process(
    dataset: Manifest, toy_network: Path, tmp_path: Path
) -> None:
    """TensorFlow's threads hold images that Python, which ends, will never give."""
    words = ["finetune", "-b", toy_network, "--cache", dataset.folder.parent,
             "--reports", tmp_path, "--epochs", 1, "--batch-size", 2]  # fmt: skip
    status, told = stopped(words, 1, signal.SIGINT, read_s=0.3)
    assert status == 130, told
    assert told.splitlines()[-1].endswith("run the same command to resume.")
