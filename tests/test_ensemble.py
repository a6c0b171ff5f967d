"""Ensembles: a vote of runs in which no image has its own say."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from records import make_run, rewrite
from toys import CLASSES, header, make_dataset, train_flat, write_store

from featcache.commands.compare import compare
from featcache.commands.ensemble import EnsembleResult, ensemble, fit_weights
from featcache.commands.train_head import TrainResult
from featcache.errors import RunError, UsageError
from featcache.evaluation import calibration, identity, metrics, references, runs

N = 60
PLACES = np.arange(N) % 6 - 1  # -1 is the test part
Y = np.arange(N) // 6 % 3


def sharpened(y: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Predictions that are right for this share of the images, and sure of it."""
    rng = np.random.default_rng(seed)
    right = rng.random(len(y)) < share
    shown = np.where(right, y, (y + rng.integers(1, 3, len(y))) % 3)
    return 0.1 + 0.7 * np.eye(3)[shown]


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    return tmp_path / "reports" / "chest"


@pytest.fixture
def write(reports: Path) -> Callable[..., runs.Run]:
    """Writes a run of these predictions, as train-head would."""

    def call(
        name: str, p: np.ndarray, *, y: np.ndarray = Y, repeat: int = 0,
        only: np.ndarray | slice = slice(None), **also: Any,
    ) -> runs.Run:  # fmt: skip
        places = np.where(PLACES < 0, -1, (PLACES + repeat * (np.arange(N) // 6)) % 5)
        split = f"s-r{repeat}" if repeat else "s"
        record: dict[str, Any] = {
            "created": f"2026-01-0{1 + repeat}", "classes": list(CLASSES),
            "n_images": N, "n_groups": N,
            "split": {"name": split, "base": "s", "repeat": repeat},
            "recipe_id": name, "predict_seconds": 0.5,
        }  # fmt: skip
        ids = [str(i) for i in range(N)]
        meta = pd.DataFrame({"image_id": ids, "group": ids})
        meta["label"] = [CLASSES[i] for i in y]
        record["evaluation_id"] = identity.evaluation_id(meta, places)
        table = runs.predictions_table(meta[only], places[only], p[only], [*CLASSES])
        return make_run(reports, f"{name}-{split}", table, **record | also)

    return call


@pytest.fixture
def three(write) -> list[runs.Run]:
    """A good, a fair and a useless run."""
    return [
        write(name, sharpened(Y, share, seed))
        for seed, (name, share) in enumerate(
            [("good", 0.8), ("fair", 0.7), ("noise", 1 / 3)]
        )
    ]


@pytest.fixture
def vote(reports: Path) -> Callable[..., EnsembleResult]:
    """Makes an ensemble of all runs, not calibrated unless asked."""

    def call(*members: str, **options: Any) -> EnsembleResult:
        return ensemble(reports, members or ["all"], **{"calibrate": False} | options)

    return call


def test_equal_weights_are_the_mean(three, vote) -> None:
    """Every image's probabilities are the members' mean, in both parts."""
    (run,) = vote(weights="equal").runs
    for part in ("train", "test"):
        mean = np.mean([member.predictions(part).p for member in three], axis=0)
        np.testing.assert_allclose(run.predictions(part).p, mean)
    assert set(map(tuple, run.record.member_weights.values())) == {(1 / 3,) * 3}


@pytest.mark.parametrize(
    ("q", "expected"),
    [
        ([[0.8, 0.5]] * 4, [1, 0]),
        ([[1, 0]] * 3 + [[0, 1]], [0.75, 0.25]),
        ([[0.5, 0.5]] * 4, [0.5, 0.5]),
        ([[0, 0]] * 4, [0.5, 0.5]),
        ([[0.9, 0.3, 0.1]] * 2 + [[0.1, 0.3, 0.9]] * 2, [0.5, 0, 0.5]),
    ],
)
def test_weights_have_the_lowest_log_loss(q, expected) -> None:
    """By hand: 3 log w + log(1 - w) is highest at 3/4; who is never better gets 0."""
    np.testing.assert_allclose(fit_weights(np.array(q, float)), expected, atol=1e-3)


def test_weights_are_at_an_optimum() -> None:
    """No step towards any member lowers the loss."""
    q = np.random.default_rng(0).uniform(0.05, 1, (200, 8))
    w = fit_weights(q)
    assert w.min() >= 0
    assert w.sum() == pytest.approx(1)
    best = np.log(q @ w).mean()
    for toward in np.eye(8):
        assert np.log(q @ (0.99 * w + 0.01 * toward)).mean() < best + 1e-6


def test_a_fold_has_no_say_in_its_own_weights(write, vote) -> None:
    """Other labels in one part move the weights of all other parts only."""
    p = [sharpened(Y, share, seed) for seed, share in enumerate((0.8, 0.7, 0.6))]
    weights = {}
    for changed in ("none", -1, 2):
        y = Y.copy()
        if changed != "none":
            y[changed == PLACES] = np.roll(y[changed == PLACES], 1)
        for i, own in enumerate(p):
            write(f"m{i}", own, y=y)
        weights[changed] = vote(force=True).runs[0].record.member_weights
    assert weights[-1] == weights["none"]
    same = [k for k in weights["none"] if weights[2][k] == weights["none"][k]]
    assert same == ["2"]


def test_noise_gains_nothing(write, vote) -> None:
    """Forty runs of noise fit the labels they are fitted on, and no others."""
    rng = np.random.default_rng(0)
    p = rng.dirichlet([1, 1, 1], (40, N))
    for i, own in enumerate(p):
        write(f"m{i:02d}", own)
    part = vote().runs[0].predictions()
    train = PLACES >= 0
    q = p[:, train][:, np.arange(train.sum()), Y[train]].T
    fitted_on_itself = -np.log(q @ fit_weights(q)).mean()
    assert fitted_on_itself < np.log(3) - 0.1
    assert metrics.log_loss(part.y, part.p) > np.log(3) - 0.02


def test_the_test_part_is_weighted_by_all_folds(three, vote) -> None:
    """Its predictions are the members' with the weights of `test`."""
    (run,) = vote().runs
    w = run.record.member_weights["test"]
    assert run.record.members == sorted(member.run_id for member in three)
    by_id = {member.run_id: member.predictions("test").p for member in three}
    mean = sum(
        own * by_id[name] for own, name in zip(w, run.record.members, strict=True)
    )
    np.testing.assert_allclose(run.predictions("test").p, mean, atol=1e-5)


def test_it_is_a_run_like_any_other(three, vote, reports) -> None:
    """Compare ranks it among its members; its cost is theirs."""
    (run,) = vote().runs
    assert run.record.head == "ensemble"
    assert run.record.backbone == "toy"
    assert run.record.model is None
    assert run.record.fit_seconds >= 3
    assert run.record.fold_seconds == [3.0] * 5
    assert run.contracts == {"c"}
    heads = [row.head for row in compare(reports).rows]
    assert sorted(heads) == ["ensemble", "logreg", "logreg", "logreg"]


def test_averages_are_calibrated(three, vote) -> None:
    """As train-head does: out-of-fold by the other folds, the test part by all."""
    plain, (run,) = vote().runs[0], vote(calibrate=True).runs
    assert plain.record.calibration is None
    found = calibration.from_record(run.record.calibration)
    np.testing.assert_allclose(
        run.predictions("test").p, found(plain.predictions("test").p), atol=1e-5
    )
    assert run.run_id != plain.run_id


def test_a_second_call_makes_nothing(three, vote) -> None:
    """The order of the members means nothing; --force makes it again."""
    first = vote("good", "fair")
    assert len(first.new_run_ids) == 1
    assert vote("fair", "good", "good").new_run_ids == []
    assert vote("fair", "good").runs[0].run_id == first.new_run_ids[0]
    assert vote("fair", "good", force=True).new_run_ids == first.new_run_ids


def test_a_member_that_was_trained_again_makes_it_new(three, write, vote) -> None:
    """An ensemble of predictions that are no more is not kept."""
    first = vote("good", "fair")
    write("fair", sharpened(Y, 0.6, 9))
    again = vote("good", "fair")
    assert again.new_run_ids == first.new_run_ids
    assert again.runs[0].record.member_digests != (first.runs[0].record.member_digests)


def test_all_leaves_out_what_is_not_worth_a_vote(write, vote, three) -> None:
    """Trivial, failed and older runs, and ensembles."""
    vote()
    write("floor", sharpened(Y, 0.3, 5), head="majority")
    for name, told in {
        "border": {"weights": "none"},
        "ring": {"region": "ring"},
    }.items():
        block = {"weights": "random", "contract_id": "c", "tap": None} | told
        write(name, sharpened(Y, 0.6, 6), features=[block])
    write("broken", sharpened(Y, 0.6, 7), status="failed")
    write("older", sharpened(Y, 0.6, 8), y=np.roll(Y, 6), created="2025-01-01")
    assert vote().runs[0].record.members == [r.run_id for r in three[1::-1]] + [
        three[2].run_id
    ]


def tuned(write: Callable[..., runs.Run], name: str, seed: int) -> runs.Run:
    """A run as fine-tuning writes it: no contract; with --fold test no folds."""
    block = {
        "backbone": name, "weights": "imagenet", "input_size": 32, "store": None,
        "contract_id": None, "tap": None, "dim": 6,
    }  # fmt: skip
    also = {"head": "finetune", "features": [block], "backbone": name}
    return write(name, sharpened(Y, 0.8, seed), only=PLACES < 0, **also)


def test_the_test_part_alone(three, write, vote, reports) -> None:
    """With a member that has no folds nothing is fitted, and only test is judged."""
    name, other = tuned(write, "vgg19", 8).run_id, tuned(write, "resnet50", 9).run_id
    for options in ({}, {"weights": "equal", "calibrate": True}):
        words = rf"{name}, {other} only predicted the test set.*`weights='equal'`"
        with pytest.raises(RunError, match=words):
            vote(name, other, "good", **options)
    (run,) = vote(name, other, "good", weights="equal").runs
    p = np.mean([references.find(reports, member).predictions("test").p
                 for member in (name, other, "good")], axis=0)  # fmt: skip
    np.testing.assert_allclose(run.predictions("test").p, p)
    assert run.record.scores.keys() == {"test"}
    assert [b.backbone for b in run.record.features] == [
        "toy",
        "resnet50",
        "vgg19",
    ]
    ranked = [row.run_id for row in compare(reports, part="test").rows]
    assert run.run_id in ranked
    assert vote(other, "good", name, weights="equal").new_run_ids == []


def test_what_the_error_recommends_works(three, write, reports, run) -> None:
    """The options that the refusal names make an ensemble, told as test set only."""
    words = ["ensemble", tuned(write, "vgg19", 8).run_id, "good", "--reports"]
    words += [reports.parent, "--dataset", reports.name]
    code, _, err = run(*words)
    assert (code, "--weights equal and --no-calibrate" in err) == (1, True)
    code, out, _ = run(*words, "--weights", "equal", "--no-calibrate")
    assert (code, "accuracy on the test set only 0." in out) == (0, True)


def test_all_leaves_out_what_has_no_folds(three, write, vote) -> None:
    """It is told, and the others vote as if it were not there."""
    name = tuned(write, "vgg19", 8).run_id
    result = vote()
    assert result.runs[0].record.members == sorted(run.run_id for run in three)
    assert result.excluded == [f"run {name} has no out-of-fold predictions"]


def test_members_of_the_test_part_are_compared_there(three, write, vote) -> None:
    """Edited labels are refused in that part too."""
    name = tuned(write, "vgg19", 8).run_id
    run = write("other", sharpened(Y, 0.8, 1))
    table = pd.read_csv(run.folder / "predictions.csv")
    table.loc[(table["split"] == "test") & (table.index < 7), "label"] = CLASSES[2]
    table.to_csv(run.folder / "predictions.csv", index=False)
    rewrite(run.folder)
    with pytest.raises(RunError, match="not of the images that its record says"):
        vote(name, "other", weights="equal")


def edited(run: runs.Run) -> None:
    table = pd.read_csv(run.folder / "predictions.csv").assign(label=CLASSES[0])
    table.to_csv(run.folder / "predictions.csv", index=False)
    rewrite(run.folder)


@pytest.mark.parametrize(
    ("make", "members", "said"),
    [
        (lambda write: None, ["good"], "two or more runs.*got good"),
        (
            lambda write: None,
            ["nowhere", "good"],
            "'nowhere', which matches none of the 3",
        ),
        (lambda write: None, ["oo", "good"], "two or more runs"),
        (
            lambda write: write("other", sharpened(Y, 0.8, 1), repeat=1),
            ["good", "other"],
            r"differ in the fold of images \(40\)",
        ),
        (
            lambda write: write("other", sharpened(Y, 0.8, 1), y=np.roll(Y, 6)),
            ["good", "other"],
            r"differ in the label of images \(54\)",
        ),
        (
            lambda write: rewrite(
                write("other", sharpened(Y, 0.8, 1)).folder, evaluation_id="x"
            ),
            ["good", "other"],
            "not of the images that its record says",
        ),
        (
            lambda write: write("other", sharpened(Y, 0.8, 1), status="failed"),
            ["good", "other"],
            "neither failed nor are ensembles; got other-s",
        ),
        (
            lambda write: write("other", sharpened(Y, 0.8, 1), head="ensemble"),
            ["good", "other"],
            "nor are ensembles; got other-s",
        ),
        (
            lambda write: edited(write("other", sharpened(Y, 0.8, 1))),
            ["good", "other"],
            "not of the images that its record says",
        ),
    ],
)
def test_what_makes_no_ensemble_is_refused(
    three, write, vote, make, members, said: str
) -> None:
    """The error says what differs, and no run is written."""
    make(write)
    with pytest.raises(RunError, match=said):
        vote(*members)
    with pytest.raises(UsageError, match="`weights` to be fitted or equal"):
        vote(weights="best")


def test_each_repeat_has_its_ensemble(write, vote, three) -> None:
    """Of the same recipes; a repeat without one of them is told."""
    for seed, name in enumerate(("good", "fair", "noise")):
        write(name, sharpened(Y, 0.7, seed), repeat=1)
    write("good", sharpened(Y, 0.7, 1), repeat=2)
    result = vote()
    assert [run.record.split.repeat for run in result.runs] == [0, 1]
    assert len({run.run_id for run in result.runs}) == 2
    assert len({run.record.recipe_id for run in result.runs}) == 1
    assert result.excluded == ["repeat 2: not every member was trained on it"]
    other = vote(split="s-r1")
    assert [run.run_id for run in other.runs] == [result.runs[1].run_id]


@pytest.mark.slow
def test_permuted_labels_stay_at_chance(tmp_path: Path) -> None:
    """Members that know their training labels by heart have nothing to vote for."""
    count = 360
    dataset = make_dataset(tmp_path, count)
    write_store(dataset, header("a"), views=0, dim=20)
    shuffled = np.random.default_rng(1).permutation(count)
    dataset.table["label"] = dataset.table["label"].to_numpy()[shuffled]
    result: TrainResult = train_flat(
        dataset,
        tmp_path / "reports",
        heads=[
            "sklearn.neighbors:KNeighborsClassifier",
            "sklearn.tree:DecisionTreeClassifier",
            "sklearn.ensemble:ExtraTreesClassifier",
            "sklearn.naive_bayes:GaussianNB",
            "logreg",
        ],
        group_by="image",
        test_size=0.25,
        jobs=1,
    )
    assert not any(run.failed for run in result.runs)
    (run,) = ensemble(tmp_path / "reports" / "chest", ["all"]).runs
    for part in ("train", "test"):
        scores = run.record.scores[part]
        assert scores["accuracy_low"] < 1 / 3 < scores["accuracy_high"]
        assert scores["log_loss"] > np.log(3) - 0.03


def test_the_command(three, run, tmp_path: Path) -> None:
    """`featcache ensemble` prints the score and each member's weight."""
    code, out, err = run("ensemble", "good", "fair", "--dataset", "chest")
    assert code == 0, err
    lines = out.splitlines()
    assert re.match(r"(\w{6}) ensemble-toy-\1", lines[0])
    weights = {line.split()[1]: float(line.split()[0]) for line in lines[1:]}
    assert set(weights) == {"good-s", "fair-s"}
    assert sum(weights.values()) == pytest.approx(1, abs=2e-3)
    assert "nothing to do" in run("ensemble", "good", "fair", "--dataset", "chest")[1]
    code, _, err = run("ensemble", "good", "--dataset", "chest")
    assert (code, err.count("\n")) == (1, 1)
