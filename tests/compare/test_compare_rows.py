"""The leaderboard: pairs, repeats, trivial rows, and refusals."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from records import rewrite
from toy_board import CLASSES, FOLDS, GROUPS, Add

from featcache.commands.compare import Leaderboard, LeaderboardRow, compare
from featcache.dataset.manifest import Manifest, Settings
from featcache.errors import RunError
from featcache.evaluation import metrics, runs
from featcache.evaluation.record import UNTRAINED
from featcache.report import tables


def by_head(board: Leaderboard) -> dict[str, LeaderboardRow]:
    return {row.head: row for row in board.rows}


def test_differences_are_paired(add: Add, reports: Path) -> None:
    """Each run's difference and tests are those of its images and the best run's."""
    add("good", range(10))
    add("poor", range(40))
    right = np.ones((2, 200), bool)
    right[0, :10] = right[1, :40] = False
    row = by_head(compare(reports))["poor"]
    assert row.difference == pytest.approx(-0.15)
    assert row.difference_low < -0.15 < row.difference_high < 0
    assert row.p == metrics.sign_flip(*right, np.arange(200) // 2)
    assert row.p == pytest.approx(2 / 2**15)  # 15 groups of two, all one way
    assert row.p_mcnemar == metrics.mcnemar(*right)
    assert row.tied is False


def test_holm_counts_the_rows(add: Add, reports: Path) -> None:
    """Seven groups one way are p = 2 / 2^7; with three such rows it is tripled."""
    add("best")
    for head in ("a", "b", "c"):
        add(head, range(14))
    found = by_head(compare(reports))
    assert [found[h].p for h in "abc"] == pytest.approx([2 / 128] * 3)
    assert [found[h].p_holm for h in "abc"] == pytest.approx([6 / 128] * 3)
    assert not found["a"].tied
    add("d", range(14))
    assert by_head(compare(reports))["a"].tied is True  # 8 / 128


def test_the_best_has_no_test(add: Add, reports: Path) -> None:
    """A run is not held against itself; its fields are empty."""
    add("alone")
    (row,) = compare(reports).rows
    assert {getattr(row, n) for n in ("difference", "p", "p_holm", "tied")} == {None}
    assert "Holm" not in tables.caption(compare(reports))


@pytest.mark.parametrize("metric", metrics.METRICS)
def test_every_metric_has_its_own_test(add: Add, reports: Path, metric: str) -> None:
    """The difference is that of the metric, within its interval."""
    add("good", range(10), sure=0.9)
    add("poor", range(0, 120, 3), sure=0.7)
    board = compare(reports, metric=metric)
    best, row = board.rows
    assert row.difference == pytest.approx(row.score(metric) - best.score(metric))
    assert row.difference_low < row.difference < row.difference_high
    assert 0 <= row.p <= row.p_holm <= 1
    for one in board.rows:
        low, high = one.interval(metric) or (1, 0)
        assert low < one.score(metric) < high


def test_against_any_run(add: Add, reports: Path) -> None:
    """Differences turn round when another run is the reference."""
    add("good", range(10))
    poor = add("poor", range(40))
    board = compare(reports, against="poor")
    assert board.against == poor
    found = by_head(board)
    assert found["poor"].difference is None
    assert found["good"].difference == pytest.approx(0.15)
    assert tables.columns(board)[0][2] == ["1", "2"]
    assert poor in tables.caption(board)


def other_split(add: Add) -> str:
    return add("odd", split={"name": "second"}, evaluation_id="else", test=4)


def other_labels(add: Add) -> str:
    labels = [CLASSES[g % 2] for g in np.arange(2 * GROUPS) // 2]
    return add("odd", labels=[CLASSES[1], *labels[1:]], evaluation_id="else")


def other_classes(add: Add) -> str:
    return add("odd", classes=["NORMAL", "COVID"], evaluation_id="else")


def a_repeat(add: Add) -> str:
    return add("good", repeat=2)


def a_failure(add: Add) -> str:
    return add("odd", status="failed", reason="boom")


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            other_split,
            r"the split of images \(8\), the fold of images \(8\).*`split='second'`",
        ),
        (other_labels, r"the label of images \(1\)"),
        (other_classes, r"classes \(NORMAL, COVID; COVID, NORMAL\)"),
        (a_repeat, "repeat 2 of split first"),
        (a_failure, "failed: boom"),
    ],
)
def test_against_what_cannot_be_compared(
    add: Add, reports: Path, made: Callable[[Add], str], said: str
) -> None:
    """The refusal says what differs, and how to see that run."""
    odd = made(add)
    add("good")
    with pytest.raises(RunError, match=said):
        compare(reports, against=odd, split="first")


def test_other_evaluations_are_told_apart(add: Add, reports: Path) -> None:
    """Runs from before a label changed are named, with the number of images."""
    other_labels(add)
    add("good")
    (told,) = compare(reports).excluded
    assert "1 run cannot be compared" in told
    assert "(it differs in" in told
    assert "the label of images (1)" in told


def test_an_edited_table_is_left_out(add: Add, reports: Path) -> None:
    """A run whose predictions lost an image is told; the others are ranked."""
    edited = add("edited")
    add("good")
    add("poor", range(10))
    path = reports / "runs" / edited / "predictions.csv"
    pd.read_csv(path).iloc[1:].to_csv(path, index=False)
    board = compare(reports)
    assert [row.head for row in board.rows] == ["good", "poor"]
    assert edited in board.excluded[0]


def test_row_order_means_nothing(add: Add, reports: Path) -> None:
    """Predictions in another order give the same row."""
    add("good")
    poor = add("poor", range(0, 60, 3))
    before = by_head(compare(reports))["poor"].to_json()
    path = reports / "runs" / poor / "predictions.csv"
    pd.read_csv(path).sample(frac=1, random_state=0).to_csv(path, index=False)
    rewrite(path.parent)
    after = by_head(compare(reports))["poor"].to_json()
    assert {k: v for k, v in after.items() if isinstance(v, float)} == pytest.approx(
        {k: v for k, v in before.items() if isinstance(v, float)}
    )


def test_repeats_stand_in_the_row_of_the_first(add: Add, reports: Path) -> None:
    """Repeats give mean, spread and a test over all folds, and no rows of their own."""
    for repeat in range(3):
        add("good", range(10 + 2 * repeat), repeat=repeat)
        add("poor", range(40 + 6 * repeat), repeat=repeat)
    add("single", range(50))
    board = compare(reports)
    found = by_head(board)
    assert list(found) == ["good", "poor", "single"]
    assert board.excluded == []
    assert [found[h].repeats for h in found] == [3, 3, 1]
    accuracies = np.array([190, 188, 186]) / 200
    assert found["good"].accuracy == pytest.approx(0.95)
    assert found["good"].accuracy_mean == pytest.approx(accuracies.mean())
    assert found["good"].accuracy_sd == pytest.approx(accuracies.std(ddof=1))
    assert found["good"].p_repeats is None
    assert 0 < found["poor"].p_repeats < 0.05
    assert found["single"].p_repeats is None
    assert found["single"].accuracy_sd is None


def test_the_test_over_repeats_is_the_corrected_one(add: Add, reports: Path) -> None:
    """The p-value is the corrected t-test's on the differences of all ten folds."""
    wrong = {0: (range(10), range(40)), 1: (range(14), range(30))}
    change = []
    for repeat, (few, many) in wrong.items():
        add("good", few, repeat=repeat)
        add("poor", many, repeat=repeat)
        groups = np.arange(200) // 2
        fold = (groups // 2 + repeat * (groups // 10)) % FOLDS
        lost = np.isin(np.arange(200), few) * 1 - np.isin(np.arange(200), many) * 1
        change += [lost[fold == k].mean() for k in range(FOLDS)]
    assert by_head(compare(reports))["poor"].p_repeats == pytest.approx(
        metrics.corrected_t(change, test_to_train=1 / 4)
    )


def test_repeats_that_do_not_fit_are_told(add: Add, reports: Path) -> None:
    """A repeat without its first run, or on other labels, is left out by name."""
    add("good")
    labels = [CLASSES[1], *(CLASSES[g % 2] for g in np.arange(1, 2 * GROUPS) // 2)]
    changed = add("good", repeat=1, labels=labels)
    orphan = add("lost", repeat=1)
    board = compare(reports)
    assert board.rows[0].repeats == 1
    assert (
        f"run {changed}, a repeat, differs in the label of images (1)" in board.excluded
    )
    assert any(orphan in line for line in board.excluded)


TRIVIAL = [
    ("logreg", {"weights": "none"}),
    ("logreg", {"features": [{"region": "outside", "weights": "imagenet"}]}),
    *((head, {}) for head in UNTRAINED),
]


@pytest.mark.parametrize(("head", "record"), TRIVIAL)
def test_trivial_runs_stand_below_the_line(
    add: Add, reports: Path, head: str, record: dict[str, Any]
) -> None:
    """Whatever its figure, a run that sees no anatomy or learns nothing comes last."""
    add("poor", range(60))
    name = add(head, **record)
    board = compare(reports)
    assert [row.is_baseline for row in board.rows] == [False, True]
    assert board.rows[1].run_id == name
    (told,) = board.warnings
    assert "no better" in told
    assert name in told


def test_the_warning_needs_a_tie(add: Add, reports: Path) -> None:
    """A best run that is clearly ahead raises no warning; one that is tied does."""
    add("majority", range(60))
    add("good", range(10))
    assert compare(reports).warnings == []
    add("logreg", range(14), backbone="border", weights="none")
    assert "border" in compare(reports).warnings[0]
    assert "majority" not in compare(reports).warnings[0]


def test_a_large_share_is_told_without_a_tie(add: Add, reports: Path) -> None:
    """A border clearly behind the network still has 80 % of its gain over guessing."""
    add("good")
    add("logreg", range(0, 40, 2), backbone="border", weights="none")
    add("logreg", range(0, 180, 2), backbone="metadata", weights="none")
    board = compare(reports)
    border = next(row for row in board.rows if row.backbone == "border")
    assert border.tied is False
    (told,) = board.warnings
    assert told.startswith(
        "80 % of what the network gains over guessing can be had from the border alone "
        "(95 %: 7"
    )
    assert "network 1.000, the border 0.900, guessing 0.500" in told


def test_the_share_of_a_loss_is_that_of_its_gain(add: Add, reports: Path) -> None:
    """Where lower is better the share is of what guessing loses more."""
    add("good", sure=0.9)
    add("logreg", backbone="pixels48", weights="none", sure=0.8)
    (told,) = compare(reports, metric="log_loss").warnings
    share = (np.log(0.5) - np.log(0.8)) / (np.log(0.5) - np.log(0.9))
    assert told.startswith(f"{100 * share:.0f} % of what the network gains")
    assert "48x48 pixels" in told


def test_a_best_run_at_chance_has_no_share(add: Add, reports: Path) -> None:
    """Nothing is said of shares of a gain that may be none."""
    add("poor", range(0, 196, 2))
    add("logreg", range(0, 198, 2), backbone="border", weights="none")
    (told,) = compare(reports).warnings
    assert "gains over guessing" not in told
    assert "tied with or no better" in told


@pytest.mark.parametrize(("region", "told"), [("outside", 1), ("inside", 0)])
def test_a_tie_with_the_subject_alone_is_no_warning(
    add: Add, reports: Path, region: str, told: int
) -> None:
    """That all of the figure is in the lungs is good; that none is, is not."""
    add("good", range(10))
    block = {"backbone": "toy", "weights": "imagenet", "region": region}
    add("logreg", range(10), backbone=f"toy-{region}", features=[block])
    assert len(compare(reports).warnings) == told


@pytest.mark.parametrize("kind", ["ensemble", "concatenation"])
def test_trivial_by_its_features(add: Add, reports: Path, kind: str) -> None:
    """All blocks have to be controls; one network on whole pictures stands above."""
    network = {"backbone": "toy", "weights": "imagenet"}
    blocks = [{"backbone": "border", "weights": "none"}, network | {"region": "ring"}]
    add("low", backbone="border+toy:ring", features=blocks)
    add("high", backbone="border+toy", features=[*blocks, network])
    found = by_head(compare(reports))
    assert found["low"].is_baseline
    assert not found["high"].is_baseline


@pytest.mark.slow
def test_coin_flips_are_tied(add: Add, reports: Path) -> None:
    """Of 40 boards of heads that know nothing, few call the best one better."""
    rng, called = np.random.default_rng(0), 0
    for _ in range(40):
        shutil.rmtree(reports, ignore_errors=True)
        for head in ("a", "b", "c", "d"):
            add(head, np.flatnonzero(np.repeat(rng.random(GROUPS) < 0.5, 2)).tolist())
        called += any(row.tied is False for row in compare(reports).rows)
    # The best of four is chosen by the same figures, so a little more than 5 %.
    assert called <= 8, called


def _tampered(run: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    path = run / "predictions.csv"
    change(pd.read_csv(path)).to_csv(path, index=False)


def _told_right(table: pd.DataFrame) -> pd.DataFrame:
    shown = table[["p_COVID", "p_NORMAL"]].to_numpy().argmax(axis=1)
    return table.assign(label=np.array(CLASSES)[shown])


EDITS = {
    "labels": _told_right,
    "rows": lambda table: table[8:],
    "folds": lambda table: table.assign(fold=0),
    "the test set": lambda table: table.assign(
        fold=np.where(table.index < 8, -1, table["fold"]),
        split=np.where(table.index < 8, "test", table["split"]),
    ),
}


@pytest.mark.parametrize("kind", EDITS)
@pytest.mark.parametrize("forged", [False, True])
def test_edited_predictions_are_not_ranked(
    add: Add, reports: Path, kind: str, forged: bool
) -> None:
    """The edited run is named and left out, alone or beside an honest one."""
    edited = add("edited", range(30))
    folder = reports / "runs" / edited
    _tampered(folder, EDITS[kind])
    said = "predictions.csv, which was changed after it was written"
    if forged:  # the record is made to fit the file, as far as a digest goes
        rewrite(folder)
        said = "its predictions are not of the images that its record says"
    with pytest.raises(RunError, match=said):
        compare(reports)
    honest = add("honest", range(50))
    board = compare(reports)
    assert [row.run_id for row in board.rows] == [honest]
    (line,) = board.excluded
    assert edited in line
    assert said in line


def test_scores_that_the_predictions_do_not_give(add: Add, reports: Path) -> None:
    """Probabilities that were edited with their digest do not fit the scores."""
    edited = add("edited", range(30))
    folder = reports / "runs" / edited
    table = runs.load(folder).predictions()
    rewrite(folder, scores={"train": metrics.scores(table.y, table.p)})
    assert compare(reports).rows
    _tampered(folder, lambda t: t.assign(p_COVID=t["p_NORMAL"], p_NORMAL=t["p_COVID"]))
    rewrite(folder)
    with pytest.raises(RunError, match="do not give the accuracy of its record"):
        compare(reports)


def test_labels_that_have_changed_since_are_warned_of(
    add: Add, reports: Path, tmp_path: Path
) -> None:
    """The warning counts the images, and from which label to which."""
    run = runs.load(reports / "runs" / add("good"))
    table = run.table[["image_id", "label"]].assign(status="ok")
    same = Manifest(tmp_path, Settings("", "", "image"), table)
    assert compare(reports, manifest=same).warnings == []
    table = table.assign(label=[CLASSES[1]] * 2 + table["label"].tolist()[2:])
    (line,) = compare(reports, manifest=replace(same, table=table)).warnings
    assert "labels of 2 of 200 images" in line
    assert f"2 from {CLASSES[0]} to {CLASSES[1]}" in line
