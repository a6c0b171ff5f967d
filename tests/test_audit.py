"""The audit: what it must find, what it must not, and that it touches nothing."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from toys import CLASSES, N, header, make_dataset, picture

from featcache import manifest, runs, splits, store
from featcache.audit import (
    CHECKS,
    FINDING,
    NOT_APPLICABLE,
    PASSED,
    AuditResult,
    audit,
    confounded,
    drift,
    fixing,
    labels,
    pairs,
    reach,
    trivial,
)
from featcache.audit.base import Finding
from featcache.audit.case import Case
from featcache.audit.pairs import CORRELATION, alike, unit
from featcache.backbones import BASELINES
from featcache.errors import DatasetError, RunError, UsageError
from featcache.manifest import Manifest
from featcache.scan import scan

Y = np.array([i // 2 % 3 for i in range(N)])  # the classes of toys.make_dataset
PATIENT = np.arange(N) // 2
FOLDS = PATIENT // 3 % 3  # whole patients, every class in every fold


def make_run(
    dataset: Manifest,
    reports: Path,
    backbone: str,
    right: float,
    *,
    head: str = "logreg",
    wrong: tuple[int, ...] = (),
    folds: np.ndarray | None = None,
    store: str = "none",
    groups: list[str] | None = None,
    region: str = "",
    split: str = "patient",
) -> runs.Run:
    """A run that is right on a share of the images, sure of itself at 0.9."""
    miss = np.random.default_rng(len(backbone)).permutation(N)[round(right * N) :]
    said = Y.copy()
    said[[*miss, *wrong]] = (said[[*miss, *wrong]] + 1) % 3
    p = np.full((N, 3), 0.05)
    p[np.arange(N), said] = 0.9
    meta = dataset.ok if groups is None else dataset.ok.assign(group=groups)
    table = runs.predictions_table(
        meta, FOLDS if folds is None else folds, p, [*CLASSES]
    )
    folder = reports / dataset.dataset / "runs" / f"{head}-{backbone}{region}"
    weights = "none" if backbone in BASELINES else "imagenet"
    block = {"backbone": backbone, "weights": weights, "store": store}
    record = {
        "status": "done", "created": "2026-01-01", "classes": [*CLASSES], "views": 0,
        "head": head, "backbone": backbone, "weights": weights, "evaluation_id": split,
        "split": {"name": split}, "store": store,
        "features": [block | ({"region": region} if region else {})],
    }  # fmt: skip
    with runs.saving(folder, record) as temp:
        table.to_csv(temp / runs.PREDICTIONS, index=False)
    return runs.load(folder)


@pytest.fixture
def toy(tmp_path: Path) -> Manifest:
    """90 images of 45 patients without files."""
    return make_dataset(tmp_path)


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    return tmp_path / "reports"


def of(result: AuditResult, code: str) -> Finding:
    return next(finding for finding in result.findings if finding.code == code)


def with_table(dataset: Manifest, table: pd.DataFrame) -> Manifest:
    changed = replace(dataset, table=table)
    manifest.save(changed)
    return changed


def case(dataset: Manifest, reports: Path) -> Case:
    return Case(dataset, reports / dataset.dataset, lambda *_: None)


def test_codes_are_unique_and_each_has_its_section() -> None:
    """docs/audit.md has one heading a check: its code and title, in the same order."""
    page = (Path(__file__).parents[1] / "docs/audit.md").read_text(encoding="utf-8")
    heads = [line[4:] for line in page.splitlines() if line.startswith("### FC")]
    assert heads == [f"{check.code}: {check.title}" for check in CHECKS.values()]


def test_nothing_is_found_where_nothing_is_planted(
    toy: Manifest, reports: Path
) -> None:
    """An honest run with weak baselines gives no finding of an issue."""
    for backbone, share in {"net": 0.9, "metadata": 0.36, "border": 0.34}.items():
        make_run(toy, reports, backbone, share)
    ok = toy.ok
    splits.load_or_make(
        toy.folder / "splits-a.json", ok["image_id"].tolist(), ok["label"],
        ok["group"], name="a",
    )  # fmt: skip
    kept = toy.table.drop(columns=["disputed", "patient"]).assign(
        ward=[f"w{i // 6 % 2}" for i in range(N)]
    )
    result = audit(with_table(toy, kept), reports)
    assert [f.code for f in result.findings if f.fires] == []
    assert [f.code for f in result.findings if f.status == NOT_APPLICABLE] == [
        "FC002", "FC003", "FC004", "FC005", "FC006", "FC022", "FC023", "FC024",
        "FC025", "FC033", "FC034", "FC041",
    ]  # fmt: skip


def test_an_empty_dataset_of_runs_is_no_error(toy: Manifest, reports: Path) -> None:
    """What has no run or split is not applicable, and says what to run."""
    result = audit(toy, reports)
    for code in ("FC005", "FC010", "FC020", "FC032", "FC040", "FC041", "FC051"):
        found = of(result, code)
        assert found.status == NOT_APPLICABLE
        assert "featcache " in found.message or "stores" in found.message
    assert result.run_id is None


def test_files_of_the_same_bytes_are_told(toy: Manifest, reports: Path) -> None:
    """A duplicate of the manifest is evidence; under two labels it is an issue."""
    table = toy.table.copy()
    table.loc[5, ["status", "reason"]] = ["duplicate", "same bytes as 4.png"]
    table.loc[7, ["status", "reason"]] = ["duplicate", "same bytes under two labels"]
    result = audit(with_table(toy, table), reports)
    assert [row["path"] for row in of(result, "FC001").evidence] == ["5.png", "7.png"]
    assert [row["path"] for row in of(result, "FC002").evidence] == ["7.png"]
    assert of(result, "FC002").fires
    assert not of(result, "FC001").fires


def planted(root: Path) -> Path:
    """24 pictures in two classes, and four made of the first by small changes."""
    for label in ("a", "b"):
        (root / label).mkdir(parents=True)
        for i in range(12):
            shown = picture(1000 * (label == "b") + i, 120, (96, 96))
            shown.save(root / label / f"p{label}{i}.png")
    first = Image.open(root / "a/pa0.png").convert("L")
    first.resize((70, 70)).save(root / "a/resized.png")
    first.save(root / "a/jpeg.jpg", quality=40)
    first.point(lambda grey: round(grey * 0.85)).save(root / "a/dark.png")
    first.crop((1, 1, 95, 95)).save(root / "b/cut.png")
    return root


def test_planted_near_duplicates_are_found_and_no_others(
    tmp_path: Path, reports: Path
) -> None:
    """Resizing, JPEG, brightness and a cut edge are seen; other pictures are not."""
    found = scan(planted(tmp_path / "x"), tmp_path / "cache", group_by="image").manifest
    result = audit(found, reports)
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
    found = scan(planted(tmp_path / "x"), tmp_path / "cache").manifest
    assert found.settings.group_by == "near-duplicate"
    answer = of(audit(found, reports), "FC003")
    assert answer.status == PASSED
    assert answer.message.startswith("10 pairs")
    assert [row["within_group"] for row in answer.evidence] == [True] * 10


def test_near_duplicates_on_both_sides_of_a_split(
    tmp_path: Path, reports: Path
) -> None:
    """Each pair in two parts of a split is a row, and test parts are counted."""
    found = scan(planted(tmp_path / "x"), tmp_path / "cache", group_by="image").manifest
    ids = found.ok.set_index("path")["image_id"]
    places = dict.fromkeys(ids, 0) | {ids["a/dark.png"]: -1}
    write_split(found, places)
    answer = of(audit(found, reports), "FC005")
    assert answer.fires
    assert "4 of train and test, 0 of two folds" in answer.message


def write_split(dataset: Manifest, places: dict[str, int], name: str = "hand") -> None:
    path = dataset.folder / f"splits-{name}.json"
    path.write_text(json.dumps({"images": places}), encoding="utf-8")


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
    assert answer.fires
    assert answer.message.startswith("1 groups")
    (torn,) = [row for row in answer.evidence if row.get("group")]
    assert (torn["group"], torn["parts"]) == ("p0", ["test", "fold 0"])
    assert {r["split"] for r in answer.evidence} == {
        "splits-hand.json", "splits-broken.json",
    }  # fmt: skip


def test_the_share_of_an_advantage() -> None:
    """From 0.5 to 0.9 is the advantage; a run at 0.7 has half of it."""
    hundred = np.arange(100)
    value, (low, high) = trivial.share(
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
    assert of(result, code.pop(backbone)).fires
    (other,) = code.values()
    assert of(result, other).status == NOT_APPLICABLE
    assert "featcache extract --dataset chest -b" in of(result, other).message


@pytest.mark.parametrize(
    ("region", "code", "free", "found"),
    [
        ("outside", "FC023", 0.8, True),
        ("outside", "FC023", 0.35, False),
        ("inside", "FC024", 0.4, True),
        ("inside", "FC024", 0.88, False),
        ("ring", "FC025", 0.8, True),
        ("ring", "FC025", 0.35, False),
    ],
)
def test_how_much_of_the_best_run_a_region_reaches(
    region: str, code: str, free: float, found: bool, toy: Manifest, reports: Path
) -> None:
    """Without the subject much is a finding, with it alone little is."""
    make_run(toy, reports, "net", 0.9)
    make_run(toy, reports, "pixels48", 0.6, region=region)  # no network
    assert of(audit(toy, reports), code).status == NOT_APPLICABLE
    make_run(toy, reports, "net", free, region=region)
    result = audit(toy, reports)
    assert of(result, code).status == (FINDING if found else PASSED)
    assert of(result, "FC022").status == NOT_APPLICABLE  # pixels48 of whole pictures
    assert result.run_id == "logreg-net"


def test_checks_of_regions_say_what_is_lacking(toy: Manifest, reports: Path) -> None:
    """Masks where there are none, else the commands; a ring needs no masks."""
    make_run(toy, reports, "net", 0.9)
    assert "No masks" in of(audit(toy, reports), "FC023").message
    command = "featcache train-head --dataset chest -b net --region "
    assert f"{command}ring" in of(audit(toy, reports), "FC025").message
    masked = with_table(toy, toy.table.assign(mask="masks/1.png"))
    assert f"{command}inside" in of(audit(masked, reports), "FC024").message


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


@pytest.mark.parametrize(
    ("table", "v"),
    [([[50, 0], [0, 50]], 1.0), ([[25, 25], [25, 25]], 0.0), ([[9], [9]], 0.0)],
)
def test_cramers_v(table: list[list[int]], v: float) -> None:
    """1 where a value means a class, 0 where it says nothing or there is one class."""
    assert confounded.cramers_v(np.array(table)) == pytest.approx(v, abs=0.01)


def test_a_column_is_judged_over_groups() -> None:
    """Ten images of each of four patients are four patients: p cannot be small."""
    values = pd.Series(np.repeat(["x", "x", "y", "y"], 10))
    classes = pd.Series(np.repeat(["a", "a", "b", "b"], 10))
    patients = pd.Series(np.repeat([*"1234"], 10))
    assert confounded.permuted(values, classes, patients)[1] > 0.2
    alone = pd.Series(np.arange(40).astype(str))
    assert confounded.permuted(values, classes, alone)[1] == pytest.approx(0.001)


def test_a_confounded_source_is_found(toy: Manifest, reports: Path) -> None:
    """A ward of one class is strong evidence, alone in its class, and named."""
    names = np.array(["north", "south", "south"])
    table = toy.table.assign(hospital=names[Y], disputed="")
    result = audit(with_table(toy, table), reports)
    assert of(result, "FC030").fires
    assert of(result, "FC030").evidence[0]["column"] == "hospital"
    (row,) = [r for r in of(result, "FC031").evidence if r["column"] == "hospital"]
    assert (row["value"], row["class"], row["images"]) == ("north", "COVID", 30)


def test_a_column_that_is_the_label_or_the_group_is_no_source(
    toy: Manifest, reports: Path
) -> None:
    """Another spelling of the class says nothing new."""
    table = toy.table.assign(finding=[f"c{y}" for y in Y])
    found = confounded.columns(case(with_table(toy, table), reports))
    assert "finding" not in found
    assert "patient" not in found


@pytest.mark.parametrize(
    ("stem", "form"),
    [("COVID (12)", "a (9)"), ("00012_000", "9_9"), ("1F-a0-77", "x-x-9")],
)
def test_patterns_of_file_names(stem: str, form: str) -> None:
    """Digits, letters and both are told apart; signs stay."""
    assert confounded.pattern(stem) == form


def test_the_name_of_a_class_is_no_pattern() -> None:
    """Files that are named by their class in the same way have one pattern."""
    found = {
        confounded.pattern(f"{name} (7)", CLASSES)
        for name in ("COVID", "NORMAL", "Viral pneumonia")
    }
    assert found == {"= (9)"}


def test_many_numbers_become_quarters_and_missing_ones_stay_so() -> None:
    """Ages are cut in four, and having none is a value too."""
    found = confounded.few(pd.Series([str(i) for i in range(40)] + [""] * 4))
    assert sorted(found.value_counts()) == [4, 10, 10, 10, 10]
    assert (found == confounded.NONE).sum() == 4


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
    monkeypatch.setattr(reach, "MANY", 10)
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


def put_store(dataset: Manifest, rows: np.ndarray) -> str:
    """Seals embeddings as the dataset's features, and gives the store's name."""
    about = header("net")
    path = store.store_path(dataset.folder / "features", about)
    keys = dataset.ok[["image_id", "path"]].assign(view=0, policy=store.NO_POLICY)
    store.seal(path, about, {"features": rows.astype(np.float32)}, keys)
    store.publish(path, about)
    return path.name


def test_confident_learning_by_hand() -> None:
    """Thresholds are 0.6 and 0.7: only the last image reaches that of another class."""
    P = np.array([[0.9, 0.1], [0.65, 0.35], [0.4, 0.6], [0.1, 0.9], [0.45, 0.55],
                  [0.25, 0.75]])  # fmt: skip
    y = np.array([0, 0, 1, 1, 1, 0])
    assert P[y == 0, 0].mean() == pytest.approx(0.6)
    counted, margin = labels.conflicts(y, P)
    assert counted.tolist() == [0, 0, -1, 1, -1, 1]
    assert margin[[0, 5]] == pytest.approx([0.8, -0.5])


def test_planted_label_errors_come_first(toy: Manifest, reports: Path) -> None:
    """The contradicted images are listed by path with the class that was seen."""
    make_run(toy, reports, "net", 1.0, wrong=(3, 44))
    answer = of(audit(toy, reports), "FC040")
    assert {row["path"] for row in answer.evidence} == {"3.png", "44.png"}
    (row,) = [row for row in answer.evidence if row["path"] == "3.png"]
    assert (row["label"], row["suggested"]) == (CLASSES[Y[3]], CLASSES[(Y[3] + 1) % 3])


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


def test_drift_by_hand() -> None:
    """All larger is 1, all equal a half."""
    groups, inside = np.array([*"abcd"]), np.array([False, False, True, True])
    assert drift.apart(np.array([1.0, 2, 3, 4]), inside, groups)[0] == 1.0
    assert drift.apart(np.ones(4), inside, groups)[0] == 0.5


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


def test_a_flat_picture_is_like_no_other() -> None:
    """Pictures of one grey, or lost ones, are no near-duplicates."""
    flat = np.full((3, 1024), 7, np.uint8)
    assert alike(unit(flat), CORRELATION) == []


def test_pairs_are_found_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """However the rows are cut into blocks, each pair is found once."""
    rows = np.eye(5, dtype=np.float32)[[0, 1, 0, 2, 1]]
    monkeypatch.setattr(pairs, "_BLOCK", 2)
    assert {(i, j) for i, j, _ in alike(rows, 0.9)} == {(0, 2), (1, 4)}


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
    found = scan(root, tmp_path / "cache", group_by="image").manifest
    result = audit(found, reports)
    assert of(result, "FC003").status == PASSED
    (row,) = of(result, "FC006").evidence
    assert {row["path_a"], row["path_b"]} == {"a/a0.png", "a/cut.png"}


def test_pictures_that_are_lost_are_no_pass(tmp_path: Path, reports: Path) -> None:
    """Without files nothing passes as free of near-duplicates; some lost are told."""
    root = planted(tmp_path / "x")
    found = scan(root, tmp_path / "cache", group_by="image").manifest
    (root / "b/pb3.png").unlink()
    assert of(audit(found, reports), "FC003").message.endswith(
        "1 images cannot be read."
    )
    root.rename(tmp_path / "y")
    result = audit(found, reports)
    for code in ("FC002", "FC003", "FC006"):
        assert of(result, code).status == NOT_APPLICABLE
    with pytest.raises(DatasetError, match="--fix"):
        audit(found, reports, fix=tmp_path / "fixed.csv")


def test_groups_are_joined_along_chains() -> None:
    """a-b and b-c make one group, named by its first image."""
    groups = np.array(["c", "a", "b", "d"])
    joined = fixing.joined(groups, np.array([[1, 2], [2, 0]]))
    assert joined.tolist() == ["c", "c", "c", "d"]
    assert fixing.joined(groups, np.zeros((0, 2), int)).tolist() == groups.tolist()


def test_a_fixed_table_can_be_scanned(tmp_path: Path, reports: Path) -> None:
    """Duplicates are gone, near-duplicates in one group, and the files untouched."""
    root = planted(tmp_path / "x")
    (root / "a/again.png").write_bytes((root / "a/pa1.png").read_bytes())
    before = {p: p.read_bytes() for p in root.rglob("*.*")}
    found = scan(root, tmp_path / "cache", group_by="image").manifest
    result = audit(found, reports, fix=tmp_path / "out" / "fixed.csv")
    assert result.fixed
    assert (result.fixed.images, result.fixed.dropped, result.fixed.joined) == (
        28,
        1,
        4,
    )
    assert result.fixed.two_labels == 4
    again = scan(tmp_path / "out" / "fixed.csv", tmp_path / "cache2").manifest
    assert set(again.ok["image_id"]) == set(found.ok["image_id"])
    assert again.ok["group"].nunique() == 24
    assert of(audit(again, reports), "FC003").status == PASSED
    assert {p: p.read_bytes() for p in root.rglob("*.*")} == before


def test_the_source_is_never_overwritten(toy: Manifest, reports: Path) -> None:
    """--fix refuses what is no CSV, and the source itself, before any work."""
    table = toy.folder / "list.csv"
    own = replace(toy, settings=replace(toy.settings, source=str(table)))
    for dataset, path in ((toy, toy.folder / "image.png"), (own, table)):
        with pytest.raises(UsageError, match="--fix"):
            audit(dataset, reports, fix=path)
    assert not (reports / "chest" / "audit.json").exists()


def test_the_checklist_fills_what_is_known(
    toy: Manifest, reports: Path, tmp_path: Path
) -> None:
    """Counts come from the records; the rest is marked as the author's."""
    make_run(toy, reports, "net", 0.9)
    audit(toy, reports, checklist=tmp_path / "list.md")
    text = (tmp_path / "list.md").read_text(encoding="utf-8")
    assert "90 images of 45 groups: 30 COVID" in text
    assert "Out-of-fold accuracy 0.900" in text
    assert "| TRIPOD+AI | Fairness | *for the author* |" in text
    assert {line.count(" | ") for line in text.splitlines() if line[:2] == "| "} == {2}


