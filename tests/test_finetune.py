"""Fine-tuning: the cache's views, the heads' folds, and no epoch lost."""

import inspect
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from toys import picture

from featcache import backbones, heads, outcome, runs, splits, study, views
from featcache._io import write_json
from featcache.compare import compare, confusion
from featcache.ensemble import ensemble
from featcache.errors import (
    ContractError,
    DatasetError,
    FeatcacheError,
    HeadError,
    SplitError,
    UnknownNameError,
    UnreadableImageError,
    UsageError,
    WeightsError,
)
from featcache.extract import extract
from featcache.finetune import FinetuneResult, finetune, timing, training
from featcache.finetune.checkpoint import Checkpoint, State, others
from featcache.finetune.inputs import Data, Images, order
from featcache.finetune.network import values
from featcache.finetune.settings import Settings
from featcache.finetune.start import folded, origin
from featcache.manifest import Manifest, narrow
from featcache.regions import Region
from featcache.scan import scan
from featcache.study import running
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


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """36 images in three classes, grouped by patient, for all tests together."""
    home = tmp_path_factory.mktemp("finetune")
    for label, name in enumerate(("COVID", "NORMAL", "Viral Pneumonia")):
        (home / "chest" / name).mkdir(parents=True)
        for i in range(12):
            image = picture(100 * label + i, 60 + 60 * label)
            image.save(home / "chest" / name / f"p{label}{i // 2:02d}_{i}.png")
    return scan(home / "chest", home / "cache", group_by=r"(p\d{3})_").manifest


@pytest.fixture(scope="module")
def fitted(
    dataset: Manifest, toy_network: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., runs.Run]:
    """Trains a head on the toy network's features, each once."""
    extract(
        dataset, [backbones.resolve(str(toy_network))], views=1, taps="conv2d",
        tap_pooling="avg+max", engine="tensorflow",
    )  # fmt: skip
    reports = tmp_path_factory.mktemp("heads")

    def call(head: str, **options: Any) -> runs.Run:
        given = {"folds": 2, "jobs": 1, "views": 0, "calibrate": False} | options
        given = {"tune": False} | given if head == "logreg" else given
        return train_head(dataset, reports, heads=[head], **given).runs[0]

    return call


@pytest.fixture
def cached(
    dataset: Manifest, fitted: Callable[..., runs.Run], tmp_path: Path
) -> Callable[..., runs.Run]:
    """Puts a trained head among the runs of a test, on the split of ``tune``."""

    def call(head: str, **options: Any) -> runs.Run:
        run = fitted(head, **options)
        folder = tmp_path / "reports" / dataset.dataset / "runs" / run.run_id
        shutil.copytree(run.folder, folder, dirs_exist_ok=True)
        return runs.load(folder)

    return call


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


OPTIONS = {
    "head": "mlp-dropout", "ema": 0.5, "epochs": 3, "validation": 0.5, "patience": 3,
    "batch_size": 4, "gradual": 1, "calibrate": False,
}  # fmt: skip


@dataclass(frozen=True)
class Undisturbed:
    """A run on two folds and the test part, and what was told meanwhile."""

    run: runs.Run
    told: list[str]
    ticks: list[tuple[str, int, int]]


@pytest.fixture(scope="module")
def whole(
    dataset: Manifest, toy_network: Path, tmp_path_factory: pytest.TempPathFactory
) -> Undisturbed:
    told: list[str] = []
    ticks: list[tuple[str, int, int]] = []
    network = backbones.resolve(str(toy_network))
    made = finetune(
        dataset,
        [network],
        reports=tmp_path_factory.mktemp("whole"),
        progress=lambda *tick: ticks.append(tick),
        message=told.append,
        **QUICK | OPTIONS,
    )
    return Undisturbed(made.runs[0], told, ticks)


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
@pytest.mark.parametrize("precision", ["off", "on"])
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
    whole: Undisturbed,
    tune: Callable[..., FinetuneResult],
    cached: Callable[..., runs.Run],
) -> None:
    """It is judged on the split of the heads, ranked and averaged with them."""
    base, other = cached("logreg"), whole.run
    run = runs.load(shutil.copytree(other.folder, base.folder.parent / other.run_id))
    assert run.record["evaluation_id"] == base.record["evaluation_id"]
    assert run.record["status"] == "ok"
    assert [one["fold"] for one in run.record["trainings"]] == [0, 1, -1]
    head = 12 * 500 + 500 + 500 * 200 + 200 + 200 * 3 + 3
    assert run.record["trainable_parameters"] == 608 + 876 + head
    assert run.record["scores"].keys() == {"train", "test"}
    page = Path(__file__).parents[1] / "docs/file-format.md"
    named = set(re.findall(r"`([\w.]+)`", page.read_text(encoding="utf-8")))
    assert {*run.record, *run.record["trainings"][0]} <= named
    (voted,) = ensemble(
        base.folder.parents[1], [run.run_id, base.run_id], calibrate=False
    ).runs
    p = {
        one.run_id: one.table.set_index("image_id").filter(regex="^p_")
        for one in (base, run)
    }
    names, weights = voted.record["members"], voted.record["member_weights"]
    mean = sum(w * p[name] for w, name in zip(weights["test"], names, strict=True))
    test = voted.table[voted.table["fold"] == splits.TEST].set_index("image_id")
    np.testing.assert_allclose(mean.loc[test.index], test[mean.columns], atol=1e-5)
    board = compare(run.folder.parents[1])
    assert {row["head"] for row in board.rows} == {"finetune", "logreg", "ensemble"}
    assert board.left_out == []
    (row,) = [row for row in board.rows if row["head"] == "finetune"]
    assert row["trainable_parameters"] == run.record["trainable_parameters"]
    assert row["options"].startswith("head mlp-dropout, gradual 1, epochs 3")
    assert tune(**OPTIONS).trained == []


