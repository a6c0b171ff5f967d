"""Shared fixtures: the study whose report is tested, and a browser for its page."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import report_records
import report_study
from browsing import chromium
from report_study import Study

from featcache.evaluation import references
from featcache.report.html import page as html_page


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """In the current folder, so that no command names cache and reports."""
    monkeypatch.chdir(tmp_path)
    return report_study.make(tmp_path)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of a small study with an audit and maps, as a file."""
    study = report_study.make(tmp_path_factory.mktemp("report"))
    report_records.write_audit(study, "another-run")
    report_records.write_maps(study, references.find(study.reports, "logreg"))
    return html_page.write(study.reports, study.board, manifest=study.manifest).as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as launched:
        yield launched
