"""Fine-tuning: the cache's views, the heads' folds, and no epoch lost."""

import inspect
import json
import re
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
from PIL import Image

from featcache import backbones, heads, outcome, runs, splits, study, views
from featcache.compare import compare, confusion
from featcache.errors import (
    ContractError,
    DatasetError,
    FeatcacheError,
    HeadError,
    SplitError,
    UnknownNameError,
    UnreadableImageError,
    UsageError,
)
from featcache.finetune import FinetuneResult, finetune, training
from featcache.finetune.checkpoint import Checkpoint, State
from featcache.finetune.inputs import Images, order
from featcache.finetune.settings import Settings
from featcache.finetune.start import folded, origin
from featcache.finetune.training import Data
from featcache.manifest import Manifest, narrow
from featcache.train_head import train_head
from featcache.views import Policy

PLAIN = Policy(flip=False, brightness=(1, 1), zoom=(1, 1))
QUICK = {"epochs": 2, "batch_size": 8, "folds": 2, "learning_rate": 0.01, "tta": 1}


def settings(**given: Any) -> Settings:
    """The defaults of ``finetune``, with some of them given."""
    defaults = {
        name: argument.default
        for name, argument in inspect.signature(finetune).parameters.items()
    }
    policy = given.pop("policy", Policy())
    return Settings.of(defaults | given, policy)


@pytest.fixture
def tune(
    dataset: Manifest, toy_network: Path, tmp_path: Path
) -> Callable[..., FinetuneResult]:
    """Fine-tunes the toy network for two epochs on two folds and the test part."""

    def call(given: Manifest = dataset, **options: Any) -> FinetuneResult:
        network = backbones.resolve(
            str(toy_network), preprocess=options.pop("preprocess", "imagenet")
        )
        options = QUICK | {"reports": tmp_path / "reports"} | options
        return finetune(given, [network], **options)

    return call


@pytest.fixture
def cached(
    dataset: Manifest, toy: Callable[..., Any], tmp_path: Path
) -> Callable[..., runs.Run]:
    """Trains a head on the toy network's features, on the same split."""
    toy(dataset, views=1, taps="conv2d", tap_pooling="avg+max")

    def call(head: str, **options: Any) -> runs.Run:
        given = {"folds": 2, "jobs": 1, "views": 0, "calibrate": False} | options
        made = train_head(dataset, tmp_path / "reports", heads=[head], **given)
        return made.runs[0]

    return call


def images(dataset: Manifest, **given: Any) -> Images:
    return Images(**{"dataset": dataset, "side": 32, "policy": Policy(), **given})


def test_an_epoch_sees_the_views_of_the_cache(dataset: Manifest) -> None:
    """Epoch 3 trains on view 3, drawn and rendered as ``extract`` does."""
    policy, row = Policy(seed=5), 7
    one = dataset.ok.iloc[row]
    picture = Image.open(dataset.root / one["path"])
    drawn = views.draw(policy, one["image_id"], 3)
    source = images(dataset, policy=policy, batch_size=4)
    assert settings(policy=policy).view(3) == 3
    assert np.array_equal(source.pixels(row, 3), views.render(picture, 32, drawn))
    assert np.array_equal(source.pixels(row, 0), views.render(picture, 32))
    assert settings(policy=PLAIN).view(3) == 0


def test_an_epoch_has_an_order_of_its_own() -> None:
    """Each epoch takes each row once, in an order that the seed and it decide."""
    first = order(50, 0, 1)
    assert sorted(first) == list(range(50))
    assert np.array_equal(first, order(50, 0, 1))
    assert not np.array_equal(first, order(50, 0, 2))
    assert not np.array_equal(first, order(50, 1, 1))


@pytest.mark.slow
def test_batches_are_the_images_in_order(dataset: Manifest) -> None:
    """Pixels come in the order asked with what goes with them, the last batch short."""
    source = images(dataset, batch_size=2)
    batches = list(source.batches(np.array([9, 3, 5]), 1, np.array([90, 30, 50])))
    pixels = np.concatenate([x.numpy() for x, _ in batches])
    assert np.array_equal(pixels, [source.pixels(row, 1) for row in (9, 3, 5)])
    assert [y.numpy().tolist() for _, y in batches] == [[90, 30], [50]]


