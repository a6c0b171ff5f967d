"""Training and comparing heads: no leak, nothing twice, nothing unfit compared."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toys import CLASSES, N, header, image_ids, make_dataset, write_store

import featcache
from featcache import calibration, evaluation, heads, manifest, metrics, runs
from featcache import compare as comparing
from featcache.errors import (
    DatasetError,
    FeatcacheError,
    RunError,
    SplitError,
    StoreError,
    UnknownNameError,
    UsageError,
)
from featcache.manifest import Manifest
from featcache.train_head import TrainResult, train_head

HEADER = header()


@pytest.fixture
def dataset(tmp_path: Path) -> Manifest:
    """90 images of 45 patients; the class is in the first three features."""
    made = make_dataset(tmp_path)
    write_store(made, HEADER)
    return made


@pytest.fixture
def train(dataset: Manifest, tmp_path: Path) -> Callable[..., TrainResult]:
    """Trains on the toy features, in this process, quick heads without tuning."""

    def call(**options: object) -> TrainResult:
        quick = {"heads": ["logreg", "majority"], "jobs": 1, "tune": False}
        options = quick | options
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
    (run,) = train(heads=["logreg"], test_size=0, calibrate=False).runs
    (path,) = (dataset.folder / "features").glob("*.h5")
    X, y, groups, meta = featcache.load(path, views=2)
    fold = meta["image_id"].map(run.table.set_index("image_id")["fold"]).to_numpy()
    for k in range(5):
        held = (fold == k) & (meta["view"] == 0).to_numpy()
        head = heads.make("logreg", tune=False)
        head.fit(X[fold != k], y[fold != k], groups[fold != k])
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
        {"tune": True},
        {"transform": "sqrt"},
        {"transform": "l2"},
        {"pca": 3},
        {"calibrate": False},
        {"exclude": ["disputed"]},
        {"group_by": "image"},
    ],
)
def test_another_input_is_another_run(train, change) -> None:
    """Whatever decides the figures is in the id."""
    one, two = train(heads=["logreg"]), train(heads=["logreg"], **change)
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
    calibrated = calibration.from_record(run.record["calibration"])
    (path,) = (dataset.folder / "features").glob("*.h5")
    X, _, _, meta = featcache.load(path, views=2)
    tests = set(run.table.loc[run.table["split"] == "test", "image_id"])
    rows = meta["image_id"].isin(tests).to_numpy()
    p = head.predict_proba(X[rows]).reshape(len(tests), 3, -1).mean(axis=1)
    np.testing.assert_allclose(calibrated(p), run.predictions("test").p, atol=1e-6)


@pytest.mark.slow
def test_the_test_part_decides_nothing(train, dataset) -> None:
    """Other labels there change no prediction, no tuning and no calibration."""
    # The first is tuned, the second so sure of itself that it is calibrated.
    names = ["logreg", "sklearn.tree:DecisionTreeClassifier"]
    options = {"heads": names, "tune": True, "views": 0, "folds": 3}
    before = train(**options).runs
    tests = before[0].table.query("split == 'test'")["image_id"]
    there = dataset.table["image_id"].isin(tests)
    # Whole patients turn, so that the split stands as it is.
    turn = dict(zip(CLASSES, (*CLASSES[1:], CLASSES[0]), strict=True))
    dataset.table.loc[there, "label"] = dataset.table.loc[there, "label"].map(turn)
    after = train(**options).runs
    assert before[1].record["calibration"]["kept"]
    for one, two in zip(before, after, strict=True):
        assert one.run_id != two.run_id
        for key in ("tuning", "calibration"):
            assert one.record[key] == two.record[key]
        for part in ("train", "test"):
            p = [run.predictions(part).p for run in (one, two)]
            np.testing.assert_array_equal(*p)


def test_calibration_is_cross_fitted(train) -> None:
    """Out-of-fold by the other folds, the test part by all; the record says how."""
    (plain,) = train(heads=["logreg"], calibrate=False).runs
    (run,) = train(heads=["logreg"]).runs
    assert plain.record["calibration"] is None
    out = plain.table.query("split == 'train'")
    part = plain.predictions()
    found = calibration.cross_fit(part.y, part.p, out["fold"].to_numpy())
    assert run.record["calibration"] == json.loads(json.dumps(found.record))
    np.testing.assert_allclose(run.predictions().p, found.p, atol=1e-9)
    np.testing.assert_allclose(
        run.predictions("test").p,
        found.calibrator(plain.predictions("test").p),
        atol=1e-9,
    )


@pytest.mark.parametrize("name", ["majority", "softmax-untrained"])
def test_what_is_shown_as_it_is_is_not_calibrated(train, name: str) -> None:
    """A head that learns nothing must not learn by being calibrated."""
    (run,) = train(heads=[name]).runs
    assert run.record["calibration"] is None
    assert train(heads=[name], calibrate=False).trained == []


def test_what_was_tuned_is_in_the_record(train) -> None:
    """An entry for each fold and one for the refit; none where nothing was chosen."""
    (tuned,) = train(heads=["logreg"], tune=True).runs
    assert [entry["fold"] for entry in tuned.record["tuning"]] == [0, 1, 2, 3, 4, -1]
    for entry in tuned.record["tuning"]:
        assert entry["chosen"].keys() <= entry["tried"][0].keys()
        assert entry["log_loss"] == min(row["log_loss"] for row in entry["tried"])
    assert train(heads=["majority"]).runs[0].record["tuning"] == []


def test_excluded_images_are_not_there(train, dataset) -> None:
    """Neither trained on nor judged; the split has a name of its own."""
    result = train(heads=["majority"], exclude=["disputed"])
    assert sorted(result.runs[0].table["image_id"]) == image_ids()[6:]
    assert result.split.name == "patient-without-disputed-k5-test0.2-seed0"
    assert result.runs[0].record["exclude"] == ["disputed"]
    others = [["disputed=yes"], ["ward=w1", "ward=w0", "ward=w0"]]
    ids = [train(heads=["majority"], exclude=other).runs[0] for other in others]
    assert [len(run.table) for run in ids] == [84, 85]
    assert ids[1].record["split"]["name"].startswith("patient-without-")
    assert "exclude" not in manifest.load(dataset.folder).table["status"].unique()


def test_groups_can_be_others_for_an_evaluation(train) -> None:
    """Every image alone, or another column; the manifest's own is no change."""
    result = train(heads=["majority"], group_by="image")
    (run,) = result.runs
    assert (run.table["group"] == run.table["image_id"]).all()
    assert run.record["n_groups"] == N
    assert result.split.name == "image-k5-test0.2-seed0"
    (ward,) = train(heads=["majority"], group_by="ward").runs
    of_none = ward.table.set_index("image_id").loc[image_ids()[0]]
    assert of_none["group"] == image_ids()[0]
    assert ward.record["split"]["group_by"] == "ward"
    same = train(heads=["majority"], group_by="patient").runs[0]
    assert same.run_id == train(heads=["majority"]).runs[0].run_id


