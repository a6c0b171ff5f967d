"""The dataset that is audited, and where its runs are."""

from pathlib import Path

import pytest
from toys import make_dataset

from featcache.dataset.manifest import Manifest


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cache and reports are where they usually are, so that no command names them."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def toy(tmp_path: Path) -> Manifest:
    """90 images of 45 patients without files."""
    return make_dataset(tmp_path)


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    return tmp_path / "reports"