def test_balanced_classes_weigh_the_same(dataset: Manifest) -> None:
    """With 3 of one class and 1 of the other, weights are 4/6 and 4/2."""
    codes = np.array([0, 0, 0, 1])
    data = Data(images(dataset, batch_size=3), codes, np.arange(4), np.arange(0), 2)
    assert data.steps == 2
    assert data.weights(settings()).tolist() == [1, 1]
    assert data.weights(settings(class_weight="balanced")) == pytest.approx([2 / 3, 2])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["toy", "mobilenetv3small", "vgg16"])
def test_the_flat_graph_gives_the_features(name: str, toy_network: Path) -> None:
    """It has no model inside, and its numbers are those of the engines."""
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


@pytest.mark.slow
def test_a_block_ends_where_maps_get_smaller() -> None:
    """The blocks of VGG16 are those that its layers are named after."""
    from featcache.backbones import flat

    network = backbones.resolve("vgg16", "random", input_size=32)
    found = flat.blocks(flat.graph(backbones.build(network), network))
    assert len(found) == 13
    assert all(name.startswith(f"block{block + 1}_") for name, block in found.items())


def make_net(toy_network: Path, **given: Any) -> Any:
    """A network of three classes that is to be trained."""
    from featcache.finetune import network as networks
    from featcache.finetune.start import Start

    network = backbones.resolve(str(toy_network))
    asked = settings(**given)
    core = backbones.build(network)
    start = Start.fresh(asked.head)
    return networks.make(core, network, start, asked, n_classes=3, steps=4), asked


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_rates_by_block(toy_network: Path) -> None:
    """The rate falls from block to block; a block that is not open has none."""
    net, asked = make_net(toy_network, layer_decay=0.5, gradual=2)
    found = {}
    for epoch in (1, 2, 3, 5):
        net.open(epoch, asked)
        found[epoch] = net.rates.numpy().tolist()
    assert found == {1: [1, 0, 0], 2: [1, 0, 0], 3: [1, 0.5, 0], 5: [1, 0.5, 0.25]}
    assert net.depths == [2, 2, 1, 1, 0, 0]


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_rate_rises_and_falls() -> None:
    """Over one of five epochs of 4 steps up to 0.1, then down to a hundredth of it."""
    from featcache.finetune.optimizer import schedule

    rate = schedule(settings(epochs=5, warmup=1, learning_rate=0.1), 4)
    found = [float(rate(step)) for step in (0, 2, 4, 12, 20)]
    assert found == pytest.approx([0.025, 0.0625, 0.1, 0.0505, 0.001])


