"""Training and comparing heads: no leak, nothing twice, nothing unfit compared."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import featcache
from featcache import compare as comparing
from featcache import evaluation, heads, manifest, metrics, runs, store
from featcache.errors import (
    DatasetError,
    FeatcacheError,
    RunError,
    SplitError,
    StoreError,
    UnknownNameError,
    UsageError,
)
from featcache.manifest import COLUMNS, Manifest, Settings
from featcache.store import Header
from featcache.train_head import TrainResult, train_head

N, D, CLASSES = 90, 6, ("COVID", "NORMAL", "Viral Pneumonia")
POLICY = {"flip": True, "seed": 0}
HEADER = Header(
    contract={"backbone": "toy", "input_size": 32},
    policies=[POLICY],
    weights="random",
    weights_key="",
    engine="tensorflow",
    versions={},
    notes={},
)


def image_ids(count: int = N) -> list[str]:
    return [f"{i:064x}" for i in range(count)]


@pytest.fixture
def dataset(tmp_path: Path) -> Manifest:
    """90 images of 45 patients; the class is in the first three features."""
    table = pd.DataFrame("", index=range(N), columns=list(COLUMNS))
    table["image_id"] = image_ids()
    table["path"] = [f"{i}.png" for i in range(N)]
    table["label"] = [CLASSES[i // 2 % 3] for i in range(N)]
    table["group"] = [f"p{i // 2}" for i in range(N)]
    table["status"] = "ok"
    table[["width", "height", "bytes"]] = 1
    made = Manifest(
        tmp_path / "cache" / "chest",
        Settings(str(tmp_path), str(tmp_path), "patient"),
        table,
    )
    manifest.save(made)
    write_store(made, HEADER)
    return made


def write_store(dataset: Manifest, header: Header, views: int = 2) -> Path:
    """A store whose rows come shuffled; views 1.. are near their view 0."""
    rng = np.random.default_rng(0)
    codes = np.array([CLASSES.index(label) for label in dataset.table["label"]])
    plain = rng.normal(size=(N, D)) + 1.2 * np.eye(D)[codes]
    X = np.repeat(plain, views + 1, axis=0) + 0.1 * rng.normal(
        size=(N * (views + 1), D)
    )
    view = np.tile(np.arange(views + 1), N)
    keys = pd.DataFrame(
        {
            "image_id": np.repeat(image_ids(), views + 1),
            "view": view,
            "policy": np.where(view == 0, -1, 0),
            "path": "",
        }
    )
    order = rng.permutation(len(keys))
    path = store.store_path(dataset.folder / "features", header)
    store.seal(
        path, header, {"features": X[order].astype(np.float32)}, keys.iloc[order]
    )
    store.publish(path, header)
    return path


@pytest.fixture
def train(dataset: Manifest, tmp_path: Path) -> Callable[..., TrainResult]:
    """Trains on the toy features, in this process and with quick heads."""

    def call(**options: object) -> TrainResult:
        options = {"heads": ["logreg", "majority"], "jobs": 1} | options
        return train_head(dataset, tmp_path / "reports", **options)

    return call


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    return tmp_path / "reports" / "chest"


def test_every_image_is_predicted_once_by_a_model_that_never_saw_its_group(
    train,
) -> None:
    """Each image has one row; folds and test part share no patient."""
    (run, _) = train().runs
    table = run.table
    assert sorted(table["image_id"]) == image_ids()
    assert table.groupby("group")["fold"].nunique().max() == 1
    assert set(table["fold"]) == {-1, 0, 1, 2, 3, 4}
    assert (table["split"] == np.where(table["fold"] < 0, "test", "train")).all()
    p = table.filter(regex="^p_").to_numpy()
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert 14 <= (table["fold"] == -1).sum() <= 22


def test_out_of_fold_figures_are_those_of_plain_scikit_learn(train, dataset) -> None:
    """Refitting the head by hand on each fold gives the same probabilities."""
    (run,) = train(heads=["logreg"], test_size=0).runs
    (path,) = (dataset.folder / "features").glob("*.h5")
    X, y, groups, meta = featcache.load(path, views=2)
    fold = meta["image_id"].map(run.table.set_index("image_id")["fold"]).to_numpy()
    for k in range(5):
        held = (fold == k) & (meta["view"] == 0).to_numpy()
        head = heads.make("logreg").fit(X[fold != k], y[fold != k], groups[fold != k])
        views = [
            head.predict_proba(X[(fold == k) & (meta["view"] == v).to_numpy()])
            for v in range(3)
        ]
        stored = run.table.set_index("image_id").loc[meta["image_id"][held]]
        np.testing.assert_allclose(
            stored.filter(regex="^p_"), np.mean(views, axis=0), atol=1e-6
        )


def test_held_out_images_are_seen_plain_without_tta(train) -> None:
    """--no-tta predicts view 0 alone; by default views are averaged if trained on."""
    averaged = train(heads=["logreg"]).runs[0]
    plain = train(heads=["logreg"], tta=False).runs[0]
    alone = train(heads=["logreg"], views=0).runs[0]
    assert [r.record["tta"] for r in (averaged, plain, alone)] == [True, False, False]
    assert len({r.run_id for r in (averaged, plain, alone)}) == 3
    p = [r.predictions().p for r in (averaged, plain, alone)]
    assert np.abs(p[0] - p[1]).max() > 1e-4
    assert np.abs(p[1] - p[2]).max() > 1e-4


def test_a_second_call_trains_nothing(train, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same inputs find the same runs; --force trains again."""
    first = train()
    assert len(first.trained) == 2
    monkeypatch.setattr(evaluation, "fit_predict", None)
    again = train()
    assert again.trained == []
    assert [r.run_id for r in again.runs] == [r.run_id for r in first.runs]
    monkeypatch.undo()
    assert train(force=True).trained == first.trained


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"folds": 4},
        {"test_size": 0.3},
        {"views": 1},
        {"tta": False},
    ],
)
def test_another_input_is_another_run(train, change) -> None:
    """Whatever decides the figures is in the id."""
    one, two = train(), train(**change)
    assert not {r.run_id for r in one.runs} & {r.run_id for r in two.runs}


