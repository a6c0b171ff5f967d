"""Shared fixtures: the study whose report is tested."""

from pathlib import Path

import pytest
import report_study
from report_study import Study


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return report_study.make(tmp_path)