@pytest.mark.slow
def test_what_is_told_meanwhile(whole: Undisturbed) -> None:
    """An estimate once; then loss, accuracy and the time left of this and of all."""
    assert sum("s a step of 4 images" in line for line in whole.told) == 1
    assert "networks: 3, epochs of all: up to 9" in whole.told[0]
    epochs = [line for line in whole.told if "epoch 1 of 3" in line]
    assert [line.split(":")[0] for line in epochs] == [
        "toynet, fold 0", "toynet, fold 1", "toynet, test",
    ]  # fmt: skip
    told = r"loss \d\.\d+, accuracy \d\.\d+, held out .*; at most \d+ s left"
    assert all(re.search(told, line) for line in epochs)
    assert ["until all are done" in line for line in epochs] == [True, True, False]


@pytest.mark.slow
def test_progress_is_of_all_networks(whole: Undisturbed) -> None:
    """Steps only go up, and the last step of the last network ends it."""
    names, done, totals = zip(*whole.ticks, strict=True)
    assert set(names) == {"toynet"}
    assert list(done) == sorted({*done})
    assert all(one <= total for one, total in zip(done, totals, strict=True))
    if whole.run.record["trainings"][-1]["epochs"] == 3:
        assert done[-1] == totals[-1]


@pytest.mark.slow
def test_the_saved_network_takes_pixels(whole: Undisturbed, dataset: Manifest) -> None:
    """model.keras gives the published probabilities: the mean over views 0 and 1."""
    import keras

    model = keras.models.load_model(whole.run.folder / "model.keras")
    table = whole.run.table.set_index("image_id")
    table = table[table["fold"] == splits.TEST]
    ids = dataset.ok["image_id"]
    rows = np.flatnonzero(ids.isin(table.index))
    source = images(dataset, batch_size=8)
    best = whole.run.record["trainings"][-1]["best_epoch"]
    p = [
        model.predict(source.batches(rows, view), verbose=0)
        for view in range(2 if best else 1)
    ]
    wanted = table.loc[ids.iloc[rows]].filter(regex="^p_").to_numpy()
    np.testing.assert_allclose(np.mean(p, axis=0), wanted, atol=1e-6)