CASES = [
    ("softmax", {}),
    ("mlp-dropout", {}),
    ("logreg", {}),
    ("logreg", {"taps": "all", "views": 1}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("head", "options"), CASES)
def test_it_starts_where_the_cached_head_is(
    head: str,
    options: dict[str, Any],
    cached: Callable[..., runs.Run],
    dataset: Manifest,
    toy_network: Path,
) -> None:
    """Before the first step it predicts what the head does on features of view 0."""
    from featcache.finetune import network as networks

    run, network = cached(head, **options), backbones.resolve(str(toy_network))
    of = run.record["evaluation_id"]
    start = origin(run, dataset, network, evaluation_id=of)
    places = run.table.set_index("image_id")["fold"].loc[dataset.ok["image_id"]]
    rows = np.flatnonzero(places != splits.TEST)
    net = networks.make(
        backbones.build(network),
        network,
        start.start(rows, np.zeros(36), np.zeros(36)),
        settings(),
        n_classes=3,
        steps=4,
    )
    held = np.flatnonzero(places == splits.TEST)
    p = net.predict(images(dataset, batch_size=8).batches(held, 0))
    kept = heads.load(run.folder).predict_proba(start.features[held, 0])
    np.testing.assert_allclose(p, kept, atol=1e-4)
    if not options:  # these are what the run has published
        order_of = dataset.ok["image_id"].iloc[held]
        table = run.table.set_index("image_id").loc[order_of].filter(regex="^p_")
        np.testing.assert_allclose(p, table.to_numpy(), atol=1e-4)


@pytest.mark.slow
def test_a_fold_starts_from_a_head_that_never_saw_it(
    cached: Callable[..., runs.Run], dataset: Manifest, toy_network: Path
) -> None:
    """The head of a fold is fitted on its training rows, and not the saved one."""
    run, network = cached("logreg", tune=False), backbones.resolve(str(toy_network))
    of = run.record["evaluation_id"]
    start = origin(run, dataset, network, evaluation_id=of)
    y = dataset.ok["label"].map(run.classes.index).to_numpy()
    groups = dataset.ok["group"].to_numpy()
    places = run.table.set_index("image_id")["fold"].loc[dataset.ok["image_id"]]
    rows = np.flatnonzero(places == 1)
    found = start.start(rows, y, groups)
    by_hand = heads.make("logreg", tune=False)
    by_hand.fit(start.features[rows, 0], y[rows], groups[rows])
    wanted, saved = folded(by_hand), folded(start.head)
    np.testing.assert_allclose(found.weights[0], wanted.weights[0], rtol=1e-5)
    assert not np.allclose(found.weights[0], saved.weights[0], rtol=1e-2)


def test_two_classes_are_folded() -> None:
    """Logistic regression of two classes becomes two logits, the first of them 0."""
    rng = np.random.default_rng(0)
    X = rng.normal([1, 5, -2], [1, 10, 0.1], (40, 3)).astype("float32")
    y = (X[:, 0] + rng.normal(0, 0.5, 40) > 1).astype(int)
    head = heads.make("logreg", tune=False).fit(X, y)
    kernel, bias = folded(head).weights
    z = X @ kernel + bias
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(p, head.predict_proba(X), atol=1e-6)


@pytest.mark.slow
def test_a_run_as_any_other(
    tune: Callable[..., FinetuneResult], cached: Callable[..., runs.Run]
) -> None:
    """It is judged on the split of the heads, ranked with them, and made once."""
    told: list[str] = []
    base = cached("logreg")
    made = tune(validation=0.2, message=told.append)
    (run,) = made.runs
    assert made.trained == [run.run_id]
    assert run.record["evaluation_id"] == base.record["evaluation_id"]
    assert run.record["status"] == "ok"
    assert [one["fold"] for one in run.record["trainings"]] == [0, 1, -1]
    assert run.record["trainable_parameters"] == 608 + 876 + 39
    assert run.record["scores"].keys() == {"train", "test"}
    page = Path(__file__).parents[1] / "docs/file-format.md"
    named = set(re.findall(r"`([\w.]+)`", page.read_text(encoding="utf-8")))
    assert {*run.record, *run.record["trainings"][0]} <= named
    board = compare(run.folder.parents[1])
    assert {row["head"] for row in board.rows} == {"finetune", "logreg"}
    assert board.left_out == []
    assert sum("s a step" in line for line in told) == 1
    assert tune(validation=0.2).trained == []


@pytest.mark.slow
def test_the_saved_network_takes_pixels(
    tune: Callable[..., FinetuneResult], dataset: Manifest
) -> None:
    """model.keras gives the published probabilities of the test part."""
    import keras

    (run,) = tune(fold="test", tta=0).runs
    assert set(run.table["fold"]) == {splits.TEST}
    assert run.record["scores"].keys() == {"test"}
    model = keras.models.load_model(run.folder / "model.keras")
    table = run.table.set_index("image_id")
    ids = dataset.ok["image_id"]
    rows = np.flatnonzero(ids.isin(table.index))
    p = model.predict(images(dataset, batch_size=4).batches(rows, 0), verbose=0)
    wanted = table.loc[ids.iloc[rows]].filter(regex="^p_").to_numpy()
    np.testing.assert_allclose(p, wanted, atol=1e-6)


@pytest.mark.slow
def test_half_precision(tune: Callable[..., FinetuneResult]) -> None:
    """In float16, with a scaled loss, it ends near where float32 does."""
    full, half = (
        tune(fold="test", mixed_precision=how, ema=0.5).runs[0] for how in ("off", "on")
    )
    assert "float16" in half.record["machine"]
    p, q = (run.table.filter(regex="^p_").to_numpy() for run in (full, half))
    np.testing.assert_allclose(p, q, atol=5e-3)


@pytest.mark.slow
def test_from_a_cached_head(
    tune: Callable[..., FinetuneResult], cached: Callable[..., runs.Run]
) -> None:
    """The run says which head it started from, and how good that was."""
    base = cached("logreg")
    told: list[str] = []
    (run,) = tune(init_head=base.run_id, validation=0.3, message=told.append).runs
    assert run.record["init_head"] == base.run_id
    assert run.record["head"] == "finetune-from-logreg"
    last = run.record["trainings"][-1]
    assert last["best_loss"] <= last["start"]["log_loss"]


REFUSED = [
    ({"head": "svm"}, {}, HeadError, "svm"),
    ({"transform": "sqrt"}, {}, HeadError, "sqrt"),
    ({"pca": 2}, {}, HeadError, "pca 2"),
    ({"seed": 1}, {}, HeadError, "seed1"),
    ({}, {"preprocess": "caffe"}, ContractError, "preprocess"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("trained", "asked", "error", "names"), REFUSED)
def test_heads_that_do_not_fit(
    trained: dict[str, Any],
    asked: dict[str, Any],
    error: type[FeatcacheError],
    names: str,
    tune: Callable[..., FinetuneResult],
    cached: Callable[..., runs.Run],
) -> None:
    """A head of another kind, split or contract is refused by name."""
    run = cached(**{"head": "logreg"} | trained)
    with pytest.raises(error, match=names):
        tune(init_head=run.run_id, **asked)


@pytest.mark.slow
def test_a_head_for_other_classes(
    tune: Callable[..., FinetuneResult],
    cached: Callable[..., runs.Run],
    dataset: Manifest,
) -> None:
    """A head that knows another list of classes is refused."""
    run = cached("logreg")
    with pytest.raises(HeadError, match="Viral Pneumonia"):
        tune(init_head=run.run_id, exclude=["label=Viral Pneumonia"])
    with pytest.raises(DatasetError, match="two classes"):
        tune(exclude=["label=Viral Pneumonia", "label=COVID"])


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
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')}"):
        tune(**given)


def test_before_any_work(
    tune: Callable[..., FinetuneResult], dataset: Manifest, tmp_path: Path
) -> None:
    """No test part, and a reports folder that is a file, are told at once."""
    with pytest.raises(SplitError, match="test part"):
        tune(fold="test", test_size=0.0)
    (tmp_path / "reports").mkdir(exist_ok=True)
    (tmp_path / "reports" / "other").write_text("")
    with pytest.raises(OSError, match="other"):
        tune(replace(dataset, folder=dataset.folder.with_name("other")))


@pytest.mark.slow
def test_an_image_that_is_gone(
    tune: Callable[..., FinetuneResult], dataset: Manifest
) -> None:
    """Training stops with its path; it is no crash of TensorFlow's."""
    lost = dataset.ok["path"].iloc[0]
    (dataset.root / lost).unlink()
    with pytest.raises(UnreadableImageError) as caught:
        tune(fold="test", validation=0.0, split="all", test_size=0.2)
    assert str(lost) in str(caught.value)


@pytest.mark.slow
def test_too_large_a_batch(dataset: Manifest) -> None:
    """What TensorFlow says of memory becomes what the user can do."""
    from featcache._tf import tensorflow

    error = tensorflow().errors.ResourceExhaustedError(None, None, "OOM")
    with pytest.raises(UsageError, match="--batch-size"), images(
        dataset, batch_size=512
    ).in_use():  # fmt: skip
        raise error


@pytest.mark.slow
def test_a_loss_that_is_not_finite(
    tune: Callable[..., FinetuneResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the first epoch it is an error with advice; later the best so far is kept."""
    with pytest.raises(HeadError, match="--learning-rate"):
        tune(fold="test", learning_rate=1e30, clip=0.0)
    plain = Data.weights
    calls = iter([1.0, np.nan])
    monkeypatch.setattr(training, "on_cpu", lambda: False)
    monkeypatch.setattr(
        Data, "weights", lambda data, asked: plain(data, asked) * next(calls)
    )
    told: list[str] = []
    (run,) = tune(fold="test", message=told.append).runs
    (about,) = run.record["trainings"]
    assert (about["stopped"], about["epochs"]) == (training.NOT_FINITE, 1)
    assert np.isfinite(run.table.filter(regex="^p_").to_numpy()).all()
    assert any("--learning-rate" in line for line in told)


@pytest.mark.slow
def test_a_time_limit(
    tune: Callable[..., FinetuneResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends with what it has; with more time the same work goes on from there."""
    plain, clock = training._fit, iter([0.0, float("inf")])
    real = time.monotonic

    def fit(net: Any, data: Any, asked: Any, done: int, watch: Any) -> Any:
        return plain(net, data, asked, done, replace(watch, deadline=deadline()))

    def deadline() -> float:
        return real() + 1e6 if next(clock) == 0 else 0.0

    monkeypatch.setattr(training, "_fit", fit)
    (short,) = tune(fold="test", epochs=3, max_minutes=1.0).runs
    assert short.record["trainings"][0]["stopped"] == training.TIME
    monkeypatch.undo()
    told: list[str] = []
    (whole,) = tune(fold="test", epochs=3, max_minutes=9.0, message=told.append).runs
    assert whole.run_id != short.run_id
    assert any("goes on behind epoch 1" in line for line in told)
    assert whole.record["trainings"][0]["epochs"] == 3


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
    path.write_bytes(path.read_bytes()[:-40])
    found, told = Checkpoint(path, "these").load()
    assert found is None
    assert "damaged" in told
    assert Checkpoint(tmp_path / "none.npz", "these").load() == (None, "")


TOLERANCE = 1e-5  # of probabilities, after a resume on one machine
OPTIONS = {
    "head": "mlp-dropout", "ema": 0.5, "epochs": 3, "fold": "test", "validation": 0.2,
    "patience": 3, "gradual": 1,
}  # fmt: skip


def killed(code: str) -> int:
    """Runs a Python text in a process of its own; returns how that ended."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True).returncode


@pytest.mark.slow
@pytest.mark.parametrize("how", ["kill -9", "Ctrl-C"])
def test_a_killed_training_goes_on(
    how: str,
    tune: Callable[..., FinetuneResult],
    dataset: Manifest,
    toy_network: Path,
    tmp_path: Path,
) -> None:
    """Stopped in mid-epoch, it ends with the predictions of an undisturbed one."""
    (whole,) = tune(**OPTIONS, force=True).runs
    elsewhere = tmp_path / "again"
    if how == "kill -9":
        code = f"""
import os, signal
from pathlib import Path
from featcache import backbones, manifest
from featcache.finetune import finetune
def progress(name, done, total):
    if done == total // 3 + 2:  # the second step of the second epoch
        os.kill(os.getpid(), signal.SIGKILL)
finetune(manifest.load(Path({str(dataset.folder)!r})),
         [backbones.resolve({str(toy_network)!r})], reports=Path({str(elsewhere)!r}),
         progress=progress, **{QUICK | OPTIONS!r})
"""
        assert killed(code) == -signal.SIGKILL
    else:

        def progress(name: str, done: int, total: int) -> None:
            if done == total // 3 + 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            tune(**OPTIONS, reports=elsewhere, progress=progress)
    told: list[str] = []
    network = backbones.resolve(str(toy_network))
    (resumed,) = finetune(
        dataset, [network], reports=elsewhere, message=told.append, **QUICK | OPTIONS
    ).runs
    assert any("goes on behind epoch 1" in line for line in told)
    assert resumed.run_id == whole.run_id
    got, wanted = (r.table.filter(regex="^p_").to_numpy() for r in (resumed, whole))
    np.testing.assert_allclose(got, wanted, atol=TOLERANCE)
    assert not any((elsewhere / dataset.dataset / "checkpoints").glob("*/*"))


@pytest.mark.slow
def test_the_command(
    run: Callable[..., tuple[int, str, str]], dataset: Manifest, toy_network: Path
) -> None:
    """It prints the accuracy, and with --json the record; errors are one line."""
    words = ["finetune", "-b", toy_network, "--epochs", 1, "--batch-size", 8]
    code, out, err = run(*words, "--fold", "test")
    assert code == 0, err
    assert "test accuracy" in out
    assert "epoch 1 of 1" in err
    code, out, _ = run(*words, "--fold", "test", "--json")
    assert (code, json.loads(out)[0]["backbone"]) == (0, "toynet")
    code, _, err = run(*words, "--init-head", "nothing")
    assert (code, err.count("\n")) == (1, 1)


def test_outcomes_of_a_test_part_alone() -> None:
    """Where nothing is out-of-fold there is no score of it."""
    p, y = np.eye(2)[[0, 1, 1, 0]], np.array([0, 1, 0, 0])
    found = outcome.scores(p, y=y, groups=np.arange(4), places=np.full(4, splits.TEST))
    assert found.keys() == {"test"}
    assert found["test"]["accuracy"] == 0.75


def test_excluded_images_are_not_trained_on(dataset: Manifest) -> None:
    """Rows are those of the usable images alone."""
    fewer = narrow(dataset, exclude=["label=COVID"])
    assert images(fewer, batch_size=4).pixels(0, 0).shape == (32, 32, 3)
    assert "COVID" not in fewer.ok["label"].to_numpy()


@pytest.mark.slow
def test_a_test_part_alone_is_ranked_by_it(
    tune: Callable[..., FinetuneResult], cached: Callable[..., runs.Run]
) -> None:
    """Such a run is in the table on the test part, and told of in the other."""
    base, (run,) = cached("logreg"), tune(fold="test").runs
    folder = run.folder.parents[1]
    board = compare(folder, part="test")
    assert {row["run_id"] for row in board.rows} == {base.run_id, run.run_id}
    for row in board.rows:
        assert row["accuracy"] == row["test_accuracy"]
    board = compare(folder)
    assert [row["run_id"] for row in board.rows] == [base.run_id]
    assert "--on test" in board.left_out[0]
    assert confusion(run).train is None


STUDY = """
[dataset]
source = "chest"
group_by = '(p\\d{3})_'

[[extract]]
backbones = ["${NET}"]
engine = "tensorflow"

[evaluation]
folds = 2
tta = false
calibrate = false

[[train]]
name = "heads"
heads = ["logreg"]

[[finetune]]
name = "whole"
backbones = ["${NET}"]
init_head = "heads/logreg"
fold = "test"
epochs = 1
batch_size = 8
flip = false
"""


@pytest.fixture
def study_file(
    image_folder: Path, toy_network: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A study with a head and a network that starts from it."""
    monkeypatch.setenv("NET", str(toy_network))
    path = image_folder.parent / "toy.toml"
    path.write_text(STUDY)
    return path


def test_a_study_says_how(study_file: Path) -> None:
    """Its keys are arguments; what [evaluation] says of the split holds here too."""
    (asked,) = study.read(study_file).finetunes
    assert asked.init_head == ("heads", "logreg")
    assert asked.policy == Policy(flip=False)
    wanted = {"fold": "test", "epochs": 1, "batch_size": 8, "folds": 2, "seed": 0}
    assert asked.settings == wanted | {"calibrate": False}
    assert "finetune" in [step["step"] for step in study.steps(study.read(study_file))]


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('init_head = "heads/logreg"', 'init_head = "nobody"'),
        ("epochs = 1", "epochs = 0"),
        ('fold = "test"', 'fold = "3"'),
        ("batch_size = 8", 'optimizer = "lion"'),
        ("flip = false", "zoom = [0.5, 1]"),
    ],
)
def test_errors_of_a_study_name_the_key(
    line: str, named: str, study_file: Path
) -> None:
    """A value that cannot work is refused with its line."""
    study_file.write_text(STUDY.replace(line, named))
    key = named.split(" ")[0]
    number = STUDY.replace(line, named).split("\n").index(named) + 1
    with pytest.raises(UsageError, match=f"line {number}, {key} of"):
        study.read(study_file)


@pytest.mark.slow
def test_a_study_fine_tunes(study_file: Path, tmp_path: Path) -> None:
    """It starts from the head of its own [[train]], and is ranked on the test part."""
    reports = tmp_path / "reports"
    done = study.run(study.read(study_file), tmp_path / "cache", reports=reports)
    assert done.failures == []
    (head,), (whole,) = done.runs["heads"], done.runs["whole"]
    assert whole.record["init_head"] == head.run_id
    assert whole.run_id in done.trained
    board = compare(reports / "chest", part="test")
    assert {row["run_id"] for row in board.rows} == {head.run_id, whole.run_id}
