"""A dataset with features, and runs on them, for all tests of trained models."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from toys import finetune_flat, train_flat, write_images

from featcache import backbones
from featcache.commands.bundle import make_bundle
from featcache.commands.ensemble import ensemble
from featcache.commands.extract import extract
from featcache.commands.scan import scan
from featcache.dataset import images
from featcache.dataset.manifest import Manifest
from featcache.deploy.model import Candidate, Model
from featcache.deploy.of_run import ModelSource, of_run
from featcache.deploy.opening import Place
from featcache.evaluation import runs
from featcache.evaluation.runs import Run

OPTIONS: dict[str, Any] = {"folds": 2, "test_size": 0.3, "jobs": 1, "tune": False}


@pytest.fixture(scope="session")
def extracted(toy_network: Path, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """36 images with features of two sizes, taps and two views, and a baseline."""
    home = tmp_path_factory.mktemp("deploy")
    dataset = scan(
        write_images(home / "chest"), home / "cache", group_by=r"(p\d{3})_"
    ).manifest
    networks = [backbones.resolve(str(toy_network), input_size=s) for s in (32, 40)]
    extract(dataset, networks, views=2, taps="conv2d", tap_pooling="avg+max",
            pooling="gem+grid3")  # fmt: skip
    extract(dataset, [backbones.resolve("metadata")], views=2)
    return dataset


@pytest.fixture(scope="session")
def reports(extracted: Manifest) -> Path:
    """Where the runs are."""
    return extracted.folder.parents[1] / "reports"


@pytest.fixture
def place(extracted: Manifest, reports: Path, toy_network: Path) -> Place:
    """Where the runs, their features and their network are."""
    return Place(extracted.folder.parent, reports, files=[toy_network])


@pytest.fixture(scope="session")
def trained(extracted: Manifest, reports: Path) -> Callable[..., Run]:
    """Trains a head, each once; a name is that of all features, or of some."""
    known: dict[str, Run] = {}

    def call(
        head: str, backbones: Sequence[str] = ("toynet@32",), **options: Any
    ) -> Run:
        key = repr((head, backbones, sorted(options.items())))
        if key not in known:
            keywords = OPTIONS | {"backbones": list(backbones)} | options
            (known[key],) = train_flat(
                extracted, reports, heads=[head], **keywords
            ).runs
        return known[key]

    return call


@pytest.fixture(scope="session")
def team(trained: Callable[..., Run], reports: Path, extracted: Manifest) -> Run:
    """An ensemble of heads on different features."""
    members = [
        trained("logreg", views=0),
        trained("svm", ["toynet@40"], taps="all"),
        trained("xgboost", views=0, transform="sqrt"),
    ]
    ids = [run.run_id for run in members]
    return ensemble(reports / extracted.dataset, ids).runs[0]


@pytest.fixture(scope="session")
def opened(extracted: Manifest, toy_network: Path) -> Callable[[Run], Model]:
    """The model of a run."""
    source = ModelSource(extracted.folder, files=[toy_network])
    return lambda run: of_run(runs.load(run.folder), source)


@pytest.fixture(scope="session")
def candidates(extracted: Manifest) -> dict[str, Candidate]:
    """All images by their ids."""
    ok = extracted.ok
    return {
        image_id: Candidate(image_id, images.read((extracted.root / path).read_bytes()))
        for image_id, path in zip(ok["image_id"], ok["path"], strict=True)
    }


@pytest.fixture(scope="session")
def finetuned(extracted: Manifest, reports: Path, toy_network: Path) -> Run:
    """A fine-tuned network, with a test set and views at prediction."""
    network = backbones.resolve(str(toy_network), input_size=32)
    options = {"epochs": 2, "batch_size": 8, "learning_rate": 0.01, "tta": 1}
    return finetune_flat(
        extracted, [network], reports=reports, **options, folds=2, test_size=0.3,
        fold="all",
    ).runs[0]  # fmt: skip


@pytest.fixture(scope="session")
def bundled(
    extracted: Manifest, toy_network: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Makes a bundle of a run, each once; a copy in a folder of its own."""
    known: dict[Any, Path] = {}

    def call(run: Run, **options: Any) -> Path:
        key = run.run_id, repr(options)
        if key not in known:
            path = tmp_path_factory.mktemp("made") / "model.fcb"
            make_bundle(extracted, run, path, files=[toy_network], **options)
            elsewhere = tmp_path_factory.mktemp("elsewhere") / "model.fcb"
            known[key] = shutil.move(path, elsewhere)
        return known[key]

    return call


@pytest.fixture(scope="session")
def run_of(
    trained: Callable[..., Run], team: Run, finetuned: Run
) -> dict[str, Callable[[], Run]]:
    """Runs by a word."""
    return {
        "views": lambda: trained("logreg"),
        "taps": lambda: trained(
            "svm", ["toynet@32+toynet@40"], taps="all", transform="sqrt"
        ),
        "regions": lambda: trained("logreg", views=0, taps="features:grid3"),
        "keras": lambda: trained("mlp", ["toynet@40"], pca=4, transform="l2"),
        "trees": lambda: trained("xgboost", views=0),
        "baseline": lambda: trained("logreg", ["metadata"], views=0),
        "ensemble": lambda: team,
        "fine-tuned": lambda: finetuned,
    }
