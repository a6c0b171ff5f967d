"""A run on the toy network's features, and its explanation."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toys import train_flat, write_images

from featcache import backbones
from featcache.commands.explain import ExplainResult, explain
from featcache.commands.extract import extract
from featcache.commands.scan import scan
from featcache.dataset.manifest import Manifest
from featcache.evaluation import runs
from featcache.evaluation.runs import Run


@pytest.fixture(scope="session")
def extracted(
    toy_network: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Manifest]:
    """Extracts the images of ``dataset`` at these sizes, the first with taps, once.

    Taps are of an inner layer, or of the last map by its poolings.
    """
    known: dict[tuple[tuple[int, ...], str], Manifest] = {}

    def call(sizes: tuple[int, ...], taps: str) -> Manifest:
        if (sizes, taps) not in known:
            home = tmp_path_factory.mktemp("explain")
            images = write_images(home / "chest")
            dataset = scan(images, home / "cache", group_by=r"(p\d{3})_").manifest
            for size in sizes:
                network = backbones.resolve(str(toy_network), input_size=size)
                first, of_last = size == sizes[0], taps.startswith("features:")
                extract(dataset, [network],
                        taps=taps if first and not of_last else "none",
                        pooling=taps[len("features:"):] if of_last else "avg",
                        tap_pooling="avg+max", engine="tensorflow",
                        batch_size=8)  # fmt: skip
            known[sizes, taps] = dataset
        return known[sizes, taps]

    return call


@pytest.fixture
def trained(
    extracted: Callable[..., Manifest], dataset: Manifest, tmp_path: Path
) -> Callable[..., Run]:
    """A head on the toy network's features: trained once, the test's own copy."""

    def call(
        head: str = "logreg",
        *,
        sizes: tuple[int, ...] = (32,),
        taps: str = "none",
        **options: Any,
    ) -> Run:
        twin = extracted(sizes, taps)
        options = {"backbones": ["all"], "tune": False, "folds": 2, "jobs": 1} | options
        options |= {"taps": "all" if taps != "none" else "none", "test_size": 0.3}
        home = twin.folder.parents[1]
        (run,) = train_flat(twin, home / "reports", heads=[head], **options).runs
        own = shutil.ignore_patterns("manifest.csv", "dataset.json")
        shutil.copytree(twin.folder, dataset.folder, dirs_exist_ok=True, ignore=own)
        folder = tmp_path / run.folder.relative_to(home)
        shutil.copytree(run.folder, folder)
        return runs.load(folder)

    return call


@pytest.fixture
def look(dataset: Manifest, toy_network: Path) -> Callable[..., ExplainResult]:
    """Explains a run of the dataset, whose network is named, without mean maps."""

    def call(run: Run, **options: Any) -> ExplainResult:
        return explain(dataset, run, **{"mean": 0, "files": [toy_network]} | options)

    return call
