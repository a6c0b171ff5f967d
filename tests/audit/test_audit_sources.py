"""The audit of sources: columns, file names and sizes that give the class away."""

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import pytest
from audit_toys import PATIENT, Y, make_run, of, put_store, with_table
from toys import CLASSES, N

from featcache.commands.audit import (
    FINDING,
    PASSED,
    audit,
    confounding,
    drift,
    source_probe,
)
from featcache.commands.audit.context import AuditContext
from featcache.commands.audit.probe import LinearProbe
from featcache.dataset.manifest import Manifest


def context(dataset: Manifest, reports: Path) -> AuditContext:
    return AuditContext(dataset, reports / dataset.dataset, lambda *_: None)


@pytest.mark.parametrize(
    ("table", "v"),
    [([[50, 0], [0, 50]], 1.0), ([[25, 25], [25, 25]], 0.0), ([[9], [9]], 0.0)],
)
def test_cramers_v(table: list[list[int]], v: float) -> None:
    """1 where a value means a class, 0 where it says nothing or there is one class."""
    assert confounding.cramers_v(np.array(table)) == pytest.approx(v, abs=0.01)


def test_a_column_is_judged_over_groups() -> None:
    """Ten images of each of four patients are four patients: p cannot be small."""
    values = pd.Series(np.repeat(["x", "x", "y", "y"], 10))
    classes = pd.Series(np.repeat(["a", "a", "b", "b"], 10))
    patients = pd.Series(np.repeat([*"1234"], 10))
    assert confounding.permuted(values, classes, patients)[1] > 0.2
    alone = pd.Series(np.arange(40).astype(str))
    assert confounding.permuted(values, classes, alone)[1] == pytest.approx(0.001)


def test_a_confounded_source_is_found(toy: Manifest, reports: Path) -> None:
    """A ward of one class is strong evidence, alone in its class, and named."""
    names = np.array(["north", "south", "south"])
    table = toy.table.assign(hospital=names[Y], disputed="")
    result = audit(with_table(toy, table), reports)
    assert of(result, "FC030").is_issue
    assert of(result, "FC030").evidence[0]["column"] == "hospital"
    (row,) = [r for r in of(result, "FC031").evidence if r["column"] == "hospital"]
    assert (row["value"], row["class"], row["images"]) == ("north", "COVID", 30)


def test_a_column_that_is_the_label_or_the_group_is_no_source(
    toy: Manifest, reports: Path
) -> None:
    """Another spelling of the class says nothing new."""
    table = toy.table.assign(finding=[f"c{y}" for y in Y])
    columns = confounding.columns(context(with_table(toy, table), reports))
    assert "finding" not in columns
    assert "patient" not in columns


def test_a_published_split_is_no_source(toy: Manifest, reports: Path) -> None:
    """Neither the column split, nor another that says train or test, nor such folders.

    A site that is held out stays one.
    """
    parts = np.array(["train", "test"])[np.arange(N) % 2]
    table = toy.table.assign(
        split=np.array([*"01"])[np.arange(N) % 2],
        fold=np.where(np.arange(N) % 3, parts, ""),
        site=np.array([*"AB"])[np.arange(N) % 2],
        path=[f"{part}/{i}.png" for i, part in enumerate(parts)],
    )
    columns = confounding.columns(context(with_table(toy, table), reports))
    assert "site" in columns
    assert not {"split", "fold", "folder"} & {*columns}


@pytest.mark.parametrize(
    ("stem", "form"),
    [("COVID (12)", "a (9)"), ("00012_000", "9_9"), ("1F-a0-77", "x-x-9")],
)
def test_patterns_of_file_names(stem: str, form: str) -> None:
    """Digits, letters and both are told apart; signs stay."""
    assert confounding.pattern(stem) == form


def test_the_name_of_a_class_is_no_pattern() -> None:
    """Files that are named by their class in the same way have one pattern."""
    columns = {
        confounding.pattern(f"{name} (7)", CLASSES)
        for name in ("COVID", "NORMAL", "Viral pneumonia")
    }
    assert columns == {"= (9)"}


def test_many_numbers_become_quarters_and_missing_ones_stay_so() -> None:
    """Ages are cut in four, and having none is a value too."""
    columns = confounding.few(pd.Series([str(i) for i in range(40)] + [""] * 4))
    assert sorted(columns.value_counts()) == [4, 10, 10, 10, 10]
    assert (columns == confounding.NONE).sum() == 4


def test_a_source_on_which_the_run_is_worse(toy: Manifest, reports: Path) -> None:
    """All errors in one ward: it is named, and the others are not."""
    make_run(toy, reports, "net", 1.0, wrong=tuple(range(0, 30)))
    table = toy.table.assign(ward=["bad" if i < 30 else "good" for i in range(N)])
    answer = of(audit(with_table(toy, table), reports), "FC032")
    assert answer.status == FINDING
    worse = {(r["column"], r["value"]) for r in answer.evidence if r["worse"]}
    assert ("ward", "bad") in worse
    assert ("ward", "good") not in worse


