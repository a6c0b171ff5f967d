"""What cannot work is told with what to do: settings, images, memory, losses."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import Heard

from featcache.commands.finetune import FinetuneResult, timing, training
from featcache.commands.finetune.inputs import Data
from featcache.dataset.manifest import Manifest
from featcache.errors import HeadError, SplitError, UnreadableImageError, UsageError

WRONG = [
    {"head": "svm"},
    {"optimizer": "lion"},
    {"epochs": 0},
    {"learning_rate": 0.0},
    {"layer_decay": 1.5},
    {"validation": 0.9},
    {"ema": 1.0},
    {"fold": "3"},
    {"max_minutes": 0.0},
]


@pytest.mark.parametrize("given", WRONG)
def test_settings_that_cannot_work(
    given: dict[str, Any], tune: Callable[..., FinetuneResult]
) -> None:
    """Each is refused before any work, with the name of its option."""
    (name,) = given
    with pytest.raises(UsageError, match=f"`{name}`"):
        tune(**given)


def test_before_any_work(
    tune: Callable[..., FinetuneResult], dataset: Manifest, tmp_path: Path
) -> None:
    """No test part, and a reports folder that is a file, are told at once."""
    with pytest.raises(SplitError, match="needs a test set"):
        tune(fold="test", test_size=0.0)
    (tmp_path / "reports").mkdir(exist_ok=True)
    (tmp_path / "reports" / "other").write_text("")
    with pytest.raises(OSError, match="other"):
        tune(replace(dataset, folder=dataset.folder.with_name("other")))


@pytest.mark.slow
def test_an_image_that_is_gone(
    tune: Callable[..., FinetuneResult],
    dataset: Manifest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Training stops with its path; it is no crash of TensorFlow's."""
    lost = dataset.ok["path"].iloc[0]
    root = shutil.copytree(dataset.root, tmp_path / "fewer")
    (root / lost).unlink()
    given = replace(dataset, settings=replace(dataset.settings, root=str(root)))
    for on_cpu in (True, False):  # met by the estimate, and by an epoch
        monkeypatch.setattr(timing, "on_cpu", lambda on_cpu=on_cpu: on_cpu)
        with pytest.raises(UnreadableImageError) as caught:
            tune(given, fold="test", validation=0.0, batch_size=36)
        assert str(lost) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ResourceExhaustedError", "OOM when allocating tensor"),
        pytest.param(
            *("InternalError", "CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_too_large_a_batch(
    name: str,
    text: str,
    tune: Callable[..., FinetuneResult],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What TensorFlow says of memory becomes what the user can lower."""
    from featcache.core.tf import tensorflow

    error = getattr(tensorflow().errors, name)(None, None, text)

    def exhausted(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr(timing, "pace", exhausted)
    with pytest.raises(UsageError, match=r"`batch_size` \(now 8\) or `input_size`"):
        tune(fold="test")


@pytest.mark.slow
def test_a_loss_that_is_not_finite(
    tune: Callable[..., FinetuneResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the first epoch it is an error with advice; later the best so far is kept."""
    with pytest.raises(HeadError, match="`learning_rate`"):
        tune(fold="test", learning_rate=1e30, clip=0.0)
    plain = Data.weights
    calls = iter([1.0, np.nan])
    monkeypatch.setattr(timing, "on_cpu", lambda: False)
    monkeypatch.setattr(
        Data, "weights", lambda data, asked: plain(data, asked) * next(calls)
    )
    told: list[str] = []
    (run,) = tune(fold="test", reporter=Heard(told)).runs
    (about,) = run.record.trainings
    assert (about.stopped, about.epochs) == (training.NOT_FINITE, 1)
    assert np.isfinite(run.table.filter(regex="^p_").to_numpy()).all()
    assert any("`learning_rate`" in line for line in told)
