"""The audit as a whole: what it says where nothing is planted, and how it tells it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from audit_toys import make_run, of, with_table, write_split
from records import make_validation
from toys import N

from featcache.commands.audit import CHECKS, NOT_APPLICABLE, audit
from featcache.commands.audit.base import of_all
from featcache.dataset import splits
from featcache.dataset.manifest import Manifest
from featcache.deploy.facts import audit_findings
from featcache.evaluation.external import OwnImages


def test_codes_are_unique_and_each_has_its_section() -> None:
    """The page on the audit has one heading a check, in order: its code and title."""
    page = Path(__file__).parents[2] / "docs/explanations/audit.md"
    lines = page.read_text(encoding="utf-8").splitlines()
    heads = [line[4:] for line in lines if line.startswith("### FC")]
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
    assert [f.code for f in result.findings if f.is_issue] == []
    assert [f.code for f in result.findings if f.status == NOT_APPLICABLE] == [
        "FC002", "FC003", "FC004", "FC005", "FC006", "FC022", "FC023", "FC024",
        "FC025", "FC033", "FC034", "FC041",
    ]  # fmt: skip


def test_an_empty_dataset_of_runs_is_no_error(toy: Manifest, reports: Path) -> None:
    """What has no run or split is not applicable, and says what to run."""
    result = audit(toy, reports)
    for code in (
        "FC005",
        "FC010",
        "FC020",
        "FC032",
        "FC040",
        "FC041",
        "FC042",
        "FC051",
    ):
        finding = of(result, code)
        assert finding.status == NOT_APPLICABLE
        assert "featcache " in finding.message or "stores" in finding.message
    assert result.run_id is None


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


def test_the_checklist_has_external_validations(
    toy: Manifest, reports: Path, tmp_path: Path
) -> None:
    """Those of the best run fill lines; those of another are only counted."""
    best = make_run(toy, reports, "net", 0.9)
    make_validation(reports / toy.dataset, "other-net-0123456789", best.classes)
    audit(toy, reports, checklist=tmp_path / "list.md")
    text = (tmp_path / "list.md").read_text(encoding="utf-8")
    assert "no external testing of this run, but that of 1 other." in text
    own = OwnImages(identical=60, same_group=0)
    make_validation(reports / toy.dataset, best.run_id, best.classes, own=own)
    audit(toy, reports, checklist=tmp_path / "list.md", force=True)
    text = (tmp_path / "list.md").read_text(encoding="utf-8")
    assert "no external testing of this run, but that of 1 other." in text
    assert "| Performance on external data | *for the author* |" in text
    record = make_validation(reports / toy.dataset, best.run_id, best.classes)
    audit(toy, reports, checklist=tmp_path / "list.md", force=True)
    text = (tmp_path / "list.md").read_text(encoding="utf-8")
    for part in (
        "Internal, and external: elsewhere, 60 images of 30 groups (by patient)",
        f"as found: accuracy {record.result.as_found.accuracy}",
        "elsewhere: not applicable (too few groups).",
        "Fairness | elsewhere: accuracy by sex: F ",
    ):
        assert part in text
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
    issues = [line for line in audit_findings(Path("reports/chest")) if "FC010" in line]
    assert issues == ["FC010 Is a group on both sides of a split? Yes."]


def test_titles_are_questions() -> None:
    """So that "passed" and "finding" read as no and yes for every check."""
    assert [check.title for check in CHECKS.values() if check.title[-1] != "?"] == []
    assert {check.title.split()[0] for check in CHECKS.values()} <= {
        "Are", "Can", "Do", "Does", "Have", "Is",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("count", "total", "text"),
    [
        (0, 1, "0 of 1 file is"),
        (1, 1, "1 of 1 file is"),
        (1, 2, "1 of 2 files is"),
        (2, 2, "2 of 2 files are"),
    ],
)
def test_how_many_of_all(count: int, total: int, text: str) -> None:
    """The verb agrees with how many there are, the noun with all."""
    assert of_all(count, total, "files", "is", "are") == text
