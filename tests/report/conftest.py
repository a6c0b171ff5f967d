"""Shared fixtures: the study whose report is tested."""

from pathlib import Path

import pytest
import report_study
from report_study import Study


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """In the current folder, so that no command names cache and reports."""
    monkeypatch.chdir(tmp_path)
    return report_study.make(tmp_path)
