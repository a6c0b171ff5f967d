"""Toy features and short trainings on them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from toys import header, make_dataset, train_flat, write_store

from featcache.commands.train_head import TrainResult
from featcache.dataset.manifest import Manifest

HEADER = header()


@pytest.fixture
def dataset(tmp_path: Path) -> Manifest:
    """90 images of 45 patients; the class is in the first three features."""
    made = make_dataset(tmp_path)
    write_store(made, HEADER)
    return made


@pytest.fixture
def train(dataset: Manifest, tmp_path: Path) -> Callable[..., TrainResult]:
    """Trains on the toy features, in this process, quick heads without tuning."""

    def call(**options: object) -> TrainResult:
        quick = {"heads": ["logreg", "majority"], "jobs": 1, "tune": False}
        options = quick | options
        return train_flat(dataset, tmp_path / "reports", **options)

    return call


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    return tmp_path / "reports" / "chest"
