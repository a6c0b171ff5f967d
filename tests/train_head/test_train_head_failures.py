"""Training heads: failures are told, bad input is refused, processes share a folder."""

import errno
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from toys import Heard, N

from featcache import heads
from featcache.commands import compare as comparing
from featcache.commands.train_head import train_head
from featcache.dataset.views import Policy
from featcache.errors import (
    DatasetError,
    FeatcacheError,
    SplitError,
    StoreError,
    UnknownNameError,
    UsageError,
)
from featcache.evaluation import fitting, runs
from featcache.heads import linear


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
    failed = {r.record.head: r.failed for r in result.runs}
    assert failed == {"logreg": False, "majority": True}
    assert result.runs[1].record.reason == "RuntimeError: boom"
    board = comparing.compare(reports)
    assert [row.head for row in board.rows] == ["logreg"]
    assert "boom" in board.excluded[0]
    monkeypatch.setattr(type(heads.make("majority")), "_fit", fit)
    assert train().new_run_ids == [result.runs[1].run_id]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_warning_of_a_library_is_one_line_with_the_run(
    train, capfd: pytest.CaptureFixture[str]
) -> None:
    """What it means is said; nothing of it reaches stderr by itself, in workers too."""
    for jobs in (1, 2):
        messages: list[str] = []
        result = train(
            heads=["sklearn.linear_model:LogisticRegression(max_iter=1)"],
            folds=3,
            jobs=jobs,
            force=True,
            reporter=Heard(messages),
        )
        (message,) = messages
        assert message.startswith(f"{result.runs[0].run_id}: ConvergenceWarning: lbfgs")
        assert "In 4 of 4 fits. The solver stopped before it converged" in message
        assert "\n" not in message
    assert capfd.readouterr().err == ""


@pytest.mark.filterwarnings("default")
def test_an_svm_by_landmarks_says_so_once_a_run(
    train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is trained, and in the record for each part."""
    monkeypatch.setitem(linear.Svm.__init__.__kwdefaults__, "exact_rows", 10)
    messages: list[str] = []
    result = train(heads=["svm"], folds=3, jobs=1, reporter=Heard(messages=messages))
    record = result.runs[0].record
    (message,) = [text for text in messages if "ApproximationWarning" in text]
    assert "more than 10 training rows: the kernel is approximated by" in message
    assert len([one for one in record.tuning if "Nystroem" in (one.note or "")]) == 4
    assert record.head_is.params["exact_rows"] == 10


def test_too_little_space_for_the_features_is_an_error(
    train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is written to the mapped file, which would kill the process."""

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(OSError, match=r"No space left.*0\.npy"):
        train()


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
    assert run.record.reason == "ValueError: fold 2"
    assert [path.name for path in run.folder.iterdir()] == ["run.json"]
    assert "scores" not in json.loads((run.folder / "run.json").read_text())


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
    *ended, last = err.splitlines()
    assert re.fullmatch(r"Failed: (\w{6}) majority-toy-\1\w+: ValueError: boom", last)
    assert "majority on toy failed (ValueError: boom)" in ended[0]
    assert "logreg-toy-" in out
    records = json.loads(run(*words, "--json")[1])
    assert [record["status"] for record in records] == ["failed", "ok"]
    assert records[1]["tuning"] == []


def test_no_fit_without_the_leak_guard() -> None:
    """A group on both sides stops the fit itself, whatever made the split."""
    X = np.zeros((4, 1, 2), np.float32)
    with pytest.raises(SplitError, match="p1"):
        fitting.fit_predict(
            heads.make("majority"),
            X,
            y=np.array([0, 1, 0, 1]),
            groups=np.array(["p0", "p1", "p1", "p2"]),
            train=np.array([0, 1]),
            held_out=np.array([2, 3]),
            n_classes=2,
        )


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"heads": ["logrg"]}, UnknownNameError, "mean logreg"),
        ({"backbones": ["vgg19"]}, UnknownNameError, "featcache extract"),
        ({"views": -1}, UsageError, "`views`"),
        ({"views": 7}, StoreError, "--views 7"),
        ({"jobs": 0}, UsageError, "`jobs`"),
        ({"repeats": 0}, UsageError, "`repeats`"),
        ({"policy": Policy(seed=9)}, StoreError, "leave `policy` out"),
        ({"taps": "fire9"}, UnknownNameError, "fire9"),
        ({"transform": "log"}, UsageError, "none, sqrt, l2, tune"),
        ({"pca": "many"}, UsageError, "many"),
        ({"exclude": ["sex"]}, DatasetError, "image_id, path, label, .*, ward"),
        (
            {"exclude": ["ward=w77"]},
            DatasetError,
            "matches no image.*whose values are empty, w0",
        ),
        ({"exclude": ["phash"]}, DatasetError, "1 or true or yes"),
        ({"exclude": ["label=COVID", "label=NORMAL"]}, DatasetError, "two classes"),
        ({"group_by": "sex"}, DatasetError, "`group_by` to name a column"),
        ({"group_by": "phash"}, DatasetError, "is empty"),
        ({"group_by": "label"}, SplitError, "groups of every class"),
        ({"folds": 1}, SplitError, "`folds=2`"),
        ({"folds": 40}, SplitError, "groups"),
        ({"test_size": 1.0}, SplitError, "`test_size=0.2`"),
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
        assert train(heads=["majority"]).new_run_ids == [first.run_id]
    assert (first.folder / "run.json").stat().st_mtime_ns == made


@pytest.mark.slow
def test_parallel_processes_give_the_same_figures(train) -> None:
    """Folds side by side predict what folds one by one predict; Keras included."""
    names = ["softmax", "xgboost", "sklearn.neighbors:KNeighborsClassifier"]
    said: list[int] = []
    alone = train(heads=names, test_size=0)
    before = [run.predictions().p for run in alone.runs]
    together = train(
        heads=names,
        test_size=0,
        jobs=2,
        force=True,
        reporter=Heard(at_each=lambda _, done, total: said.append(done)),
    )
    assert said == list(range(1, 19))
    for one, p, two in zip(alone.runs, before, together.runs, strict=True):
        assert one.run_id == two.run_id
        np.testing.assert_allclose(p, two.predictions().p, atol=1e-4)
        assert (two.folder / two.record.model).is_file()
    assert (together.runs[0].folder / "history.csv").is_file()
