"""A dataset that is removed while a call uses it: one error, and nothing is left."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toys import Heard, finetune_flat, train_flat

from featcache import backbones
from featcache.commands.extract import StoreResult
from featcache.dataset.manifest import Manifest
from featcache.deploy import opening
from featcache.deploy.opening import Place, open_model
from featcache.errors import DatasetError

QUICK = {"folds": 2, "tune": False, "calibrate": False, "jobs": 1}
REMOVED = r"was removed or renamed.*featcache dataset ls\), or scan the source again"


def removing(*folders: Path, after: int = 1) -> Heard:
    """Removes folders after so many steps of progress."""
    ticks: list[tuple[str, int, int]] = []

    def remove(*_: Any) -> None:
        if len(ticks) == after:
            for folder in folders:
                shutil.rmtree(folder)

    return Heard([], ticks, remove)


@pytest.mark.parametrize("after", [1, 5])  # with rows to come, and at the last
def test_while_it_is_extracted(
    dataset: Manifest, toy: Callable[..., StoreResult], after: int
) -> None:
    """Neither the store nor the record of the call brings its folder back."""
    with pytest.raises(DatasetError, match=REMOVED):
        toy(dataset, reporter=removing(dataset.folder, after=after))
    assert not dataset.folder.exists()


def test_by_its_manifest_while_it_is_extracted(
    dataset: Manifest, toy: Callable[..., StoreResult]
) -> None:
    """What is not of featcache keeps the folder of a dataset that is removed."""
    manifest = dataset.folder / "manifest.csv"
    heard = Heard([], [], lambda *_: manifest.unlink(missing_ok=True))
    with pytest.raises(DatasetError, match=REMOVED):
        toy(dataset, reporter=heard)


@pytest.mark.parametrize("with_runs", [False, True])
def test_while_heads_are_trained(
    dataset: Manifest,
    toy: Callable[..., StoreResult],
    tmp_path: Path,
    with_runs: bool,
) -> None:
    """No run is written for a dataset that is gone; what was whole stays."""
    toy(dataset)
    reports, words = tmp_path / "reports", {"heads": ["majority", "logreg"], **QUICK}
    train_flat(dataset, reports, **words | {"heads": ["majority"]})
    before = {path.name for path in (reports / "chest/runs").iterdir()}
    folders = [dataset.folder, *([reports / "chest"] if with_runs else [])]
    with pytest.raises(DatasetError, match=REMOVED):
        train_flat(dataset, reports, reporter=removing(*folders), **words)
    assert not dataset.folder.exists()
    left = {path.name for path in reports.glob("chest/runs/*")}
    assert left == (set() if with_runs else before)
    assert (reports / "chest").exists() is not with_runs


def test_before_heads_are_trained(dataset: Manifest, tmp_path: Path) -> None:
    """Features that are gone with their dataset are no features to extract."""

    class Removing(Heard):
        def message(self, text: str) -> None:
            shutil.rmtree(dataset.folder)

    table = dataset.table.assign(split="train")
    table.loc[table.index[::2], "split"] = "test"  # parts groups, which is told
    made = Manifest(dataset.folder, dataset.settings, table)
    with pytest.raises(DatasetError, match=REMOVED):
        train_flat(made, tmp_path / "r", split_by="split", reporter=Removing(), **QUICK)
    assert not dataset.folder.exists()


@pytest.mark.slow
def test_while_a_network_is_fine_tuned(
    dataset: Manifest, toy_network: Path, tmp_path: Path
) -> None:
    """No run is written."""
    network = backbones.resolve(str(toy_network))
    with pytest.raises(DatasetError, match=REMOVED):
        finetune_flat(
            dataset, [network], reports=tmp_path / "reports", fold="test", epochs=1,
            folds=2, reporter=removing(dataset.folder),
        )  # fmt: skip
    assert not dataset.folder.exists()
    assert not list(tmp_path.glob("reports/chest/runs/*"))


def test_while_a_model_is_opened(
    dataset: Manifest,
    toy: Callable[..., StoreResult],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Prediction says what became of the dataset, not which store it misses."""
    toy(dataset)
    train_flat(dataset, tmp_path / "reports", heads=["majority"], **QUICK)
    real = opening.of_run

    def of_run(*words: Any) -> Any:
        shutil.rmtree(dataset.folder)
        return real(*words)

    monkeypatch.setattr(opening, "of_run", of_run)
    place = Place(dataset.folder.parent, tmp_path / "reports")
    with pytest.raises(DatasetError, match=REMOVED), open_model("1", place):
        pass
    assert not dataset.folder.exists()