def test_relabelling_makes_new_runs_of_the_same_features(train, dataset) -> None:
    """Labels live in the manifest: changing one retrains, and is not compared."""
    before = train(heads=["majority"]).runs[0]
    dataset.table.loc[0, "label"] = CLASSES[1]
    after = train(heads=["majority"]).runs[0]
    assert before.run_id != after.run_id
    assert before.record["evaluation_id"] != after.record["evaluation_id"]


def test_the_split_is_kept_when_images_come(train, dataset) -> None:
    """Images added later leave everybody's place as it was."""
    train()
    (path,) = dataset.folder.glob("splits-*.json")
    before = json.loads(path.read_text())["images"]
    more = dataset.table.iloc[:2].assign(
        image_id=[f"{1000 + i:064x}" for i in range(2)], group=["p0", "new"]
    )
    dataset.table.loc[N] = more.iloc[0]
    dataset.table.loc[N + 1] = more.iloc[1]
    with pytest.raises(StoreError, match="none or fewer for 2 of them"):
        train()
    after = json.loads(path.read_text())["images"]
    assert {k: after[k] for k in before} == before
    assert after[more["image_id"].iloc[0]] == before[image_ids()[0]]


def test_a_saved_model_predicts_what_the_record_says(train, dataset) -> None:
    """The model beside the record is the one refitted on all of train."""
    (run,) = train(heads=["logreg"]).runs
    head = heads.load(run.folder)
    (path,) = (dataset.folder / "features").glob("*.h5")
    X, _, _, meta = featcache.load(path, views=2)
    tests = set(run.table.loc[run.table["split"] == "test", "image_id"])
    rows = meta["image_id"].isin(tests).to_numpy()
    p = head.predict_proba(X[rows]).reshape(len(tests), 3, -1).mean(axis=1)
    np.testing.assert_allclose(p, run.predictions("test").p, atol=1e-6)


def test_majority_is_the_floor(train) -> None:
    """Its probabilities are the class shares of the training rows."""
    (run,) = train(heads=["majority"], test_size=0).runs
    assert metrics.log_loss(*_yp(run)) == pytest.approx(np.log(3), abs=0.02)


def _yp(run: runs.Run) -> tuple[np.ndarray, np.ndarray]:
    part = run.predictions()
    return part.y, part.p


