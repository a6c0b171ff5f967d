"""A fine-tuned run: judged, told, ranked and saved as any other; and the command."""

import importlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from toy_training import OPTIONS, Undisturbed, images
from toys import naming_modules

from featcache import backbones
from featcache.commands.compare import compare, confusion
from featcache.commands.ensemble import ensemble
from featcache.commands.finetune import FinetuneResult
from featcache.commands.finetune.settings import FinetuneSettings
from featcache.core.tf import tensorflow
from featcache.dataset import splits
from featcache.dataset.manifest import Manifest
from featcache.dataset.views import Policy
from featcache.evaluation import runs
from featcache.evaluation.record import FINETUNED


@pytest.mark.slow
def test_a_run_as_any_other(
    whole: Undisturbed,
    tune: Callable[..., FinetuneResult],
    cached: Callable[..., runs.Run],
) -> None:
    """It is judged on the split of the heads, ranked and averaged with them."""
    base, other = cached("logreg"), whole.run
    run = runs.load(shutil.copytree(other.folder, base.folder.parent / other.run_id))
    assert naming_modules(run.folder) == []
    assert run.record.head_is.head == FINETUNED
    assert run.record.evaluation_id == base.record.evaluation_id
    assert run.record.status == "ok"
    assert Path(str(run.record.network_file)).is_file()
    assert [one.fold for one in run.record.trainings] == [0, 1, -1]
    head = 12 * 500 + 500 + 500 * 200 + 200 + 200 * 3 + 3
    assert run.record.trainable_parameters == 608 + 876 + head
    assert run.record.scores.keys() == {"train", "test"}
    page = Path(__file__).parents[2] / "docs/reference/file-format.md"
    named = set(re.findall(r"`([\w.]+)`", page.read_text(encoding="utf-8")))
    record = run.record.to_json()
    assert {*record, *record["trainings"][0]} <= named
    (voted,) = ensemble(
        base.folder.parents[1], [run.run_id, base.run_id], calibrate=False
    ).runs
    p = {
        one.run_id: one.table.set_index("image_id").filter(regex="^p_")
        for one in (base, run)
    }
    names, weights = voted.record.members, voted.record.member_weights
    mean = sum(w * p[name] for w, name in zip(weights["test"], names, strict=True))
    test = voted.table[voted.table["fold"] == splits.TEST].set_index("image_id")
    np.testing.assert_allclose(mean.loc[test.index], test[mean.columns], atol=1e-5)
    board = compare(run.folder.parents[1])
    assert {row.head for row in board.rows} == {"finetune", "logreg", "ensemble"}
    assert board.excluded == []
    (row,) = [row for row in board.rows if row.head == "finetune"]
    assert row.trainable_parameters == run.record.trainable_parameters
    assert row.options.startswith("head mlp-dropout, gradual 1, epochs 3")
    assert tune(**OPTIONS).new_run_ids == []


@pytest.mark.slow
def test_what_is_told_meanwhile(whole: Undisturbed) -> None:
    """An estimate once; then loss, accuracy and the time left of this and of all."""
    assert sum("s per step of 4 images" in line for line in whole.told) == 1
    assert "networks to train: 3, up to 3 epochs each" in whole.told[0]
    epochs = [line for line in whole.told if "epoch 1 of 3" in line]
    assert [line.split(":")[0] for line in epochs] == [
        "toynet, fold 0", "toynet, fold 1", "toynet, test",
    ]  # fmt: skip
    told = r"loss \d\.\d+, accuracy \d\.\d+, held out .*; at most \d+ s left"
    assert all(re.search(told, line) for line in epochs)
    assert ["for all networks" in line for line in epochs] == [True, True, False]


@pytest.mark.slow
def test_progress_is_of_all_networks(whole: Undisturbed) -> None:
    """Steps only go up, and the last step of the last network ends it."""
    names, done, totals = zip(*whole.ticks, strict=True)
    assert set(names) == {"toynet"}
    assert list(done) == sorted({*done})
    assert all(one <= total for one, total in zip(done, totals, strict=True))
    if whole.run.record.trainings[-1].epochs == 3:
        assert done[-1] == totals[-1]


