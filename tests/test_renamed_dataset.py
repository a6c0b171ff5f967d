"""A dataset under another name: nothing is computed or trained again."""

from pathlib import Path

from toys import train_flat

from featcache.commands.cache import rename_dataset
from featcache.commands.compare import compare
from featcache.dataset import manifest

QUICK = {"folds": 2, "tune": False, "calibrate": False}


def test_all_is_there_under_the_new_name(dataset, toy, tmp_path: Path) -> None:
    """Features are cached, runs exist already, and their members fit."""
    toy(dataset)
    reports = tmp_path / "reports"
    before = train_flat(dataset, reports, heads=["logreg"], **QUICK)
    rename_dataset(dataset.folder.parent, reports, dataset.dataset, "other")
    renamed = manifest.load(dataset.folder.parent / "other")
    assert toy(renamed).computed == 0
    again = train_flat(renamed, reports, heads=["logreg"], **QUICK)
    assert again.new_run_ids == []
    assert [r.run_id for r in again.runs] == [r.run_id for r in before.runs]
    board = compare(reports / "other", manifest=renamed)
    assert board.dataset == "other"