@pytest.mark.parametrize("biased", [True, False])
def test_features_that_hold_the_source(
    biased: bool, toy: Manifest, reports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a class looks different at each site, the site is told, and is missed."""
    monkeypatch.setattr(source_probe, "MANY", 10)
    site = PATIENT // 9 % 2
    rows = np.random.default_rng(0).normal(size=(N, 8))
    rows += 5 * np.eye(8)[Y + 3 * site * biased]
    make_run(toy, reports, "net", 0.9, store=put_store(toy, rows))
    table = toy.table.drop(columns=["ward", "disputed"])
    table["site"] = np.array(["s0", "s1"])[site]
    result = audit(with_table(toy, table), reports)
    status = FINDING if biased else PASSED
    assert [of(result, code).status for code in ("FC033", "FC034")] == [status] * 2
    assert {row["column"] for row in of(result, "FC034").evidence} == {"site"}


def test_sources_of_one_class_each_are_an_issue(toy: Manifest, reports: Path) -> None:
    """Where no source has two classes, the checks of sources say so, without a run."""
    names = np.array(["north", "south", "east"])
    table = toy.table.assign(hospital=names[Y])
    result = audit(with_table(toy, table), reports)
    for code in ("FC033", "FC034"):
        assert of(result, code).is_issue
        text = of(result, code).message
        assert "no column could tell a hospital from a disease here" in text
        assert "north: COVID" in text


def test_a_hospital_for_each_class_is_a_source(toy: Manifest, reports: Path) -> None:
    """A column named as a source is one, also where it restates the class."""
    table = toy.table.assign(hospital=np.array([*"NSE"])[Y], finding=Y.astype(str))
    here = context(with_table(toy, table), reports)
    assert "hospital" in confounding.columns(here)
    assert "finding" not in confounding.columns(here)
    assert of(audit(here.manifest, reports), "FC034").is_issue


@pytest.mark.parametrize(
    ("path", "folder"),
    [("train/COVID/a.png", "train"), ("covid/images/a.png", "images"), ("a.png", ".")],
)
def test_a_folder_that_is_a_class_is_no_source(path: str, folder: str) -> None:
    """What is left of the path may be a source."""
    assert confounding.folder(PurePosixPath(path), CLASSES) == folder


def test_each_source_is_left_out_by_itself(
    toy: Manifest, reports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row a source; both heads are fitted on as many images, none of its groups."""
    monkeypatch.setattr(source_probe, "MANY", 10)
    fits: list[int] = []
    predict = LinearProbe.predict

    def counting(self: LinearProbe, y: Any, train: Any, held_out: Any) -> Any:
        patients = self.table["group"].to_numpy(str)
        assert not {*patients[train]} & {*patients[held_out]}
        fits.append(len(train))
        return predict(self, y, train, held_out)

    monkeypatch.setattr(LinearProbe, "predict", counting)
    site = np.where(PATIENT < 9, 0, 1 + PATIENT // 9 % 2)
    rows = np.random.default_rng(0).normal(size=(N, 8)) + 5 * np.eye(8)[Y]
    make_run(toy, reports, "net", 0.9, store=put_store(toy, rows))
    table = toy.table.drop(columns=["ward", "disputed"])
    table["site"] = np.array([*"abc"])[site]
    here = context(with_table(toy, table), reports)
    answer = source_probe._held_out_source(here)
    assert answer.status == PASSED
    assert sorted(row["value"] for row in answer.evidence) == [*"abc"]
    sizes = {row["value"]: row["trained_on"] for row in answer.evidence}
    assert {*fits} == {*sizes.values()}


def test_drift_by_hand() -> None:
    """All larger is 1, all equal a half."""
    groups, inside = np.array([*"abcd"]), np.array([False, False, True, True])
    assert drift.separation(np.array([1.0, 2, 3, 4]), inside, groups)[0] == 1.0
    assert drift.separation(np.ones(4), inside, groups)[0] == 0.5


def test_larger_images_of_a_class_are_a_drift(toy: Manifest, reports: Path) -> None:
    """The width of one class stands out, that of parts does not."""
    make_run(toy, reports, "net", 0.9)
    sizes = np.random.default_rng(0).integers(100, 200, N)
    table = toy.table.assign(width=sizes + 200 * (Y == 0), height=100)
    result = audit(with_table(toy, table), reports)
    first = of(result, "FC050").evidence[0]
    assert (first["class"], first["drifts"]) == ("COVID", True)
    assert of(result, "FC050").status == FINDING
    assert of(result, "FC051").status == PASSED
