"""Shared fixtures: a model that was never trained, and images for it."""

from pathlib import Path

import pytest
from toy_model import ToyModel
from toys import picture


@pytest.fixture
def model() -> ToyModel:
    return ToyModel()


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A folder of five images, dark to bright, and a text that bears a name of one."""
    folder = tmp_path / "scans"
    (folder / "ward 2").mkdir(parents=True)
    for number, shade in enumerate((30, 90, 150, 210)):
        picture(number, shade).save(folder / f"p{number // 2}_{number}.png")
    picture(9, 120).save(folder / "ward 2" / "p0_9.png")
    (folder / "p1_text.png").write_text("no image")
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_text("no image")
    return folder
