"""The door to TensorFlow: what it leaves behind, in memory and on the disk."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featcache import backbones
from featcache.commands.extract import extract
from featcache.commands.finetune.inputs import Images
from featcache.core.tf import as_written, seeded, tensorflow
from featcache.dataset.manifest import Manifest
from featcache.dataset.views import Policy, Resize
from featcache.heads.networks import Softmax


def test_a_seed_is_given_back() -> None:
    """What is built follows from the seed; Python's and numpy's numbers go on."""
    tensorflow()
    import keras

    def build() -> np.ndarray:
        with seeded(3):
            layer = keras.layers.Dense(4)
            layer.build((None, 2))
        return np.asarray(layer.kernel)

    random.seed(7)
    np.random.seed(7)
    before = random.getstate(), np.random.get_state()[1].tolist()
    assert np.array_equal(build(), build())
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]


def test_random_weights_leave_the_callers_seed() -> None:
    """Numbers drawn after a network is built are those that come next anyhow."""
    np.random.seed(7)
    expected = np.random.random(3)
    np.random.seed(7)
    backbones.build(backbones.resolve("mobilenet", "random", input_size=32, seed=5))
    assert np.array_equal(np.random.random(3), expected)


def train_head(dataset: Manifest, network: Path) -> None:
    X = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    y = np.array(["a", "b"] * 6)
    Softmax(epochs=2, refit=False).fit(X, y, np.arange(12))


def read_batches(dataset: Manifest, network: Path) -> None:
    batches = Images(dataset, Resize(32), Policy(), 3).batches(
        np.arange(3), 0, np.arange(3)
    )
    assert len(list(batches)) == 1


def run_engine(dataset: Manifest, network: Path) -> None:
    resolved = backbones.resolve(str(network))
    extract(dataset, [resolved], views=1, engine="tensorflow")


@pytest.mark.parametrize("work", [train_head, read_batches, run_engine])
def test_no_source_is_written(
    work: Callable[..., Any],
    dataset: Manifest,
    toy_network: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """TensorFlow rewrites no function: its file would stay after a kill -9."""
    (tmp_path / "temp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temp"))
    work(dataset, toy_network)
    assert list((tmp_path / "temp").glob("*autograph*")) == []


def test_a_function_is_traced_as_it_is_written() -> None:
    """It computes what it computes without TensorFlow."""
    tf = tensorflow()
    doubled = tf.function(as_written(lambda x: x * 2))
    assert doubled(tf.constant(3)).numpy() == 6
