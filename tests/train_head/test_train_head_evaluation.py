"""Training heads: every image is judged once, without a leak, and nothing twice."""

import json

import numpy as np
import pytest
from toys import CLASSES, N, image_ids

import featcache
from featcache import heads
from featcache.dataset import manifest
from featcache.errors import StoreError
from featcache.evaluation import calibration, fitting, metrics, runs


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
    assert [r.record.tta for r in (averaged, plain, alone)] == [True, False, False]
    assert len({r.run_id for r in (averaged, plain, alone)}) == 3
    p = [r.predictions().p for r in (averaged, plain, alone)]
    assert np.abs(p[0] - p[1]).max() > 1e-4
    assert np.abs(p[1] - p[2]).max() > 1e-4


def test_a_second_call_trains_nothing(train, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same inputs find the same runs; --force trains again."""
    first = train()
    assert len(first.new_run_ids) == 2
    monkeypatch.setattr(fitting, "fit_predict", None)
    again = train()
    assert again.new_run_ids == []
    assert [r.run_id for r in again.runs] == [r.run_id for r in first.runs]
    monkeypatch.undo()
    assert train(force=True).new_run_ids == first.new_run_ids


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
    assert before.record.evaluation_id != after.record.evaluation_id


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
    with pytest.raises(StoreError, match="none or fewer for 2 of them") as caught:
        train()
    hint = f"leave them out: `exclude='path={more['path'].iloc[0]}'`."
    assert caught.value.hint.endswith(hint)
    after = json.loads(path.read_text())["images"]
    assert {k: after[k] for k in before} == before
    assert after[more["image_id"].iloc[0]] == before[image_ids()[0]]


def test_a_saved_model_predicts_what_the_record_says(train, dataset) -> None:
    """The model beside the record is the one refitted on all of train."""
    (run,) = train(heads=["logreg"]).runs
    head = heads.load(run.folder)
    calibrated = calibration.from_record(run.record.calibration)
    (path,) = (dataset.folder / "features").glob("*.h5")
    X, _, _, meta = featcache.load(path, views=2)
    tests = set(run.table.loc[run.table["split"] == "test", "image_id"])
    rows = meta["image_id"].isin(tests).to_numpy()
    p = head.predict_proba(X[rows]).reshape(len(tests), 3, -1).mean(axis=1)
    np.testing.assert_allclose(calibrated(p), run.predictions("test").p, atol=1e-6)


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
    assert before[1].record.calibration.kept
    for one, two in zip(before, after, strict=True):
        assert one.run_id != two.run_id
        for key in ("tuning", "calibration"):
            assert getattr(one.record, key) == getattr(two.record, key)
        for part in ("train", "test"):
            p = [run.predictions(part).p for run in (one, two)]
            np.testing.assert_array_equal(*p)


def test_calibration_is_cross_fitted(train) -> None:
    """Out-of-fold by the other folds, the test part by all; the record says how."""
    (plain,) = train(heads=["logreg"], calibrate=False).runs
    (run,) = train(heads=["logreg"]).runs
    assert plain.record.calibration is None
    out = plain.table.query("split == 'train'")
    part = plain.predictions()
    found = calibration.cross_fit(part.y, part.p, out["fold"].to_numpy())
    assert run.record.calibration == found.record
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
    assert run.record.calibration is None
    assert train(heads=[name], calibrate=False).new_run_ids == []


def test_what_was_tuned_is_in_the_record(train) -> None:
    """An entry for each fold and one for the refit; none where nothing was chosen."""
    (tuned,) = train(heads=["logreg"], tune=True).runs
    assert [entry.fold for entry in tuned.record.tuning] == [0, 1, 2, 3, 4, -1]
    for entry in tuned.record.tuning:
        assert entry.selected.keys() <= entry.tried[0].keys()
        assert entry.log_loss == min(row["log_loss"] for row in entry.tried)
    assert train(heads=["majority"]).runs[0].record.tuning == []


def test_excluded_images_are_not_there(train, dataset) -> None:
    """Neither trained on nor judged; the split has a name of its own."""
    result = train(heads=["majority"], exclude=["disputed"])
    assert sorted(result.runs[0].table["image_id"]) == image_ids()[6:]
    assert result.split.name == "patient-without-disputed-k5-test0.2-seed0"
    assert result.runs[0].record.exclude == ["disputed"]
    others = [["disputed=yes"], ["ward=w1", "ward=w0", "ward=w0"]]
    ids = [train(heads=["majority"], exclude=other).runs[0] for other in others]
    assert [len(run.table) for run in ids] == [84, 85]
    assert ids[1].record.split.name.startswith("patient-without-")
    assert "exclude" not in manifest.load(dataset.folder).table["status"].unique()


def test_groups_can_be_others_for_an_evaluation(train) -> None:
    """Every image alone, or another column; the manifest's own is no change."""
    result = train(heads=["majority"], group_by="image")
    (run,) = result.runs
    assert (run.table["group"] == run.table["image_id"]).all()
    assert run.record.n_groups == N
    assert result.split.name == "image-k5-test0.2-seed0"
    (ward,) = train(heads=["majority"], group_by="ward").runs
    of_none = ward.table.set_index("image_id").loc[image_ids()[0]]
    assert of_none["group"] == image_ids()[0]
    assert ward.record.split.group_by == "ward"
    same = train(heads=["majority"], group_by="patient").runs[0]
    assert same.run_id == train(heads=["majority"]).runs[0].run_id


def test_repeats_draw_other_folds_and_keep_the_test_part(train, dataset) -> None:
    """One recipe on several draws of the folds; repeat 0 is the run as ever."""
    alone = train(heads=["logreg"], test_size=0.3)
    result = train(heads=["logreg"], test_size=0.3, repeats=3)
    assert result.new_run_ids == [run.run_id for run in result.runs[1:]]
    assert result.runs[0].run_id == alone.runs[0].run_id
    splits = [run.record.split for run in result.runs]
    base = "patient-k5-test0.3-seed0"
    assert [split.name for split in splits] == [base, f"{base}-r1", f"{base}-r2"]
    assert [split.repeat for split in splits] == [0, 1, 2]
    assert {split.base for split in splits} == {base}
    for key, count in (("recipe_id", 1), ("evaluation_id", 3)):
        assert len({getattr(run.record, key) for run in result.runs}) == count
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
