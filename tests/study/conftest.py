"""The toy study as a file."""

from collections.abc import Callable
from pathlib import Path

import pytest
from toy_study import TEXT


@pytest.fixture
def file(study_file: Callable[[str], Path]) -> Path:
    return study_file(TEXT)
