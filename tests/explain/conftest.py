"""A run on the toy network's features, and its explanation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toys import train_flat

from featcache import backbones
from featcache.commands.explain import ExplainResult, explain
from featcache.commands.extract import extract
from featcache.dataset.manifest import Manifest
from featcache.evaluation.runs import Run


@pytest.fixture
def trained(dataset: Manifest, tmp_path: Path, toy_network: Path) -> Callable[..., Run]:
    """Trains one head on the toy network's features, and gives its run."""

    def call(head: str = "logreg", **options: Any) -> Run:
        size, taps = options.pop("size", 32), options.pop("taps", "none")
        network = backbones.resolve(str(toy_network), input_size=size)
        extract(dataset, [network], taps=taps, tap_pooling="avg+max",
                engine="tensorflow", batch_size=8)  # fmt: skip
        options = {"backbones": ["all"], "tune": False, "folds": 2, "jobs": 1} | options
        options |= {"taps": "all" if taps != "none" else "none", "test_size": 0.3}
        return train_flat(dataset, tmp_path / "reports", heads=[head], **options).runs[
            0
        ]

    return call


@pytest.fixture
def look(dataset: Manifest, toy_network: Path) -> Callable[..., ExplainResult]:
    """Explains a run of the dataset, whose network is named, without mean maps."""

    def call(run: Run, **options: Any) -> ExplainResult:
        return explain(dataset, run, **{"mean": 0, "files": [toy_network]} | options)

    return call
