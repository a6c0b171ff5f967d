"""The audit of runs: what baselines and regions reach, and labels runs contradict."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from audit_toys import FOLDS, PATIENT, Y, make_run, of, put_store, with_table
from toys import CLASSES, N

from featcache.commands.audit import (
    FINDING,
    NOT_APPLICABLE,
    PASSED,
    audit,
    labels,
    shortcuts,
)
from featcache.dataset.manifest import Manifest
from featcache.errors import RunError


def test_the_share_of_an_advantage() -> None:
    """From 0.5 to 0.9 is the advantage; a run at 0.7 has half of it."""
    hundred = np.arange(100)
    value, (low, high) = shortcuts.share(
        hundred < 90, hundred < 70, hundred < 50, hundred.astype(str)
    )
    assert value == pytest.approx(0.5)
    assert low < 0.5 < high


@pytest.mark.parametrize("backbone", ["metadata", "border"])
def test_a_baseline_that_reaches_much_of_the_best_is_found(
    backbone: str, toy: Manifest, reports: Path
) -> None:
    """At 0.8 of 0.9 it fires, each under its own code, and the others do not."""
    make_run(toy, reports, "net", 0.9)
    make_run(toy, reports, backbone, 0.8)
    result = audit(toy, reports)
    code = {"metadata": "FC020", "border": "FC021"}
    assert of(result, code.pop(backbone)).is_issue
    (other,) = code.values()
    assert of(result, other).status == NOT_APPLICABLE
    assert "featcache extract --dataset chest -b" in of(result, other).message


@pytest.mark.parametrize(
    ("status", "outside", "inside", "ring"),
    [(FINDING, 0.8, 0.4, 0.8), (PASSED, 0.35, 0.88, 0.35)],
)
def test_how_much_of_the_best_run_a_region_reaches(
    status: str, outside: float, inside: float, ring: float, toy: Manifest,
    reports: Path,
) -> None:  # fmt: skip
    """Without the subject much is a finding, with it alone little is."""
    make_run(toy, reports, "net", 0.9)
    for region, free in {"outside": outside, "inside": inside, "ring": ring}.items():
        make_run(toy, reports, "net", free, region=region)
    result = audit(toy, reports)
    assert [of(result, f"FC02{n}").status for n in (3, 4, 5)] == [status] * 3
    assert result.run_id == "logreg-net"


def test_a_region_without_a_network_is_no_answer(toy: Manifest, reports: Path) -> None:
    """Pixels of a region say nothing of what networks see, nor of whole pictures."""
    make_run(toy, reports, "net", 0.9)
    for region in ("outside", "inside", "ring"):
        make_run(toy, reports, "pixels48", 0.6, region=region)
    result = audit(toy, reports)
    for code in ("FC022", "FC023", "FC024", "FC025"):
        assert of(result, code).status == NOT_APPLICABLE


def test_checks_of_regions_say_what_is_lacking(toy: Manifest, reports: Path) -> None:
    """Masks where there are none, else the commands; a ring needs no masks."""
    make_run(toy, reports, "net", 0.9)
    assert "No masks" in of(audit(toy, reports), "FC023").message
    command = "featcache train-head --dataset chest -b none --region "
    assert f"{command}ring" in of(audit(toy, reports), "FC025").message
    masked = with_table(toy, toy.table.assign(mask="masks/1.png"))
    assert f"{command}inside" in of(audit(masked, reports), "FC024").message


def test_a_best_run_at_chance_has_no_advantage_to_share(
    toy: Manifest, reports: Path
) -> None:
    """Where the network learns nothing, the question has no meaning."""
    make_run(toy, reports, "net", 0.34)
    make_run(toy, reports, "border", 0.33)
    assert "no better" in of(audit(toy, reports), "FC021").message


def test_the_best_run_is_no_trivial_one(toy: Manifest, reports: Path) -> None:
    """A baseline above the network, or a majority head, is never the best run."""
    net = make_run(toy, reports, "net", 0.7)
    make_run(toy, reports, "pixels48", 0.9)
    make_run(toy, reports, "other", 1.0, head="majority")
    assert audit(toy, reports).run_id == net.run_id


def test_runs_on_another_split_can_be_asked_for(toy: Manifest, reports: Path) -> None:
    """By its name; without one it is the newest, and a name without runs is refused."""
    make_run(toy, reports, "net", 0.7)
    other = make_run(toy, reports, "other", 0.5, split="image")
    assert audit(toy, reports).run_id != other.run_id
    assert audit(toy, reports, split="image").run_id == other.run_id
    with pytest.raises(RunError, match="split none-such"):
        audit(toy, reports, split="none-such")


def test_confident_learning_by_hand() -> None:
    """Thresholds are 0.6 and 0.7: only the last image reaches that of another class."""
    P = np.array([[0.9, 0.1], [0.65, 0.35], [0.4, 0.6], [0.1, 0.9], [0.45, 0.55],
                  [0.25, 0.75]])  # fmt: skip
    y = np.array([0, 0, 1, 1, 1, 0])
    assert P[y == 0, 0].mean() == pytest.approx(0.6)
    assert labels.confident(y, P).tolist() == [False] * 5 + [True]


def test_the_least_probable_labels_come_first() -> None:
    """And not the largest margins; images predicted as labelled are not listed."""
    P = np.array([[0.3, 0.6, 0.1], [0.2, 0.4, 0.4], [0.9, 0.1, 0], [0.1, 0.9, 0]])
    table = pd.DataFrame(P, columns=[f"p_{name}" for name in "abc"])
    table = table.assign(image_id=[*"wxyz"], path=[*"WXYZ"], label=[*"aaaa"])
    rows = labels.ranked([*"abc"], table)
    assert rows["path"].tolist() == ["Z", "X", "W"]
    assert rows["probability"].tolist() == [0.1, 0.2, 0.3]
    assert rows["suggested"].tolist() == ["b", "b", "b"]


def test_planted_label_errors_come_first(toy: Manifest, reports: Path) -> None:
    """The contradicted images are listed by path with the class that was seen."""
    make_run(toy, reports, "net", 1.0, wrong=(3, 44))
    answer = of(audit(toy, reports), "FC040")
    assert {row["path"] for row in answer.evidence} == {"3.png", "44.png"}
    (row,) = [row for row in answer.evidence if row["path"] == "3.png"]
    assert (row["label"], row["suggested"]) == (CLASSES[Y[3]], CLASSES[(Y[3] + 1) % 3])


def test_labels_that_changed_since_are_an_issue(toy: Manifest, reports: Path) -> None:
    """Each by its path with both labels; images that are gone do not count."""
    make_run(toy, reports, "net", 0.9)
    assert of(audit(toy, reports), "FC042").status == PASSED
    table = toy.table.copy()
    a, b = CLASSES[Y[4]], CLASSES[(Y[4] + 1) % 3]
    table.loc[[4, 5], "label"] = b
    finding = of(audit(with_table(toy, table.drop(index=0)), reports), "FC042")
    assert finding.is_issue
    assert f"2 of {N} images have another label" in finding.message
    assert f"(2 from {a} to {b})" in finding.message
    assert [(row["path"], row["before"], row["now"]) for row in finding.evidence] == [
        ("4.png", a, b), ("5.png", a, b),
    ]  # fmt: skip


def test_labels_are_dealt_to_whole_groups() -> None:
    """Images of a group keep one class, and the classes stay as frequent."""
    dealt = labels.shuffled(Y, PATIENT.astype(str), 0)
    assert (dealt[::2] == dealt[1::2]).all()
    assert np.bincount(dealt).tolist() == np.bincount(Y).tolist()
    assert (dealt != Y).any()


@pytest.mark.parametrize(
    ("folds", "status"), [(FOLDS, PASSED), (np.arange(N) % 2, FINDING)]
)
def test_folds_that_part_patients_can_learn_shuffled_labels(
    folds: np.ndarray, status: str, toy: Manifest, reports: Path
) -> None:
    """Two pictures of a patient in two folds give its dealt label away."""
    path = put_store(toy, np.random.default_rng(0).normal(size=(N, 60))[PATIENT])
    alone = None if status == PASSED else [f"g{i}" for i in range(N)]
    make_run(toy, reports, "net", 0.9, folds=folds, store=path, groups=alone)
    assert of(audit(toy, reports), "FC041").status == status
