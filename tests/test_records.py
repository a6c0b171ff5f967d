"""Records as types: what is written is read back; what no writer wrote is refused."""

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from records import make_record, make_run

from featcache.errors import RunError
from featcache.evaluation import runs
from featcache.evaluation.record import RunRecord

BLOCK = make_record().to_json()["features"][0]
RECORDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "failed": {"status": "failed", "reason": "no luck"},
    "region": {"features": [{"region": "inside", "mask": "lungs"}]},
    "calibrated": {"calibration": {"method": "temperature", "kept": True}},
    "embedded": {"head_is": {"embedding": {"transform": "sqrt", "pca": 50}}},
    "ensemble": {
        "members": ["a", "b"], "member_digests": ["0", "1"], "model": None,
        "member_weights": {"0": [0.5, 0.5], "test": [0.25, 0.75]},
    },
    "finetuned": {
        "trainings": [{"fold": -1}], "parameters": 9, "trainable_parameters": 3,
        "init_head": "a", "max_minutes": 1.5, "options": ["epochs 3"],
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", RECORDS)
def test_a_record_comes_back_as_it_was_written(kind: str, tmp_path: Path) -> None:
    """run.json holds all of it, and only what a run of its kind has."""
    record = make_record(**RECORDS[kind])
    run = make_run(tmp_path / record.dataset, "logreg-toy-1", **RECORDS[kind])
    assert run.record == record
    written = json.loads((run.folder / "run.json").read_text())
    assert RunRecord.from_json(written) == record
    assert written.keys() >= {"weights", "input_size", "store", "contract_id"}
    assert ("scores" in written) is (kind != "failed")
    assert ("members" in written) is (kind == "ensemble")
    assert ("trainings" in written) is (kind == "finetuned")


def test_a_score_without_a_value_is_null_on_disk(tmp_path: Path) -> None:
    """JSON has no NaN: the AUC of a part with one class alone is null there."""
    run = make_run(tmp_path, "logreg-toy-1", scores={"test": {"auc": None}})
    assert math.isnan(run.record.scores["test"]["auc"])
    written = json.loads((run.folder / "run.json").read_text())
    assert written["scores"] == {"test": {"auc": None}}


def test_what_blocks_have_in_common_follows_from_them() -> None:
    """Weights that differ are "several"; size, store and contract are None."""
    other = {"weights": "file", "input_size": 64, "store": "b.h5", "contract_id": "d"}
    one, both = make_record(), make_record(features=[{}, other])
    names = ("weights", "input_size", "store", "contract_id")
    assert [getattr(one, name) for name in names] == ["random", 32, "toy.h5", "c"]
    assert [getattr(both, name) for name in names] == ["several", None, None, None]


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"schema": 99}, "schema 99"),
        ({"status": "done"}, "status 'done'"),
        ({"status": None}, "no status"),
        ({"status": "failed"}, "no reason"),
        ({"classes": "COVID"}, "classes is not a list"),
        ({"classes": ["a", "a"]}, "repeated classes"),
        ({"classes": [1]}, r"classes\[0\] is not text"),
        ({"views": True}, "views is not an integer"),
        ({"views": 10**30}, "views is too large"),
        ({"seed": 0.5}, "seed is not an integer but 0.5"),
        ({"fit_seconds": math.nan}, "fit_seconds is not a finite number"),
        ({"fit_seconds": 10**400}, "fit_seconds is too large"),
        ({"scores": {"train": {"auc": math.inf}}}, "scores.train.auc is not a finite"),
        ({"scores": {"train": 1}}, "scores.train is not an object"),
        ({"policy": {"seed": [math.nan]}}, "policy.seed is not a finite number"),
        ({"split": "mine"}, "split is not an object"),
        ({"split": {"name": "s"}}, "no split.folds"),
        ({"features": [BLOCK | {"dim": "6"}]}, r"features\[0\].dim is not an integer"),
        ({"features": [BLOCK | {"region": "lid"}]}, "an unknown region"),
        ({"features": [BLOCK | {"store": "../a.h5"}]}, "not a file name"),
        ({"model": "/etc/passwd"}, "not a file name"),
        ({"members": ["a"], "member_weights": {"0": [0.5, 0.5]}}, "match the members"),
        ({"scores": ...}, "no scores"),
        ({"created": ...}, "no created"),
        ({"head_is": ...}, "no head_is"),
    ],
)
def test_a_record_that_no_writer_wrote(
    tmp_path: Path, changes: dict[str, Any], names: str
) -> None:
    """It is one error of one line that names the field."""
    run = make_run(tmp_path, "logreg-toy-1")
    path = run.folder / "run.json"
    record = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in record.items() if v is not ...}))
    with pytest.raises(RunError, match=names) as caught:
        runs.load(run.folder)
    assert "\n" not in str(caught.value)
    assert runs.list_runs(tmp_path)[0] == []


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "{}", "[" * 9999])
def test_a_file_that_is_no_record(tmp_path: Path, text: str) -> None:
    """It is the same error, whatever JSON or none it is."""
    run = make_run(tmp_path, "logreg-toy-1")
    (run.folder / "run.json").write_text(text)
    with pytest.raises(RunError, match=r"unusable run\.json \("):
        runs.load(run.folder)


def test_a_damaged_record_is_one_line(tmp_path: Path) -> None:
    """Whatever bit of run.json is flipped, or where it is cut."""
    run = make_run(tmp_path, "logreg-toy-1", **RECORDS["ensemble"])
    path, rng = run.folder / "run.json", random.Random(0)
    whole = path.read_bytes().rstrip()
    for number in range(60):
        at = rng.randrange(len(whole))
        flipped = whole[at] ^ 1 << rng.randrange(8)
        path.write_bytes(whole[:at] + bytes([flipped]) * (number % 4 > 0))
        if number % 4 > 1:
            path.write_bytes(whole[:at] + bytes([flipped]) + whole[at + 1 :])
        if path.read_bytes().split() == whole.split():
            continue
        with pytest.raises(RunError) as caught:
            runs.load(run.folder)
        assert "\n" not in str(caught.value)
    path.write_bytes(whole)
    assert runs.load(run.folder).record == run.record


def test_a_record_names_its_files(tmp_path: Path) -> None:
    """A file that is another, is gone, or is not named, is not read."""
    folder = tmp_path / "runs" / "logreg-toy-1"
    with runs.saving(folder, make_record()) as temp:
        for name in ("head.json", "history.csv"):
            (temp / name).write_text(name)
    run = runs.load(folder)
    assert sorted(run.record.files) == ["head.json", "history.csv"]
    assert run.file("head.json").read_text() == "head.json"
    (folder / "head.json").write_text("another")
    (folder / "history.csv").unlink()
    (folder / "more.csv").touch()
    for name, said in (
        ("head.json", "changed after it was written"),
        ("history.csv", "no .*history.csv"),
        ("more.csv", "no SHA-256 is recorded"),
    ):
        with pytest.raises(RunError, match=said):
            run.file(name)