def test_the_command_prints_and_records_one_row_a_check(
    toy: Manifest, run: Callable[..., tuple[int, str, str]]
) -> None:
    """JSON on stdout is that of the record; --strict makes an issue exit code 1."""
    code, out, _ = run("audit", "--json")
    rows: list[dict[str, Any]] = json.loads(out)
    assert code == 0
    assert [row["code"] for row in rows] == [*CHECKS]
    assert {*rows[0]} == {
        "code", "title", "severity", "status", "message", "evidence",
    }  # fmt: skip
    assert json.loads(Path("reports/chest/audit.json").read_text())["checks"] == rows
    ids = toy.ok["image_id"].tolist()
    write_split(toy, dict.fromkeys(ids, 0) | {ids[0]: 1})
    assert run("audit")[0] == 0
    code, out, _ = run("audit", "--strict")
    assert code == 1
    assert "FC010" in out


@pytest.mark.real
def test_the_near_identical_pairs_of_darkcovid(
    tmp_path: Path, reports: Path, real_data: Path
) -> None:
    """Two pairs, one of them of equal bytes, each of one patient; sources tell."""
    table = real_data / "data/darkcovid/metadata.csv"
    found = scan(table, tmp_path / "cache", group_by="patient").manifest
    result = audit(found, reports)
    assert len(of(result, "FC001").evidence) == 1
    (row,) = of(result, "FC003").evidence
    assert row["within_group"]
    assert of(result, "FC003").status == PASSED
    assert of(result, "FC030").fires
    assert of(result, "FC031").fires
