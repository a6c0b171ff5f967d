"""Datasets are listed, removed only when told to, and renamed with all they have."""

import errno
import json
import os
from pathlib import Path

import pytest
from records import make_run
from test_store import HEADER, fill, keys, rows
from toy_stores import FOLDER, PATH, REPORTS, Run, images, record

from featcache.commands.cache import ls_datasets, remove_dataset, rename_dataset
from featcache.errors import DatasetError, LockedError, UsageError
from featcache.evaluation import runs
from featcache.features import store

CACHE = Path("cache")


@pytest.fixture
def toy() -> None:
    """A dataset of three images with a store, a sealed part and a run."""
    images(0, 1, 2)
    fill(PATH, (0, 3))
    store.seal(PATH, HEADER, {"features": rows(3, 1)}, keys(3, 1))
    record("logreg-toy-1")


def test_ls_lists_datasets(run: Run, toy: None) -> None:
    """Images, classes, stores and runs are counted; the place of the images is told."""
    (entry,) = json.loads(run("dataset", "ls", "--json")[1])
    expected = {
        "dataset": "toy", "images": 3, "classes": ["class 0", "class 1"], "stores": 1,
        "runs": 1, "source": "xrays", "state": "its images are no longer there",
    }  # fmt: skip
    assert entry | expected == entry
    assert entry["bytes"] == sum(
        p.stat().st_size for p in FOLDER.parent.rglob("*") if p.is_file()
    )
    assert "class 0, class 1" in run("dataset", "ls")[1]


def test_ls_lists_what_is_damaged(run: Run, toy: None) -> None:
    """A manifest that cannot be read is a line with the reason, never an error."""
    (FOLDER.parent / "manifest.csv").write_text("nonsense")
    (entry,) = ls_datasets(CACHE, REPORTS)
    assert "cannot be read" in entry.state
    assert run("dataset", "ls")[0] == 0


def test_an_empty_cache_says_what_to_do(run: Run) -> None:
    """No dataset is no error; stderr says how to make one."""
    code, out, err = run("dataset", "ls")
    assert (code, out, "featcache scan" in err) == (0, "", True)


def test_rm_shows_and_then_does(run: Run, toy: None) -> None:
    """Without --yes nothing changes; with it the dataset goes, and its runs stay."""
    before = sorted(CACHE.rglob("*"))
    code, out, _ = run("dataset", "rm", "toy")
    assert (code, sorted(CACHE.rglob("*"))) == (0, before)
    assert str(PATH) in out
    assert "Dry run: add --yes" in out
    assert "1 run in reports/toy stays; --runs deletes them too." in out
    code, out, _ = run("dataset", "rm", "toy", "--yes")
    assert (code, FOLDER.parent.exists()) == (0, False)
    assert (REPORTS / "toy/runs/logreg-toy-1").is_dir()


def test_rm_deletes_runs_only_when_asked(toy: None) -> None:
    """--runs lists and deletes the folder in the reports as well."""
    shown = remove_dataset(CACHE, REPORTS, "toy", runs=True)
    assert REPORTS / "toy/runs" in [removal.path for removal in shown.removals]
    assert REPORTS.joinpath("toy/runs").is_dir()
    remove_dataset(CACHE, REPORTS, "toy", runs=True, yes=True)
    assert not REPORTS.joinpath("toy").exists()


def test_rm_takes_all_that_featcache_writes(run: Run, toy: None) -> None:
    """The measured training images too; nothing of it is called foreign."""
    for name in ("picture-statistics.npz", "picture-statistics.json", "thumbs.npz"):
        (FOLDER.parent / name).write_text("ours")
    _, _, err = run("dataset", "rm", "toy", "--yes")
    assert (err, FOLDER.parent.exists()) == ("", False)


