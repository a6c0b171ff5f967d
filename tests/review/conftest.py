"""Shared fixtures: a dataset and the folder of its runs."""

from pathlib import Path

import pytest
from toys import make_dataset

from featcache.dataset.manifest import Manifest


@pytest.fixture
def chest(tmp_path: Path) -> Manifest:
    """90 images of 45 patients, without files."""
    return make_dataset(tmp_path)


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    """The reports folder."""
    return tmp_path / "reports"
