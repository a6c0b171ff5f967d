"""The audit of duplicates and torn groups, and the fixed table; it touches no file."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from audit_toys import FOLDS, of, planted, with_table, write_split
from PIL import Image
from records import make_run as write_run
from toys import N

from featcache.commands.audit import (
    FINDING,
    NOT_APPLICABLE,
    PASSED,
    audit,
    base,
    context,
    fixes,
    similarity,
)
from featcache.commands.audit.context import AuditContext
from featcache.commands.audit.duplicates import perceptual
from featcache.commands.audit.similarity import PairTable
from featcache.commands.scan import scan
from featcache.core.progress import SILENT
from featcache.dataset.manifest import Manifest
from featcache.dataset.near_duplicates import CORRELATION
from featcache.errors import DatasetError, UsageError


def test_files_of_the_same_bytes_are_told(toy: Manifest, reports: Path) -> None:
    """A duplicate of the manifest is evidence; under two labels it is an issue."""
    table = toy.table.copy()
    table.loc[5, ["status", "reason"]] = ["duplicate", "same bytes as 4.png"]
    table.loc[7, ["status", "reason"]] = ["duplicate", "same bytes under two labels"]
    result = audit(with_table(toy, table), reports)
    assert [row["path"] for row in of(result, "FC001").evidence] == ["5.png", "7.png"]
    assert [row["path"] for row in of(result, "FC002").evidence] == ["7.png"]
    assert of(result, "FC002").is_issue
    assert not of(result, "FC001").is_issue


def test_copies_on_both_sides_of_a_split_are_named(
    toy: Manifest, reports: Path
) -> None:
    """FC001 says which files stand in two parts of the source's split, these first."""
    table = toy.table.copy()
    table["split"] = "train"
    table.loc[[4, 6], "split"] = "Test"
    for row, kept in ((3, 2), (5, 4)):
        table.loc[row, ["image_id", "status", "reason"]] = [
            table["image_id"][kept], "duplicate", f"same bytes as {kept}.png",
        ]  # fmt: skip
    answer = of(audit(with_table(toy, table), reports), "FC001")
    assert [row["path"] for row in answer.evidence] == ["5.png", "3.png"]
    assert [row["parts"] for row in answer.evidence] == ["test and train", "train"]
    assert answer.message.endswith(
        "1 image stood on both sides of the source's split, such as 5.png (same "
        "bytes as 4.png)."
    )


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        ("fold", {"fold": "the split by fold"}),
        ("site=B", {"site=B": "the split by site=B"}),
        ("folder", {}),
        (None, {}),
    ],
)
def test_every_split_of_the_source_is_looked_at(
    toy: Manifest, reports: Path, kept: str | None, expected: dict[str, str]
) -> None:
    """Those that a run kept, and columns of train, val and test that none did."""
    table = toy.table.assign(
        part="train", again="TRAIN", site="A", fold="1", sex=["m", "f"] * (N // 2)
    )
    table.loc[[4], ["part", "again", "site", "fold"]] = ["test", "Test", "B", "test"]
    table.loc[5, ["image_id", "status", "reason"]] = [
        table["image_id"][4], "duplicate", "same bytes as 4.png",
    ]  # fmt: skip
    made = with_table(toy, table)
    write_run(reports / toy.dataset, "a", split={"split_by": kept})
    answer = of(audit(made, reports), "FC001")
    names = {"part": "the split by part", **expected}
    assert answer.evidence[0]["parts"] == "; ".join(
        f"{name}: {'1 and test' if name == 'fold' else 'test and train'}"
        for name in sorted(names, key=["fold", "site=B", "part"].index)
        if not (name == "part" and kept == "site=B")
    )
    assert answer.message.count("stood on both sides of the split by") == len(
        answer.evidence[0]["parts"].split("; ")
    )


def test_groups_on_both_sides_of_a_published_split(
    toy: Manifest, reports: Path
) -> None:
    """A tip without a split of ours that tears them; the patients are named."""
    part = np.where(np.arange(N) < 81, "train", "test")
    answer = of(audit(with_table(toy, toy.table.assign(part=part)), reports), "FC010")
    assert (answer.status, answer.is_issue) == (FINDING, False)
    assert answer.message.startswith("There is no split yet. Run: featcache train-head")
    assert "1 group has images on both sides of the split by part" in answer.message
    (row,) = answer.evidence
    assert (row["group"], row["parts"]) == ("p40", ["test", "train"])
    whole = np.where(np.arange(N) < 80, "train", "test")
    answer = of(audit(with_table(toy, toy.table.assign(part=whole)), reports), "FC010")
    assert answer.status == NOT_APPLICABLE


def test_planted_near_duplicates_are_found_and_no_others(
    tmp_path: Path, reports: Path
) -> None:
    """Resizing, JPEG, brightness and a cut edge are seen; other pictures are not."""
    dataset = scan(
        planted(tmp_path / "x"), tmp_path / "cache", group_by="image"
    ).manifest
    result = audit(dataset, reports)
    rows = of(result, "FC003").evidence
    names = {Path(r[f"path_{s}"]).stem for r in rows for s in "ab"}
    assert names == {"pa0", "resized", "jpeg", "dark", "cut"}
    assert len(rows) == 10  # all pairs of five
    assert {r["correlation"] > CORRELATION for r in rows} == {True}
    conflict = of(result, "FC002")
    assert {"a", "b"} == {r["label_a"] for r in conflict.evidence} | {
        r["label_b"] for r in conflict.evidence
    }
    near = of(result, "FC004").evidence
    assert {Path(r["path_a"]).stem for r in near} <= names


def test_near_duplicates_within_a_group_are_no_finding(
    tmp_path: Path, reports: Path
) -> None:
    """What a split keeps together does no harm."""
    dataset = scan(planted(tmp_path / "x"), tmp_path / "cache").manifest
    assert dataset.settings.group_by == "near-duplicate"
    answer = of(audit(dataset, reports), "FC003")
    assert answer.status == PASSED
    assert answer.message.startswith("10 pairs")
    assert [row["within_group"] for row in answer.evidence] == [True] * 10


@pytest.mark.slow
def test_groups_that_scan_made_are_not_held_against_it(
    tmp_path: Path, reports: Path
) -> None:
    """A pair at the threshold is no leak where scan made the groups."""
    dataset = scan(planted(tmp_path / "x"), tmp_path / "cache").manifest
    table = dataset.table.copy()
    table.loc[table["path"] == "a/dark.png", "group"] = "other"
    changed = with_table(dataset, table)
    ids = dataset.ok.set_index("path")["image_id"]
    write_split(changed, dict.fromkeys(ids, 0) | {ids["a/dark.png"]: 1})
    result = audit(changed, reports)
    assert of(result, "FC003").status == PASSED
    assert "4 in two different groups" in of(result, "FC003").message
    assert "no leak" in of(result, "FC003").message
    assert of(result, "FC005").status == PASSED
    write_split(changed, dict.fromkeys(ids, 0) | {ids["a/jpeg.jpg"]: 1})
    assert of(audit(changed, reports), "FC005").is_issue


def test_near_duplicates_on_both_sides_of_a_split(
    tmp_path: Path, reports: Path
) -> None:
    """Each pair in two parts of a split is a row, and test sets are counted."""
    dataset = scan(
        planted(tmp_path / "x"), tmp_path / "cache", group_by="image"
    ).manifest
    ids = dataset.ok.set_index("path")["image_id"]
    fold_of = dict.fromkeys(ids, 0) | {ids["a/dark.png"]: -1}
    write_split(dataset, fold_of)
    answer = of(audit(dataset, reports), "FC005")
    assert answer.is_issue
    assert (
        "in 1 of 1 split (splits-hand): 4 between train and test, 0 between two"
        in answer.message
    )


def test_a_group_on_both_sides_of_a_hand_made_split(
    toy: Manifest, reports: Path
) -> None:
    """The torn patient is named with its parts; a file that is no split is told."""
    ids = toy.ok["image_id"].tolist()
    write_split(toy, dict(zip(ids, (FOLDS).tolist(), strict=True)))
    assert of(audit(toy, reports), "FC010").status == PASSED
    write_split(toy, dict(zip(ids, (FOLDS).tolist(), strict=True)) | {ids[0]: -1})
    (toy.folder / "splits-broken.json").write_text("[]")
    answer = of(audit(toy, reports), "FC010")
    assert answer.is_issue
    assert answer.message.startswith("1 group is")
    (torn,) = [row for row in answer.evidence if row.get("group")]
    assert (torn["group"], torn["parts"]) == ("p0", ["test", "fold 0"])
    assert {r["split"] for r in answer.evidence} == {
        "splits-hand.json", "splits-broken.json",
    }  # fmt: skip


def test_a_patient_in_several_classes(toy: Manifest, reports: Path) -> None:
    """Told with its images; without known patients there is no answer."""
    assert of(audit(toy, reports), "FC011").status == PASSED
    mixed = toy.table.assign(group=toy.table["group"].replace("p1", "p0"))
    answer = of(audit(with_table(toy, mixed), reports), "FC011")
    (row,) = answer.evidence
    assert (answer.status, row["group"], row["images"]) == (FINDING, "p0", 4)
    assert row["labels"] == {"COVID": 2, "NORMAL": 2}
    alone = toy.table.assign(group=toy.table["image_id"])
    answer = of(audit(with_table(toy, alone), reports), "FC011")
    assert answer.status == NOT_APPLICABLE


def test_hashes_that_differ_in_two_bits(toy: Manifest, reports: Path) -> None:
    """Pairs of at most two different bits of 64, with their number."""
    table = toy.table.copy()
    values = np.random.default_rng(0).integers(2**63, size=len(table), dtype=np.uint64)
    values[1:4] = values[0] ^ np.array(
        [1, 2**40 + 2**7, 2**40 + 2**7 + 2**9], np.uint64
    )
    table["phash"] = [f"{value:016x}" for value in values]
    table.loc[20, "phash"] = ""
    context = AuditContext(with_table(toy, table), reports, SILENT)
    (pairs,) = PairTable(perceptual(context)).chunks()
    assert pairs[["a", "b"]].to_numpy().tolist() == [[0, 1], [2, 3], [0, 2]]
    assert ((1 - pairs["product"]) * 32).round().tolist() == [1, 1, 2]


def test_all_rows_are_in_files(
    tmp_path: Path, reports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the evidence, the most alike first; of an audit before nothing is left."""
    monkeypatch.setattr(base, "MOST", 3)
    monkeypatch.setattr(similarity, "_CHUNK", 2)
    monkeypatch.setattr(context, "MOST_ROWS", 9)
    dataset = scan(
        planted(tmp_path / "x"), tmp_path / "cache", group_by="image"
    ).manifest
    ids = dataset.ok.set_index("path")["image_id"]
    write_split(dataset, dict.fromkeys(ids, 0) | {ids["a/dark.png"]: -1})
    folder = reports / dataset.dataset / "audit"
    folder.mkdir(parents=True)
    (folder / "FC040.csv").touch()
    result = audit(dataset, reports)
    tables = {path.stem: pd.read_csv(path) for path in folder.iterdir()}
    counts = {code: len(table) for code, table in tables.items()}
    near = int(of(result, "FC004").message.split()[0])
    assert counts == {"FC002": 4, "FC003": 9, "FC005": 4, "FC004": near}
    assert len(of(result, "FC003").evidence) == 3
    assert of(result, "FC003").message.startswith("10 pairs")
    assert tables["FC003"]["correlation"].is_monotonic_decreasing
    assert set(tables["FC004"]["bits"]) <= {0, 1, 2}
    for code in ("FC002", "FC003", "FC005"):
        first = pd.DataFrame(of(result, code).evidence)
        pd.testing.assert_frame_equal(tables[code].head(3), first)


def test_cut_edges_are_seen_through(tmp_path: Path, reports: Path) -> None:
    """A picture without 3 % of each side is found, by the check for it alone."""
    root = tmp_path / "x"
    for label in "ab":
        (root / label).mkdir(parents=True)
        for i in range(8):
            noise = np.random.default_rng([i, label == "b"]).integers(0, 256, (9, 9))
            shown = Image.fromarray(noise.astype(np.uint8)).resize((128, 128))
            shown.save(root / label / f"{label}{i}.png")
    shown = Image.open(root / "a/a0.png")
    shown.crop((4, 4, 124, 124)).save(root / "a/cut.png")
    dataset = scan(root, tmp_path / "cache", group_by="image").manifest
    result = audit(dataset, reports)
    assert of(result, "FC003").status == PASSED
    (row,) = of(result, "FC006").evidence
    assert {row["path_a"], row["path_b"]} == {"a/a0.png", "a/cut.png"}


def test_pictures_that_are_lost_are_no_pass(tmp_path: Path, reports: Path) -> None:
    """Without files nothing passes as free of near-duplicates; some lost are told."""
    root = planted(tmp_path / "x")
    dataset = scan(root, tmp_path / "cache", group_by="image").manifest
    (root / "b/pb3.png").unlink()
    assert of(audit(dataset, reports), "FC003").message.endswith(
        "1 image cannot be read."
    )
    root.rename(tmp_path / "y")
    result = audit(dataset, reports)
    for code in ("FC002", "FC003", "FC006"):
        assert of(result, code).status == NOT_APPLICABLE
    with pytest.raises(DatasetError, match="`fix`"):
        audit(dataset, reports, fix=tmp_path / "fixed.csv")


def test_groups_are_joined_along_chains() -> None:
    """a-b and b-c make one group, named by its first image."""
    groups = np.array(["c", "a", "b", "d"])
    joined = fixes.joined(groups, np.array([[1, 2], [2, 0]]))
    assert joined.tolist() == ["c", "c", "c", "d"]
    assert fixes.joined(groups, np.zeros((0, 2), int)).tolist() == groups.tolist()


def test_a_fixed_table_can_be_scanned(tmp_path: Path, reports: Path) -> None:
    """Duplicates are gone, near-duplicates in one group, and the files untouched."""
    root = planted(tmp_path / "x")
    (root / "a/again.png").write_bytes((root / "a/pa1.png").read_bytes())
    before = {p: p.read_bytes() for p in root.rglob("*.*")}
    dataset = scan(root, tmp_path / "cache", group_by="image").manifest
    result = audit(dataset, reports, fix=tmp_path / "out" / "fixed.csv")
    assert result.fixed
    assert (result.fixed.images, result.fixed.dropped, result.fixed.joined) == (
        28,
        1,
        4,
    )
    assert result.fixed.two_labels == 4
    again = scan(tmp_path / "out" / "fixed.csv", tmp_path / "cache2").manifest
    assert set(again.ok["image_id"]) == set(dataset.ok["image_id"])
    assert again.ok["group"].nunique() == 24
    assert of(audit(again, reports), "FC003").status == PASSED
    assert {p: p.read_bytes() for p in root.rglob("*.*")} == before


def test_the_source_is_never_overwritten(toy: Manifest, reports: Path) -> None:
    """--fix refuses what is no CSV, and the source itself, before any work."""
    table = toy.folder / "list.csv"
    own = replace(toy, settings=replace(toy.settings, source=str(table)))
    for dataset, path in ((toy, toy.folder / "image.png"), (own, table)):
        with pytest.raises(UsageError, match="`fix`"):
            audit(dataset, reports, fix=path)
    assert not (reports / "chest" / "audit.json").exists()


@pytest.mark.parametrize("option", ["fix", "checklist"])
def test_a_file_that_is_there_needs_force(
    reports: Path, tmp_path: Path, option: str
) -> None:
    """--fix and --checklist refuse it before any work; --force replaces it."""
    dataset = scan(planted(tmp_path / "chest"), tmp_path / "cache").manifest
    path = tmp_path / "mine.csv"
    path.write_text("mine")
    with pytest.raises(UsageError, match=f"`{option}` a new file"):
        audit(dataset, reports, **{option: path})
    assert path.read_text() == "mine"
    assert not list(reports.glob("*/audit.json"))
    audit(dataset, reports, force=True, **{option: path})
    assert path.read_text() != "mine"


@pytest.mark.real
def test_the_near_identical_pairs_of_darkcovid(
    tmp_path: Path, reports: Path, real_data: Path
) -> None:
    """Two pairs, one of them of equal bytes, each of one patient; sources tell."""
    table = real_data / "data/darkcovid/metadata.csv"
    dataset = scan(table, tmp_path / "cache", group_by="patient").manifest
    result = audit(dataset, reports)
    assert len(of(result, "FC001").evidence) == 1
    (row,) = of(result, "FC003").evidence
    assert row["within_group"]
    assert of(result, "FC003").status == PASSED
    assert of(result, "FC030").is_issue
    assert of(result, "FC031").is_issue