@pytest.mark.slow
def test_half_precision(tune: Callable[..., FinetuneResult]) -> None:
    """In float16, with a scaled loss, it ends near where float32 does."""
    full, half = (
        tune(fold="test", mixed_precision=how, ema=0.5, epochs=1, tta=0).runs[0]
        for how in ("off", "on")
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
    (run,) = tune(init_head=base.run_id, validation=0.3, fold="test", epochs=1).runs
    assert run.record["init_head"] == base.run_id
    assert run.record["options"][0] == f"from {base.run_id}"
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


def test_a_head_on_a_part_of_the_picture(dataset: Manifest, toy_network: Path) -> None:
    """Networks are trained on whole pictures; heads on a region do not fit."""
    with pytest.raises(UsageError, match="--region ring"):
        settings(policy=Policy(region=Region("ring")))
    record = {
        "status": "ok", "head": "logreg", "head_is": {},
        "features": [{"store": "a", "region": "ring"}],
    }  # fmt: skip
    network = backbones.resolve(str(toy_network))
    with pytest.raises(HeadError, match="region ring"):
        origin(runs.Run(Path("r"), record), dataset, network, evaluation_id="e")


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


@pytest.mark.slow
def test_unreadable_images_are_left_out(image_folder: Path, tmp_path: Path) -> None:
    """What the scan could not read is no row of what is trained on."""
    bad = image_folder / "COVID" / "broken.png"
    bad.write_bytes(b"no picture")
    found = scan(image_folder, tmp_path / "other").manifest
    source = images(found, batch_size=8)
    assert (found.table["status"] == "unreadable").sum() == 1
    assert len(found.ok) == 36
    for row in range(36):
        assert source.pixels(row, 0).shape == (32, 32, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ResourceExhaustedError", "OOM when allocating tensor"),
        ("InternalError", "CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
    ],
)
def test_too_large_a_batch(
    name: str,
    text: str,
    tune: Callable[..., FinetuneResult],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What TensorFlow says of memory becomes what the user can lower."""
    from featcache._tf import tensorflow

    error = getattr(tensorflow().errors, name)(None, None, text)

    def exhausted(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr(timing, "pace", exhausted)
    with pytest.raises(UsageError, match=r"--batch-size \(now 8\) or --input-size"):
        tune(fold="test")


@pytest.mark.slow
def test_a_loss_that_is_not_finite(
    tune: Callable[..., FinetuneResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the first epoch it is an error with advice; later the best so far is kept."""
    with pytest.raises(HeadError, match="--learning-rate"):
        tune(fold="test", learning_rate=1e30, clip=0.0)
    plain = Data.weights
    calls = iter([1.0, np.nan])
    monkeypatch.setattr(timing, "on_cpu", lambda: False)
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
    """It ends with what it has, and says so; with more time it goes on from there."""
    told: list[str] = []
    plain, clock = training._fit, iter([0.0, float("inf")])
    real = time.monotonic

    def fit(net: Any, data: Any, asked: Any, done: int, watch: Any) -> Any:
        return plain(net, data, asked, done, replace(watch, deadline=deadline()))

    def deadline() -> float:
        return real() + 1e6 if next(clock) == 0 else 0.0

    monkeypatch.setattr(training, "_fit", fit)
    again = {"fold": "test", "epochs": 3, "message": told.append}
    (short,) = tune(**again, max_minutes=1.0).runs
    assert short.record["trainings"][0]["stopped"] == training.TIME
    assert "cut short 1 of 1 networks" in told[-1]
    assert "--max-minutes" in told[-1]
    assert tune(**again, max_minutes=1.0).trained == []
    monkeypatch.undo()
    told.clear()
    tune(**again | {"epochs": 1})
    assert "under other settings (epochs 3, not 1)" in told[0]
    (whole,) = tune(**again, max_minutes=9.0).runs
    assert whole.run_id != short.run_id
    assert any("goes on behind epoch 1" in line for line in told)
    assert whole.record["trainings"][0]["epochs"] == 3
    assert tune(**again).trained == []


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
    assert f"{tmp_path / 'a'} has a training of toynet" in told
    assert "(keras 3.1, not 3.2, ema 0.5, not 0.0)" in told
    assert "delete the folder" in told


def test_what_is_not_as_usual_is_said_in_words() -> None:
    """Defaults go without saying, and so does the rate that an optimizer has."""
    usual = settings()
    assert settings().differing(usual) == []
    assert settings(seed=3, policy=Policy(seed=3)).differing(usual) == []
    assert settings(optimizer="sgd").differing(usual) == ["optimizer sgd"]
    asked = settings(
        unfreeze="last-2-blocks", learning_rate=1e-4, ema=0.98,
        policy=Policy(flip=False, zoom=(1, 1.5)),
    )  # fmt: skip
    assert asked.differing(usual) == [
        "unfreeze last-2-blocks", "learning rate 0.0001", "ema 0.98", "flip off",
        "zoom 1-1.5",
    ]  # fmt: skip


TOLERANCE = 1e-5  # of probabilities, after a resume on one machine


def stopped(words: list[Any], step: int, by: signal.Signals) -> tuple[int, str]:
    """Trains in a process of its own, which a signal meets at a step of the progress.

    Returns:
        How it ended, and what it told.
    """
    code = f"""
import os, signal
from contextlib import nullcontext
from featcache import cli
from featcache.cli import finetune
# Where the tests run in the background, Ctrl-C is ignored from birth.
signal.signal(signal.SIGINT, signal.default_int_handler)
def progress(name, done, total):
    if done == {step}:
        os.kill(os.getpid(), {int(by)})
finetune.bars = lambda: nullcontext(progress)
cli.main({[str(word) for word in words]!r})
"""
    command = [sys.executable, "-X", "faulthandler", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True)
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
    assert "toynet, fold 0: trained already" in told
    assert "fold 0: epoch" not in told
    assert "toynet, fold 1: goes on behind epoch 1" in told
    assert told.splitlines()[-1].endswith("run the same command to go on.")
    monkeypatch.chdir(tmp_path)
    status, out, told = run(*words)
    assert status == 0
    assert "toynet, test: goes on behind epoch 1" in told
    assert whole.run.run_id in out
    resumed = runs.load(reports / dataset.dataset / "runs" / whole.run.run_id)
    p, wanted = (r.table.filter(regex="^p_").to_numpy() for r in (resumed, whole.run))
    np.testing.assert_allclose(p, wanted, atol=TOLERANCE)
    assert not any((reports / dataset.dataset / "checkpoints").iterdir())


@pytest.mark.slow
def test_the_command(
    run: Callable[..., tuple[int, str, str]], dataset: Manifest, toy_network: Path
) -> None:
    """It prints the accuracy, and with --json the record; errors are one line."""
    cache = dataset.folder.parent
    words = ["finetune", "-b", toy_network, "--epochs", 1, "--batch-size", 8]
    words += ["--cache", cache]
    code, out, err = run(*words, "--fold", "test")
    assert code == 0, err
    assert "test accuracy" in out
    assert "epoch 1 of 1" in err
    code, out, _ = run(*words, "--fold", "test", "--json")
    assert (code, json.loads(out)[0]["backbone"]) == (0, "toynet")
    code, _, err = run(*words, "--init-head", "nothing")
    assert (code, err.count("\n")) == (1, 1)
    Path("other").mkdir()  # where the fixture has gone
    Path("other/chest").write_text("in the way of a folder")
    code, _, err = run(*words, "--reports", "other")
    assert (code, err.count("\n")) == (1, 1)
    assert "other/chest" in err


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
tune = false
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

[[ensemble]]
name = "mean"
members = ["heads/logreg", "whole/finetune-from-logreg"]
weights = "equal"
calibrate = false
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
        ('init_head = "heads/logreg"', 'init_head = "heads/svm"'),
        (
            'members = ["heads/logreg", "whole/finetune-from-logreg"]',
            'members = ["heads/logreg", "whole/finetune"]',
        ),
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
    """It starts from the head of its own [[train]], is ranked and averaged with it."""
    reports = tmp_path / "reports"
    study_file.write_text(STUDY + '[report]\nagainst = "whole"\n')
    asked = study.read(study_file)
    assert asked.against == ("whole", None)
    asked = study.read(study_file)
    asked = replace(asked, against=None)  # what is out-of-fold has no such run
    done = study.run(asked, tmp_path / "cache", reports=reports, jobs=1)
    assert done.failures == []
    (head,), (whole,) = done.runs["heads"], done.runs["whole"]
    (mean,) = done.runs["mean"]
    assert whole.record["init_head"] == head.run_id
    assert {whole.run_id, mean.run_id} < {*done.trained}
    assert {*mean.record["members"]} == {head.run_id, whole.run_id}
    board = compare(reports / "chest", part="test")
    ids = {row["run_id"] for row in board.rows}
    assert ids == {head.run_id, whole.run_id, mean.run_id}


LACKING = """
[[finetune]]
name = "never"
backbones = ["vgg19", "resnet50"]
fold = "test"

[[ensemble]]
name = "lost"
members = ["heads", "never"]
"""


@pytest.mark.slow
def test_weights_that_cannot_be_had_stop_nothing_else(
    study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is told with its reason, known before or not; so is what needs its run."""

    def none(row: Any) -> Path:
        if row.factory == "ResNet50" and not late:
            return Path("resnet50.h5")  # and gone when it is wanted
        raise WeightsError(f"weights of {row.factory}", "no connection", "Get them.")

    late: list[str] = []
    monkeypatch.setattr(running, "fetch_weights", none)
    monkeypatch.setattr(
        backbones, "fetch_weights", lambda row: late.append(row.factory) or none(row)
    )
    heads_alone = STUDY.split("[[finetune]]")[0]
    study_file.write_text(heads_alone + LACKING)
    asked = study.read(study_file)
    done = study.run(asked, tmp_path / "cache", reports=tmp_path / "r", jobs=1)
    assert late == ["ResNet50"]
    assert [text.split(".")[0] for text in done.failures] == [
        "vgg19: expected weights of VGG19; got no connection",
        "never: there are no weights of vgg19",
        "never, resnet50: expected weights of ResNet50; got no connection",
        "lost: there are no runs of never",
    ]
    assert [run.record["head"] for run in done.runs["heads"]] == ["logreg"]
    assert done.boards[0].rows
