"""Fixtures of fine-tuning: one dataset, its heads, and one undisturbed run."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toy_training import OPTIONS, QUICK, Undisturbed
from toys import Heard, finetune_flat, train_flat, write_images

from featcache import backbones
from featcache.commands.extract import extract
from featcache.commands.finetune import FinetuneResult
from featcache.commands.scan import scan
from featcache.dataset.manifest import Manifest
from featcache.evaluation import runs


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """36 images in three classes, grouped by patient, for all tests together."""
    home = tmp_path_factory.mktemp("finetune")
    root = write_images(home / "chest")
    return scan(root, home / "cache", group_by=r"(p\d{3})_").manifest


@pytest.fixture(scope="session")
def fitted(
    dataset: Manifest, toy_network: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., runs.Run]:
    """Trains a head on the toy network's features, each once."""
    extract(
        dataset, [backbones.resolve(str(toy_network))], views=1, taps="conv2d",
        tap_pooling="avg+max", pooling="gem+grid2", engine="tensorflow",
    )  # fmt: skip
    reports = tmp_path_factory.mktemp("heads")

    def call(head: str, **options: Any) -> runs.Run:
        given = {"folds": 2, "jobs": 1, "views": 0, "calibrate": False} | options
        given = {"tune": False} | given if head == "logreg" else given
        return train_flat(dataset, reports, heads=[head], **given).runs[0]

    return call


@pytest.fixture
def cached(
    dataset: Manifest, fitted: Callable[..., runs.Run], tmp_path: Path
) -> Callable[..., runs.Run]:
    """Puts a trained head among the runs of a test, on the split of ``tune``."""

    def call(head: str, **options: Any) -> runs.Run:
        run = fitted(head, **options)
        folder = tmp_path / "reports" / dataset.dataset / "runs" / run.run_id
        shutil.copytree(run.folder, folder, dirs_exist_ok=True)
        return runs.load(folder)

    return call


@pytest.fixture
def tune(
    dataset: Manifest, toy_network: Path, tmp_path: Path
) -> Callable[..., FinetuneResult]:
    """Fine-tunes the toy network for two epochs on two folds and the test part."""

    def call(given: Manifest = dataset, **options: Any) -> FinetuneResult:
        network = backbones.resolve(str(toy_network))
        mode = options.pop("preprocess", network.preprocess)
        network = replace(network, preprocess=mode)
        options = QUICK | {"reports": tmp_path / "reports"} | options
        return finetune_flat(given, [network], **options)

    return call


@pytest.fixture(scope="session")
def whole(
    dataset: Manifest, toy_network: Path, tmp_path_factory: pytest.TempPathFactory
) -> Undisturbed:
    told: list[str] = []
    ticks: list[tuple[str, int, int]] = []
    network = backbones.resolve(str(toy_network))
    made = finetune_flat(
        dataset,
        [network],
        reports=tmp_path_factory.mktemp("whole"),
        reporter=Heard(told, ticks),
        **QUICK | OPTIONS,
    )
    return Undisturbed(made.runs[0], told, ticks)