@pytest.mark.slow
def test_the_saved_network_takes_pixels(whole: Undisturbed, dataset: Manifest) -> None:
    """model.keras gives the published probabilities: the mean over views 0 and 1."""
    tensorflow()  # first, so that Keras does not start it with all threads
    import keras

    model = keras.models.load_model(whole.run.folder / "model.keras")
    table = whole.run.table.set_index("image_id")
    table = table[table["fold"] == splits.TEST]
    ids = dataset.ok["image_id"]
    rows = np.flatnonzero(ids.isin(table.index))
    source = images(dataset, batch_size=8)
    best = whole.run.record.trainings[-1].best_epoch
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
    assert "float16" in half.record.machine
    p, q = (run.table.filter(regex="^p_").to_numpy() for run in (full, half))
    np.testing.assert_allclose(p, q, atol=5e-3)


def test_what_is_not_as_usual_is_said_in_words() -> None:
    """Defaults go without saying, and so does the rate that an optimizer has."""
    assert FinetuneSettings().differing() == []
    assert FinetuneSettings(seed=3, policy=Policy(seed=3)).differing() == []
    assert FinetuneSettings(optimizer="sgd").differing() == ["optimizer sgd"]
    asked = FinetuneSettings(
        unfreeze="last-2-blocks", learning_rate=1e-4, ema=0.98,
        policy=Policy(flip=False, zoom=(1, 1.5)),
    )  # fmt: skip
    assert asked.differing() == [
        "unfreeze last-2-blocks", "learning rate 0.0001", "ema 0.98", "flip off",
        "zoom 1-1.5",
    ]  # fmt: skip


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
    found = runs.scores(p, y=y, groups=np.arange(4), folds=np.full(4, splits.TEST))
    assert found.keys() == {"test"}
    assert found["test"]["accuracy"] == 0.75


@pytest.mark.slow
def test_a_test_part_alone_is_ranked_by_it(
    tune: Callable[..., FinetuneResult], cached: Callable[..., runs.Run]
) -> None:
    """Such a run is in the table on the test part, and behind the other one."""
    base, (run,) = cached("logreg"), tune(fold="test").runs
    folder = run.folder.parents[1]
    board = compare(folder, part="test")
    assert {row.run_id for row in board.rows} == {base.run_id, run.run_id}
    for row in board.rows:
        assert row.accuracy == row.test_accuracy
    board = compare(folder)
    assert [row.run_id for row in board.rows] == [base.run_id]
    assert board.excluded == []
    (row,) = board.test_only
    assert (row.run_id, row.is_test_only, row.rank) == (run.run_id, True, 2)
    assert row.test_accuracy == run.record.scores["test"]["accuracy"]
    assert np.isnan(row.accuracy)
    assert confusion(run).train is None


def test_another_revision_is_another_run(
    dataset: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A raised revision changes the id of the run, its recipe and its checkpoints."""
    plan = importlib.import_module(
        "featcache.commands.finetune.plan"
    )  # not the function
    places = {image_id: n % 3 - 1 for n, image_id in enumerate(dataset.ok["image_id"])}

    def ids() -> set[str]:
        job = plan.RunPlan(
            reports=Path("reports"), dataset=dataset,
            network=backbones.resolve("densenet121", "random"),
            settings=FinetuneSettings(),
            source_run=None, statistics=None,
            split=splits.Split("s", 2, 0.2, 0, places),
            only_test=False, calibrate=False, minutes=None,
        )  # fmt: skip
        return {job.folder.name, job.checkpoint_key, job.record().recipe_id}

    before = ids()
    assert ids() == before
    monkeypatch.setattr(plan, "REVISION", plan.REVISION + 1)
    assert not before & ids()
