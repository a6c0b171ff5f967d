"""What a study has looked at before is looked at again when it has changed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from records import CLASSES, make_run, make_validation
from toys import make_dataset

from featcache.commands import audit as audits
from featcache.commands.audit.base import PASSED, Answer, Check
from featcache.core.io import read_json, write_json
from featcache.core.progress import SILENT
from featcache.dataset.manifest import Manifest
from featcache.deploy.facts import audit_findings
from featcache.evaluation import runs
from featcache.evaluation.runs import Run
from featcache.study import looks
from featcache.study.base import Explain


class Study:
    """A dataset with one run, whose maps are a file."""

    def __init__(self, home: Path) -> None:
        self.data: Manifest = make_dataset(home)
        self.reports = home / "reports"
        ok = self.data.ok
        folds, p = np.zeros(len(ok), int), np.full((len(ok), 3), 1 / 3)
        table = runs.predictions_table(ok, folds, p, [*CLASSES])
        self.run: Run = make_run(
            self.reports / "chest", "logreg-net", table, split={"name": "patient"}
        )
        self.settings: dict[str, Any] = {}

    def column(self, name: str, value: str) -> None:
        """Gives every image the same value in a column."""
        table = self.data.table.assign(**{name: value})
        self.data = replace(self.data, table=table)

    def explains(self) -> bool:
        """Whether maps are drawn."""
        request = Explain(None, False, self.settings)
        return looks.explain_again(self.data, self.run, request, [], _draw, SILENT)

    def audits(self, **settings: Path) -> bool:
        """Whether the study audits its dataset."""
        return looks.audit_again(self.data, self.reports, settings, SILENT)


def _draw(_: object, folder: Path, **__: Any) -> None:
    write_json(folder / "maps.json", {})


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    class Result:
        maps = ()

    monkeypatch.setattr(looks, "explain", lambda *_, **__: Result)
    return Study(tmp_path)


def test_maps_are_drawn_again_for_other_masks(study: Study) -> None:
    """The columns that decide the faithfulness figures, and those alone."""
    assert [study.explains(), study.explains()] == [True, False]
    study.column("lesion", "a.png")
    assert not study.explains()
    study.settings = {"faithfulness": True}
    assert [study.explains(), study.explains()] == [True, False]
    study.column("lesion", "b.png")
    assert [study.explains(), study.explains()] == [True, False]
    study.column("heart", "a.png")
    assert not study.explains()
    study.settings |= {"masks": ["heart"]}
    assert [study.explains(), study.explains()] == [True, False]
    study.column("heart", "b.png")
    assert [study.explains(), study.explains()] == [True, False]


def test_maps_are_drawn_again_for_other_labels_and_code(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A corrected label is another class to explain; other code draws other maps."""
    assert study.explains()
    study.column("label", "N")
    assert [study.explains(), study.explains()] == [True, False]
    monkeypatch.setattr(looks, "version", lambda _: "9.9")
    assert [study.explains(), study.explains()] == [True, False]


@pytest.fixture
def one_check(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """An audit of one check, which calls "during"."""
    calls: dict[str, Any] = {"during": lambda: None}

    def run(_: object) -> Answer:
        calls["during"]()
        return Answer(PASSED, "Nothing.")

    monkeypatch.setattr(audits, "CHECKS", {"FC001": Check("FC001", "Is?", "tip", run)})
    return calls


@pytest.mark.usefixtures("one_check")
def test_an_audit_covers_its_split_and_validations(study: Study) -> None:
    """Neither one of a split named by hand, nor one before a validation, is taken."""
    assert [study.audits(), study.audits()] == [True, False]
    audits.audit(study.data, study.reports, split="patient")
    assert [study.audits(), study.audits()] == [True, False]
    make_validation(study.reports / "chest", study.run.run_id, [*CLASSES])
    assert [study.audits(), study.audits()] == [True, False]


def test_a_run_that_ends_during_an_audit_is_not_covered(
    study: Study, one_check: dict[str, Any]
) -> None:
    """The checks may have begun without it."""
    late = study.reports / "chest/runs/late/run.json"
    one_check["during"] = lambda: write_json(late, {})
    assert [study.audits(), study.audits(), study.audits()] == [True, True, False]


@pytest.mark.usefixtures("one_check")
def test_a_checklist_is_that_of_the_last_audit(study: Study, tmp_path: Path) -> None:
    """One of an earlier audit is written again; one that an author edits is kept."""
    mine, old = tmp_path / "mine.md", tmp_path / "old.md"
    assert [study.audits(checklist=mine), study.audits(checklist=mine)] == [True, False]
    mine.write_text("By the author.")
    assert not study.audits(checklist=mine)
    assert mine.read_text() == "By the author."
    audits.audit(study.data, study.reports)
    assert [study.audits(checklist=mine), study.audits()] == [True, False]
    assert mine.read_text() != "By the author."
    old.write_text("Of another audit.")
    assert [study.audits(checklist=old), study.audits(checklist=old)] == [True, False]
    old.unlink()
    assert study.audits(checklist=old)


@pytest.mark.usefixtures("one_check")
def test_a_record_without_files_is_not_current(study: Study) -> None:
    """As earlier versions wrote it; it is read for all else."""
    study.audits()
    path = study.reports / "chest/audit.json"
    record = read_json(path)
    record.pop("files")
    write_json(path, record)
    assert audit_findings(path.parent) == ["no issues"]
    assert [study.audits(), study.audits()] == [True, False]
