"""The toy study as a file."""

from pathlib import Path

import pytest
from toy_study import TEXT


@pytest.fixture
def file(
    image_folder: Path, toy_network: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The study beside its images; $NET is the toy network."""
    monkeypatch.setenv("NET", str(toy_network))
    path = image_folder.parent / "toy.toml"
    path.write_text(TEXT)
    return path
