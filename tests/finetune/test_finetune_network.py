"""The network that is trained: its blocks, what learns, and how fast."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_training import images
from toys import slow_but

from featcache import backbones
from featcache.commands.finetune import timing
from featcache.commands.finetune.inputs import Data
from featcache.commands.finetune.network import values
from featcache.commands.finetune.settings import FinetuneSettings
from featcache.core.tf import tensorflow
from featcache.dataset.manifest import Manifest
from featcache.errors import FeatcacheError, UnknownNameError, UsageError


@pytest.mark.parametrize(
    "name", slow_but(["toy", "mobilenetv3small", "vgg16"], "toy", "vgg16")
)
def test_the_flat_graph_gives_the_features(name: str, toy_network: Path) -> None:
    """It has no model inside, and its numbers are those of the engines."""
    tensorflow()  # first, so that Keras does not start it with all threads
    import keras

    from featcache.backbones import flat

    network = (
        backbones.resolve(str(toy_network))
        if name == "toy"
        else backbones.resolve(name, "random", input_size=32)
    )
    core = backbones.build(network)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    wanted = backbones.with_pixels(core, network)(pixels)["features"].numpy()
    model = flat.graph(core, network)
    assert not any(isinstance(layer, keras.Model) for layer in model.layers)
    assert model.trainable_variables == []
    np.testing.assert_allclose(model(pixels).numpy(), wanted, rtol=1e-5, atol=1e-6)


def test_a_block_ends_where_maps_get_smaller() -> None:
    """The blocks of VGG16 are those that its layers are named after."""
    from featcache.backbones import flat

    network = backbones.resolve("vgg16", "random", input_size=32)
    found = flat.blocks(flat.graph(backbones.build(network), network))
    assert len(found) == 13
    assert all(name.startswith(f"block{block + 1}_") for name, block in found.items())


def make_net(toy_network: Path, **given: Any) -> Any:
    """A network of three classes that is to be trained."""
    from featcache.commands.finetune import network as networks
    from featcache.commands.finetune.start import InitialHead

    network = backbones.resolve(str(toy_network))
    asked = FinetuneSettings(**given)
    core = backbones.build(network)
    start = InitialHead.fresh(asked.head)
    return networks.make(core, network, start, asked, n_classes=3, steps=4), asked


@pytest.mark.parametrize(
    ("unfreeze", "trained"),
    [
        ("all", ["conv2d", "conv2d_1"]),
        ("last-1-blocks", ["conv2d_1"]),
        ("batch_normalization", ["conv2d_1"]),
        ("none", []),
    ],
)
def test_unfreezing(toy_network: Path, unfreeze: str, trained: list[str]) -> None:
    """What is named learns, and all behind it; BatchNormalization never does."""
    net, _ = make_net(toy_network, unfreeze=unfreeze)
    learns = [x.name for x in net.trainer.layers if x.trainable_variables]
    assert learns == [*trained, "head_logits"]
    assert net.blocks == len(trained)


@pytest.mark.parametrize(
    ("unfreeze", "error"),
    [
        ("pool", UsageError),
        ("last-0-blocks", UsageError),
        ("last-x-blocks", UsageError),
        ("conv3d", UnknownNameError),
    ],
)
def test_nothing_to_unfreeze(
    toy_network: Path, unfreeze: str, error: type[FeatcacheError]
) -> None:
    """A layer that is not there or has nothing to train is refused."""
    with pytest.raises(error):
        make_net(toy_network, unfreeze=unfreeze)


def test_rates_by_block(toy_network: Path) -> None:
    """The rate falls from block to block; a block that is not open has none."""
    net, asked = make_net(toy_network, layer_decay=0.5, gradual=2)
    found = {}
    for epoch in (1, 2, 3, 5):
        net.open(epoch, asked)
        found[epoch] = net.rates.numpy().tolist()
    assert found == {1: [1, 0, 0], 2: [1, 0, 0], 3: [1, 0.5, 0], 5: [1, 0.5, 0.25]}
    assert net.depths == [2, 2, 1, 1, 0, 0]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_closed_block_stands_still(toy_network: Path, optimizer: str) -> None:
    """Only what is open changes, and never the statistics of BatchNormalization."""
    net, asked = make_net(toy_network, gradual=1, optimizer=optimizer, ema=0.9)
    before = {v.path: v.numpy() for v in net.model.variables}
    net.open(2, asked)
    pixels = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)
    net.trainer.train_on_batch(pixels, np.eye(3, dtype="float32")[[0, 1, 2] * 2])
    moved = {v.path for v in net.model.variables if (v.numpy() != before[v.path]).any()}
    assert moved == {f"{x}/{w}" for x in ("conv2d_1", "head_logits")
                     for w in ("kernel", "bias")}  # fmt: skip


@pytest.mark.parametrize("precision", slow_but(["off", "on"], "on"))
def test_a_moving_average(toy_network: Path, precision: str) -> None:
    """With momentum 0.25, a quarter of the old and three of the new weights."""
    net, asked = make_net(toy_network, ema=0.25, mixed_precision=precision)
    net.open(1, asked)
    pixels = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)
    seen = []
    for _ in range(2):
        net.trainer.train_on_batch(pixels, np.eye(3, dtype="float32")[[0, 1, 2] * 2])
        seen.append(net.trainable[0].numpy())
    assert np.abs(seen[1] - seen[0]).max() > 1e-5
    wanted = 0.25 * seen[0] + 0.75 * seen[1]
    np.testing.assert_allclose(net.averaged()[0], wanted, atol=1e-6)
    np.testing.assert_array_equal(net.trainable[0].numpy(), seen[1])


@pytest.mark.slow
def test_an_estimate_changes_nothing(toy_network: Path, dataset: Manifest) -> None:
    """Times are above 0, and no weight, no state of the optimizer has moved."""
    net, asked = make_net(toy_network, head="mlp-dropout", ema=0.5)
    rows, codes = np.arange(9), np.arange(36) % 3
    data = Data(images(dataset, batch_size=4), codes, rows, rows[:4], 3)
    before = values(net.variables)
    pace = timing.pace(net, data, asked)
    assert min(pace.render, pace.step, pace.predict) > 0
    assert pace.epoch(data) == pytest.approx(
        3 * (pace.render + pace.step) + pace.render + pace.predict
    )
    for now, then in zip(values(net.variables), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_the_rate_rises_and_falls() -> None:
    """Over one of five epochs of 4 steps up to 0.1, then down to a hundredth of it."""
    from featcache.commands.finetune.optimizer import schedule

    rate = schedule(FinetuneSettings(epochs=5, warmup=1, learning_rate=0.1), 4)
    found = [float(rate(step)) for step in (0, 2, 4, 12, 20)]
    assert found == pytest.approx([0.025, 0.0625, 0.1, 0.0505, 0.001])
