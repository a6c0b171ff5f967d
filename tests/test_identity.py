"""Identity: what a record is of is told by names and revisions, never by a place."""

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import header, make_dataset, naming_modules, train_flat, write_store

from featcache import backbones, heads
from featcache.backbones import BASELINES, baselines
from featcache.commands import ensemble
from featcache.commands.train_head import TrainResult
from featcache.dataset.manifest import Manifest
from featcache.evaluation import runs
from featcache.features.contract import Contract
from featcache.heads import HEADS, HeadRow

CUSTOM = "sklearn.naive_bayes:GaussianNB"
Train = Callable[..., TrainResult]


@pytest.fixture
def dataset(tmp_path: Path) -> Manifest:
    made = make_dataset(tmp_path)
    write_store(made, header(), views=0)
    return made


@pytest.fixture
def train(dataset: Manifest, tmp_path: Path) -> Train:
    def call(*names: str, **options: Any) -> TrainResult:
        quick = {"jobs": 1, "folds": 2, "tune": False, "transform": "sqrt"}
        return train_flat(dataset, tmp_path / "reports", heads=names, **quick | options)

    return call


@pytest.fixture
def change(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Changes fields of a row of the heads."""

    def call(table: Any, name: str, **fields: Any) -> None:
        monkeypatch.setitem(table, name, replace(table[name], **fields))

    return call


def moved(row: HeadRow, folder: Path) -> str:
    """Copies a head's module, and gives the path of the class in the copy."""
    module, _, cls = row.path.partition(":")
    name = f"moved_{module.rpartition('.')[2]}"
    source = Path(str(importlib.import_module(module).__file__)).read_text()
    (folder / f"{name}.py").write_text(source)
    return f"{name}:{cls}"


@pytest.mark.parametrize("name", ["logreg", CUSTOM])
def test_a_head_may_move(
    train: Train,
    change: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
) -> None:
    """In another module it is the same head: ids stay, nothing is trained again."""
    [before] = train(name).runs
    table, key = (heads._WRAPPERS, "custom") if ":" in name else (HEADS._rows, name)
    wrapped = (heads._WRAPPERS, "embedded")
    monkeypatch.syspath_prepend(tmp_path)
    for rows, row in ((table, key), wrapped):
        change(rows, row, path=moved(rows[row], tmp_path))
    again = train(name)
    assert (again.new_run_ids, again.runs[0].record) == ([], before.record)
    loaded = heads.load(before.folder)
    assert type(loaded).__module__ == "moved_embedded"
    assert type(loaded.head_).__module__.startswith("moved_")
    [forced] = train(name, force=True).runs
    assert forced.run_id == before.run_id
    for field in ("head_is", "recipe_id"):
        assert getattr(forced.record, field) == getattr(before.record, field)
    p = [run.predictions().p for run in (before, forced)]
    assert np.array_equal(*p)


@pytest.mark.parametrize(
    ("name", "rows", "row"),
    [
        ("logreg", HEADS._rows, "logreg"),
        ("logreg", heads._WRAPPERS, "embedded"),
        (CUSTOM, heads._WRAPPERS, "custom"),
    ],
)
def test_another_revision_is_another_head(
    train: Train, change: Callable[..., None], name: str, rows: Any, row: str
) -> None:
    """A raised revision changes head_is, recipe_id and run_id."""
    [before] = train(name).runs
    change(rows, row, revision=rows[row].revision + 1)
    [after] = train(name).runs
    for field in ("head_is", "recipe_id"):
        assert getattr(after.record, field) != getattr(before.record, field)
    assert after.run_id != before.run_id
    assert after.record.evaluation_id == before.record.evaluation_id


def test_another_revision_is_another_ensemble(
    train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As of heads."""
    members = [run.run_id for run in train("logreg", CUSTOM).runs]
    reports = tmp_path / "reports/chest"

    def vote() -> runs.Run:
        return ensemble.ensemble(reports, members, calibrate=False).runs[0]

    before = vote()
    monkeypatch.setattr(ensemble, "REVISION", ensemble.REVISION + 1)
    after = vote()
    assert before.run_id != after.run_id
    assert before.record.recipe_id != after.record.recipe_id


def test_a_baseline_is_its_name_and_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """What measures it may have another name."""
    for name in BASELINES:
        row = replace(baselines.ROWS[name], measure=lambda picture, cut: cut(1))
        assert row.architecture == f"{name}, version {baselines.VERSION}"


def test_no_record_names_a_module(train: Train, tmp_path: Path) -> None:
    """Of heads, ensembles and stores."""
    made = train("logreg", "svm", CUSTOM, pca=4).runs
    made += train("logreg", tune=True, transform="none").runs
    reports = tmp_path / "reports/chest"
    made += ensemble.ensemble(reports, [run.run_id for run in made]).runs
    assert [name for run in made for name in naming_modules(run.folder)] == []
    networks = [*map(backbones.resolve, BASELINES)]
    for network in (*networks, backbones.resolve("densenet121", "random")):
        assert "featcache" not in str(Contract.of(network).to_json())