def test_repeats_draw_other_folds_and_keep_the_test_part(train, dataset) -> None:
    """One recipe on several draws of the folds; repeat 0 is the run as ever."""
    alone = train(heads=["logreg"], test_size=0.3)
    result = train(heads=["logreg"], test_size=0.3, repeats=3)
    assert result.trained == [run.run_id for run in result.runs[1:]]
    assert result.runs[0].run_id == alone.runs[0].run_id
    splits = [run.record["split"] for run in result.runs]
    base = "patient-k5-test0.3-seed0"
    assert [split["name"] for split in splits] == [base, f"{base}-r1", f"{base}-r2"]
    assert [split["repeat"] for split in splits] == [0, 1, 2]
    assert {split["base"] for split in splits} == {base}
    for key, count in (("recipe_id", 1), ("evaluation_id", 3)):
        assert len({run.record[key] for run in result.runs}) == count
    tables = [run.table.set_index("image_id").sort_index() for run in result.runs]
    for table in tables[1:]:
        assert (table["split"] == tables[0]["split"]).all()
        assert (table["fold"] != tables[0]["fold"]).any()
        assert table.groupby("group")["fold"].nunique().max() == 1
    p = [run.predictions("test").p for run in result.runs]
    assert (dataset.folder / f"splits-{base}-r2.json").is_file()
    assert len(p[0]) == len(p[1]) > 0


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