def test_a_head_that_raises_is_marked_failed_and_the_others_go_on(
    train, reports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason is recorded; the next call tries it again."""
    fit = type(heads.make("majority"))._fit
    monkeypatch.setattr(
        type(heads.make("majority")),
        "_fit",
        lambda *_: (_ for _ in ()).throw(RuntimeError("boom")),
    )
    result = train()
    failed = {r.record["head"]: r.failed for r in result.runs}
    assert failed == {"logreg": False, "majority": True}
    assert result.runs[1].record["reason"] == "RuntimeError: boom"
    board = comparing.compare(reports)
    assert [row["head"] for row in board.rows] == ["logreg"]
    assert "boom" in board.left_out[0]
    monkeypatch.setattr(type(heads.make("majority")), "_fit", fit)
    assert train().trained == [result.runs[1].run_id]


def test_no_fit_without_the_leak_guard() -> None:
    """A group on both sides stops the fit itself, whatever made the split."""
    X = np.zeros((4, 1, 2), np.float32)
    with pytest.raises(SplitError, match="p1"):
        evaluation.fit_predict(
            heads.make("majority"),
            X,
            y=np.array([0, 1, 0, 1]),
            groups=np.array(["p0", "p1", "p1", "p2"]),
            train=np.array([0, 1]),
            held=np.array([2, 3]),
            n_classes=2,
        )


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"heads": ["logrg"]}, UnknownNameError, "mean logreg"),
        ({"backbones": ["vgg19"]}, UnknownNameError, "featcache extract"),
        ({"views": -1}, UsageError, "--views"),
        ({"views": 7}, StoreError, "--views 7"),
        ({"jobs": 0}, UsageError, "--jobs"),
        ({"folds": 1}, SplitError, "--folds"),
        ({"folds": 40}, SplitError, "groups"),
        ({"test_size": 1.0}, SplitError, "--test-size"),
        ({"heads": ["sklearn.svm:LinearSVC"]}, FeatcacheError, "predict_proba"),
        ({"heads": ["nowhere:Class"]}, FeatcacheError, "nowhere"),
    ],
)
def test_bad_input_is_refused_before_any_work(
    train, reports: Path, options, error, said: str
) -> None:
    """Each error names the flag or the way out, and no run is written."""
    with pytest.raises(error, match=said):
        train(**options)
    assert not reports.exists()


def test_one_class_is_refused(train, dataset) -> None:
    """There is nothing to tell apart."""
    dataset.table["label"] = "COVID"
    with pytest.raises(DatasetError, match="two classes"):
        train()


def test_without_features_the_way_to_them_is_told(dataset, tmp_path: Path) -> None:
    """No store at all: the error gives the command."""
    for path in (dataset.folder / "features").iterdir():
        path.unlink()
    with pytest.raises(StoreError, match="featcache extract --dataset chest"):
        train_head(dataset, tmp_path / "reports")


def test_a_store_answers_to_its_names(train, dataset) -> None:
    """Backbone, backbone-weights and file name all find it."""
    for name in ("toy", "toy-random", "all"):
        assert len(train(backbones=[name], heads=["majority"]).runs) == 1


@pytest.mark.slow
def test_parallel_processes_give_the_same_figures(train) -> None:
    """Folds side by side predict what folds one by one predict; Keras included."""
    names = ["softmax", "xgboost", "sklearn.neighbors:KNeighborsClassifier"]
    said: list[int] = []
    alone = train(heads=names, test_size=0)
    together = train(
        heads=names,
        test_size=0,
        jobs=2,
        force=True,
        progress=lambda _, done, total: said.append(done),
    )
    assert said == list(range(1, 19))
    for one, two in zip(alone.runs, together.runs, strict=True):
        assert one.run_id == two.run_id
        np.testing.assert_allclose(one.predictions().p, two.predictions().p, atol=1e-4)
        assert (two.folder / two.record["model"]).is_file()
    assert (together.runs[0].folder / "history.csv").is_file()


def test_the_leaderboard_is_computed_from_the_predictions(train, reports) -> None:
    """Every figure follows from predictions.csv, none from retraining."""
    train()
    board = comparing.compare(reports)
    assert [(r["rank"], r["head"]) for r in board.rows] == [
        (1, "logreg"),
        (2, "majority"),
    ]
    row = board.rows[0]
    table = pd.read_csv(reports / "runs" / row["run_id"] / "predictions.csv")
    table = table[table["split"] == "train"]
    right = table[[f"p_{c}" for c in CLASSES]].to_numpy().argmax(axis=1) == [
        CLASSES.index(label) for label in table["label"]
    ]
    assert row["accuracy"] == pytest.approx(right.mean())
    assert row["n"] == len(table)
    assert row["n_groups"] == table["group"].nunique()
    assert row["accuracy_low"] < row["accuracy"] < row["accuracy_high"]
    assert row["test_accuracy_low"] < row["test_accuracy"] < row["test_accuracy_high"]


def test_the_metric_ranks(train, reports) -> None:
    """Less is better for a loss, more for a share."""
    train()
    best = {m: comparing.compare(reports, metric=m).rows[0] for m in comparing.METRICS}
    assert {m: r["head"] for m, r in best.items() if m != "ece"} == dict.fromkeys(
        [m for m in comparing.METRICS if m != "ece"], "logreg"
    )
    with pytest.raises(UsageError, match="--metric"):
        comparing.compare(reports, metric="f2")


def test_runs_of_two_splits_are_never_ranked_together(train, reports) -> None:
    """The newest split is shown; the other is named, with the way to see it."""
    train(test_size=0)
    train(test_size=0.2)
    board = comparing.compare(reports)
    assert board.split == "patient-k5-test0.2-seed0"
    assert len(board.rows) == 2
    assert "2 runs cannot be compared" in board.left_out[0]
    assert "--split patient-k5-test0-seed0" in board.left_out[0]
    other = comparing.compare(reports, split="patient-k5-test0-seed0")
    assert other.rows[0]["test_accuracy"] is None
    with pytest.raises(RunError, match="on split none"):
        comparing.compare(reports, split="none")


def damage_record(folder: Path) -> None:
    (folder / "run.json").write_text("{")


def damage_schema(folder: Path) -> None:
    (folder / "run.json").write_text('{"schema": 99}')


def damage_predictions(folder: Path) -> None:
    (folder / "predictions.csv").write_text("image_id\n1\n")


def damage_numbers(folder: Path) -> None:
    table = pd.read_csv(folder / "predictions.csv")
    table["p_COVID"] = np.nan
    table.to_csv(folder / "predictions.csv", index=False)


def damage_labels(folder: Path) -> None:
    table = pd.read_csv(folder / "predictions.csv").assign(label="Flu")
    table.to_csv(folder / "predictions.csv", index=False)


@pytest.mark.parametrize(
    "damage",
    [damage_record, damage_schema, damage_predictions, damage_numbers, damage_labels],
)
def test_a_broken_run_is_left_out_and_told(train, reports, damage) -> None:
    """One folder edited by hand does not take the leaderboard with it."""
    broken = train().runs[1]
    damage(broken.folder)
    board = comparing.compare(reports)
    assert [row["head"] for row in board.rows] == ["logreg"]
    assert broken.run_id in board.left_out[0]
    assert "--force" in board.left_out[0]


def test_nothing_to_compare_is_an_error(reports: Path) -> None:
    """The error gives the command that makes runs."""
    with pytest.raises(RunError, match="featcache train-head"):
        comparing.compare(reports)


def test_a_run_is_found_by_any_unique_part(train, reports) -> None:
    """Ids may be shortened; an ambiguous part lists the candidates."""
    train()
    assert runs.find(reports, "logreg").record["head"] == "logreg"
    with pytest.raises(RunError, match="2 of 2 runs have"):
        runs.find(reports, "toy")
    with pytest.raises(RunError, match="none of 2 runs have"):
        runs.find(reports, "xception")


def test_the_confusion_matrix_counts_every_image(train, reports) -> None:
    """Rows are true classes; both parts together are the dataset."""
    train()
    matrix = comparing.confusion(runs.find(reports, "logreg"))
    assert matrix.test is not None
    assert (matrix.train + matrix.test).sum(axis=1).tolist() == [30, 30, 30]
    row = comparing.compare(reports).rows[0]
    assert np.trace(matrix.train) / matrix.train.sum() == pytest.approx(row["accuracy"])
