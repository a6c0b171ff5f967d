"""The start from a cached head: the same predictions, and heads that do not fit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from records import make_record
from toy_training import images
from toys import slow_but

from featcache import backbones, heads
from featcache.commands.finetune import FinetuneResult
from featcache.commands.finetune.settings import FinetuneSettings
from featcache.commands.finetune.start import InitialHead, open_source_run, to_dense
from featcache.core import keras_file
from featcache.core.tf import tensorflow
from featcache.dataset import splits
from featcache.dataset.manifest import Manifest
from featcache.dataset.regions import Region
from featcache.dataset.views import Policy
from featcache.errors import (
    ContractError,
    DatasetError,
    FeatcacheError,
    HeadError,
    UsageError,
)
from featcache.evaluation import runs

CASES = [
    ("softmax", {}),
    ("mlp-dropout", {}),
    ("logreg", {}),
    ("logreg", {"taps": "all", "views": 1}),
]


@pytest.mark.parametrize(("head", "options"), slow_but(CASES, *CASES[:1], *CASES[2:]))
def test_it_starts_where_the_cached_head_is(
    head: str,
    options: dict[str, Any],
    cached: Callable[..., runs.Run],
    dataset: Manifest,
    toy_network: Path,
) -> None:
    """Before the first step it predicts what the head does on features of view 0."""
    from featcache.commands.finetune import network as networks

    run, network = cached(head, **options), backbones.resolve(str(toy_network))
    of = run.record.evaluation_id
    start = open_source_run(run, dataset, network, evaluation_id=of)
    places = run.table.set_index("image_id")["fold"].loc[dataset.ok["image_id"]]
    rows = np.flatnonzero(places != splits.TEST)
    net = networks.make(
        backbones.build(network),
        network,
        start.initial_head(rows, np.zeros(36), np.zeros(36)),
        FinetuneSettings(),
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


def test_a_network_with_poolings_is_kept_and_loaded(
    toy_network: Path, tmp_path: Path
) -> None:
    """Poolings of the last map and of a layer are layers that Keras loads safely."""
    tensorflow()  # first, so that Keras does not start it with all threads
    import keras

    from featcache.commands.finetune import network as networks

    network = backbones.resolve(str(toy_network))
    taps = ("features:gem", "features:grid3", "conv2d:grid2", "conv2d:max")
    net = networks.make(
        backbones.build(network),
        network,
        InitialHead(taps=taps),
        FinetuneSettings(),
        n_classes=3,
        steps=2,
    )
    path = tmp_path / "model.keras"
    net.model.save(path)
    keras_file.refuse_unsafe(path)
    loaded = keras.models.load_model(path, compile=False, safe_mode=True)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    np.testing.assert_allclose(loaded(pixels), net.model(pixels), atol=1e-6)


def test_a_fold_starts_from_a_head_that_never_saw_it(
    cached: Callable[..., runs.Run], dataset: Manifest, toy_network: Path
) -> None:
    """The head of a fold is fitted on its training rows, and not the saved one."""
    run, network = cached("logreg", tune=False), backbones.resolve(str(toy_network))
    of = run.record.evaluation_id
    start = open_source_run(run, dataset, network, evaluation_id=of)
    y = dataset.ok["label"].map(run.classes.index).to_numpy()
    groups = dataset.ok["group"].to_numpy()
    places = run.table.set_index("image_id")["fold"].loc[dataset.ok["image_id"]]
    rows = np.flatnonzero(places == 1)
    found = start.initial_head(rows, y, groups)
    by_hand = heads.make("logreg", tune=False)
    by_hand.fit(start.features[rows, 0], y[rows], groups[rows])
    wanted, saved = to_dense(by_hand), to_dense(start.head)
    np.testing.assert_allclose(found.weights[0], wanted.weights[0], rtol=1e-5)
    assert not np.allclose(found.weights[0], saved.weights[0], rtol=1e-2)


@pytest.mark.slow
def test_the_initial_head_is_fitted_by_one_thread(
    cached: Callable[..., runs.Run],
    dataset: Manifest,
    toy_network: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a process of its own where this one has more; the numbers are the same."""
    run, network = cached("logreg"), backbones.resolve(str(toy_network))
    of = run.record.evaluation_id
    source = open_source_run(run, dataset, network, evaluation_id=of)
    codes = dataset.ok["label"].astype("category").cat.codes.to_numpy()
    groups, rows = dataset.ok["group"].to_numpy(str), np.arange(24)
    here = source.initial_head(rows, codes, groups)
    monkeypatch.delenv("FEATCACHE_THREADS")
    there = source.initial_head(rows, codes, groups)
    assert len(here.weights) == len(there.weights) == 2
    for one, two in zip(here.weights, there.weights, strict=True):
        assert np.array_equal(one, two)


def test_two_classes_are_folded() -> None:
    """Logistic regression of two classes becomes two logits, the first of them 0."""
    rng = np.random.default_rng(0)
    X = rng.normal([1, 5, -2], [1, 10, 0.1], (40, 3)).astype("float32")
    y = (X[:, 0] + rng.normal(0, 0.5, 40) > 1).astype(int)
    head = heads.make("logreg", tune=False).fit(X, y)
    kernel, bias = to_dense(head).weights
    z = X @ kernel + bias
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(p, head.predict_proba(X), atol=1e-6)


def test_from_a_cached_head(
    tune: Callable[..., FinetuneResult], cached: Callable[..., runs.Run]
) -> None:
    """The run says which head it started from, and how good that was."""
    base = cached("logreg")
    (run,) = tune(init_head=base.run_id, validation=0.3, fold="test", epochs=1).runs
    assert run.record.init_head == base.run_id
    assert run.record.options[0] == f"from {base.run_id}"
    assert run.record.head == "finetune-from-logreg"
    last = run.record.trainings[-1]
    assert last.best_loss <= last.start["log_loss"]


REFUSED = [
    ({"head": "svm"}, {}, HeadError, "svm"),
    ({"transform": "sqrt"}, {}, HeadError, "sqrt"),
    ({"pca": 2}, {}, HeadError, "pca 2"),
    ({"seed": 1}, {}, HeadError, "seed1"),
    ({}, {"preprocess": "caffe"}, ContractError, "preprocess"),
]


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
    with pytest.raises(UsageError, match="`region='ring'`"):
        FinetuneSettings(policy=Policy(region=Region("ring")))
    record = make_record(features=[{"region": "ring"}])
    network = backbones.resolve(str(toy_network))
    with pytest.raises(HeadError, match="region ring"):
        open_source_run(
            runs.Run(Path("r"), record), dataset, network, evaluation_id="e"
        )


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