def test_a_head_that_raises_in_one_fold_is_marked_failed(
    train, reports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One bad fold is enough; what the other folds gave is not published."""
    cls = type(heads.make("majority"))
    fit, calls = cls._fit, iter(range(6))

    def once(self, *arguments) -> None:
        if next(calls) == 2:
            raise ValueError("fold 2")
        fit(self, *arguments)

    monkeypatch.setattr(cls, "_fit", once)
    (run,) = train(heads=["majority"]).runs
    assert run.record["reason"] == "ValueError: fold 2"
    assert [path.name for path in run.folder.iterdir()] == ["run.json"]
    assert "scores" not in run.record


def test_a_failed_head_is_told_by_the_exit_code(
    train, run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are trained and printed; stderr names the failed run."""

    def fail(*_: object) -> None:
        raise ValueError("boom")

    monkeypatch.setattr(type(heads.make("majority")), "_fit", fail)
    words = ["train-head", "-H", "majority", "-H", "logreg", "--no-tune", "--jobs", "1"]
    code, out, err = run(*words)
    assert code == 1
    assert re.fullmatch(r"Failed: majority-toy-\w+: ValueError: boom\n", err)
    assert "logreg-toy-" in out
    records = json.loads(run(*words, "--json")[1])
    assert [record["status"] for record in records] == ["failed", "ok"]
    assert records[1]["tuning"] == []


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
        ({"repeats": 0}, UsageError, "--repeats"),
        ({"policy": 3}, UsageError, "--policy 0"),
        ({"taps": "fire9"}, UnknownNameError, "fire9"),
        ({"transform": "log"}, UsageError, "none, sqrt, l2, tune"),
        ({"pca": "many"}, UsageError, "many"),
        ({"exclude": ["sex"]}, DatasetError, "image_id, path, label, .*, ward"),
        ({"exclude": ["ward=w77"]}, DatasetError, "none; the values are , w0"),
        ({"exclude": ["phash"]}, DatasetError, "1 or true or yes"),
        ({"exclude": ["label=COVID", "label=NORMAL"]}, DatasetError, "two classes"),
        ({"group_by": "sex"}, DatasetError, "--group-by with a column"),
        ({"group_by": "phash"}, DatasetError, "an empty column"),
        ({"group_by": "label"}, SplitError, "groups of every class"),
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


def test_a_broken_run_is_trained_again_with_force(train) -> None:
    """Without it the error says so, before any work."""
    broken = train(heads=["majority"]).runs[0]
    damage_record(broken.folder)
    with pytest.raises(RunError, match="--force, or delete the folder"):
        train()
    assert train(heads=["majority"], force=True).trained == [broken.run_id]


@pytest.mark.slow
def test_two_calls_at_once_do_not_get_in_each_others_way(
    dataset, reports: Path, tmp_path: Path
) -> None:
    """Both end well; the runs are whole, and nothing else is left."""
    words = ["train-head", "--dataset", "chest", "-H", "majority", "--no-tune"]
    words += ["-H", "sklearn.naive_bayes:GaussianNB", "--repeats", "3", "--jobs", "1"]
    command = [sys.executable, "-m", "featcache", *words]
    both = [
        subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    told = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    found, broken = runs.list_runs(reports)
    assert (len(found), broken) == (6, [])
    assert [len(run.table) for run in found] == [N] * 6
    assert {path.parent for path in reports.rglob(".*")} == set()
    assert len(list(dataset.folder.glob("splits-*"))) == 3


def test_a_run_that_another_process_made_is_left_alone(
    train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes second keeps what the first has published."""
    (first,) = train(heads=["majority"]).runs
    made = (first.folder / "run.json").stat().st_mtime_ns
    with monkeypatch.context() as late:
        # At the time of the plan the run was not there yet.
        answers, is_done = iter([False]), runs.is_done
        late.setattr(
            runs, "is_done", lambda f: is_done(f) if next(answers, True) else False
        )
        assert train(heads=["majority"]).trained == [first.run_id]
    assert (first.folder / "run.json").stat().st_mtime_ns == made


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


def damage_types(folder: Path) -> None:
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | {"split": "mine"}))


def damage_sums(folder: Path) -> None:
    table = pd.read_csv(folder / "predictions.csv")
    table["p_COVID"] += 0.2
    table.to_csv(folder / "predictions.csv", index=False)


def damage_rows(folder: Path) -> None:
    table = pd.read_csv(folder / "predictions.csv")
    pd.concat([table, table[:1]]).to_csv(folder / "predictions.csv", index=False)


def damage_folds(folder: Path) -> None:
    table = pd.read_csv(folder / "predictions.csv").assign(fold=0)
    table.to_csv(folder / "predictions.csv", index=False)


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
    [
        *(damage_record, damage_schema, damage_types, damage_predictions),
        *(damage_numbers, damage_labels, damage_sums, damage_rows, damage_folds),
    ],
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
