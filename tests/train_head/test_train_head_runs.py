"""The runs that training leaves: compared where that is fit, told where broken."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toys import CLASSES

from featcache.commands import compare as comparing
from featcache.errors import RunError, UsageError
from featcache.evaluation import references


def test_the_leaderboard_is_computed_from_the_predictions(train, reports) -> None:
    """Every figure follows from predictions.csv, none from retraining."""
    train()
    board = comparing.compare(reports)
    assert [(r.rank, r.head) for r in board.rows] == [
        (1, "logreg"),
        (2, "majority"),
    ]
    row = board.rows[0]
    table = pd.read_csv(reports / "runs" / row.run_id / "predictions.csv")
    table = table[table["split"] == "train"]
    right = table[[f"p_{c}" for c in CLASSES]].to_numpy().argmax(axis=1) == [
        CLASSES.index(label) for label in table["label"]
    ]
    assert row.accuracy == pytest.approx(right.mean())
    assert row.n == len(table)
    assert row.n_groups == table["group"].nunique()
    assert row.accuracy_low < row.accuracy < row.accuracy_high
    assert row.test_accuracy_low < row.test_accuracy < row.test_accuracy_high


def test_the_metric_ranks(train, reports) -> None:
    """Less is better for a loss, more for a share."""
    train()
    best = {m: comparing.compare(reports, metric=m).rows[0] for m in comparing.METRICS}
    assert {m: r.head for m, r in best.items() if m != "ece"} == dict.fromkeys(
        [m for m in comparing.METRICS if m != "ece"], "logreg"
    )
    with pytest.raises(UsageError, match="`metric`"):
        comparing.compare(reports, metric="f2")


def test_runs_of_two_splits_are_never_ranked_together(train, reports) -> None:
    """The newest split is shown; the other is named, with the way to see it."""
    train(test_size=0)
    train(test_size=0.2)
    board = comparing.compare(reports)
    assert board.split == "patient-k5-test0.2-seed0"
    assert len(board.rows) == 2
    assert "2 runs cannot be compared" in board.excluded[0]
    assert "`split='patient-k5-test0-seed0'`" in board.excluded[0]
    other = comparing.compare(reports, split="patient-k5-test0-seed0")
    assert other.rows[0].test_accuracy is None
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
    assert [row.head for row in board.rows] == ["logreg"]
    assert broken.run_id in board.excluded[0]
    assert "`force=True`" in board.excluded[0]


def test_a_broken_run_is_trained_again_with_force(train) -> None:
    """Without it the error says so, before any work."""
    broken = train(heads=["majority"]).runs[0]
    damage_record(broken.folder)
    with pytest.raises(RunError, match="`force=True`, or delete the folder"):
        train()
    assert train(heads=["majority"], force=True).new_run_ids == [broken.run_id]


def test_nothing_to_compare_is_an_error(reports: Path) -> None:
    """The error gives the command that makes runs."""
    with pytest.raises(RunError, match="featcache train-head"):
        comparing.compare(reports)


def test_a_run_is_found_by_any_unique_part(train, reports) -> None:
    """Ids may be shortened; an ambiguous part lists the candidates."""
    train()
    assert references.find(reports, "logreg").record.head == "logreg"
    with pytest.raises(RunError, match="matches 2 of the 2 runs"):
        references.find(reports, "toy")
    with pytest.raises(RunError, match="matches none of the 2 runs"):
        references.find(reports, "xception")


def test_the_confusion_matrix_counts_every_image(train, reports) -> None:
    """Rows are true classes; both parts together are the dataset."""
    train()
    matrix = comparing.confusion(references.find(reports, "logreg"))
    assert matrix.test is not None
    assert (matrix.train + matrix.test).sum(axis=1).tolist() == [30, 30, 30]
    row = comparing.compare(reports).rows[0]
    assert np.trace(matrix.train) / matrix.train.sum() == pytest.approx(row.accuracy)