def test_rm_keeps_what_is_not_ours(run: Run, toy: None) -> None:
    """A file that featcache does not write stays where it lies, and is named."""
    for notes in (FOLDER / "notes.txt", FOLDER.parent / "notes.txt"):
        notes.write_text("mine")
    _, _, err = run("dataset", "rm", "toy", "--yes")
    assert err.count("which is not a file of featcache") == 2
    left = [path for path in FOLDER.parent.rglob("*") if path.is_file()]
    assert {path.name for path in left} == {"notes.txt"}


@pytest.mark.parametrize("name", ["openvino", "..", "", ".", "other", "/", "toy/.."])
def test_only_datasets_are_removed(toy: None, name: str) -> None:
    """A folder of the cache that is no dataset, and any path, is refused."""
    (CACHE / "openvino").mkdir()
    with pytest.raises(DatasetError, match="no dataset in cache"):
        remove_dataset(CACHE, REPORTS, name, yes=True)
    assert PATH.exists()


def test_links_are_not_followed(toy: None, tmp_path: Path) -> None:
    """What a link leads to is nobody's to delete here."""
    (CACHE / "link").symlink_to(FOLDER.parent.resolve())
    with pytest.raises(DatasetError, match="symbolic link"):
        remove_dataset(CACHE, REPORTS, "link", yes=True)
    FOLDER.rename(tmp_path / "elsewhere")
    FOLDER.symlink_to(tmp_path / "elsewhere")
    assert FOLDER in remove_dataset(CACHE, REPORTS, "toy", yes=True).kept
    assert (tmp_path / "elsewhere" / PATH.name).exists()


def test_what_is_written_is_not_removed_or_renamed(toy: None) -> None:
    """While a process writes a store, the dataset stays as it is."""
    with store.writing(PATH):
        with pytest.raises(LockedError):
            remove_dataset(CACHE, REPORTS, "toy", yes=True)
        with pytest.raises(LockedError):
            rename_dataset(CACHE, REPORTS, "toy", "new")
    assert PATH.exists()
    with (
        runs.writing(REPORTS / "toy/runs/logreg-toy-2"),
        pytest.raises(LockedError, match="a run in"),
    ):
        rename_dataset(CACHE, REPORTS, "toy", "new")


def test_rename_moves_stores_and_runs(run: Run, toy: None) -> None:
    """Under the new name there are the same stores and runs, and no locks."""
    code, out, _ = run("dataset", "rename", "toy", "chest")
    assert (code, out) == (0, "Renamed toy to chest, with 1 run.\n")
    (entry,) = json.loads(run("cache", "ls", "--json")[1])
    assert (entry["dataset"], entry["runs"]) == ("chest", ["logreg-toy-1"])
    (renamed,) = runs.list_runs(REPORTS / "chest")[0]
    assert renamed.record.dataset == "chest"
    assert not FOLDER.parent.exists()
    assert not list(CACHE.rglob("*.lock"))


def test_a_rename_that_fails_leaves_all_as_it_was(
    toy: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs do not go under the new name while the dataset stays under the old."""
    rename = os.rename

    def refusing(source: Path, target: Path) -> None:
        if Path(target).parent == CACHE:
            raise PermissionError(errno.EACCES, "Permission denied", str(target))
        rename(source, target)

    monkeypatch.setattr(os, "rename", refusing)
    with pytest.raises(PermissionError):
        rename_dataset(CACHE, REPORTS, "toy", "new")
    assert len(runs.list_runs(REPORTS / "toy")[0]) == 1
    assert not (REPORTS / "new").exists()


def test_a_name_that_is_taken_is_refused(toy: None) -> None:
    """Neither another dataset's folder nor its runs are ever mixed with these."""
    make_run(REPORTS / "other", "logreg-toy-2")
    with pytest.raises(DatasetError, match="which exists"):
        rename_dataset(CACHE, REPORTS, "toy", "other")
    with pytest.raises(UsageError, match="plain name"):
        rename_dataset(CACHE, REPORTS, "toy", "../other")
    assert PATH.exists()
