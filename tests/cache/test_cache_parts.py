"""The commands on stores in part files do what they do on those of one file."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from test_store import HEADER, fill, keys, rows
from toy_stores import FOLDER, PATH, REPORTS, Run, images, left

import featcache
from featcache.commands import cache
from featcache.errors import StoreError
from featcache.features import store
from featcache.features.store import publication

DATA = FOLDER / "toy-random-12345678.data"


@pytest.fixture(autouse=True)
def _store_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of eight images in files of six and two."""
    monkeypatch.setattr(publication, "PARTS_ABOVE", 1)
    images(*range(8))
    fill(PATH, (0, 6))
    fill(PATH, (6, 2))


def test_ls_and_info_count_all_files(run: Run) -> None:
    """The size is that of all files; their number is told."""
    (listed,) = json.loads(run("cache", "ls", "--json")[1])
    sizes = [path.stat().st_size for path in (PATH, *DATA.iterdir())]
    assert len(sizes) == 3
    assert (listed["bytes"], listed["files"], listed["parts"]) == (sum(sizes), 2, 0)
    assert (listed["rows"], listed["status"]) == (8, "ok")
    assert json.loads(run("cache", "info", str(PATH), "--json")[1])["files"] == 2


def test_ls_names_a_missing_part() -> None:
    """A store without one of its files is damaged, and says which."""
    part = store.data_files(PATH)[0]
    part.unlink()
    (entry,) = cache.ls(Path("cache"), REPORTS)
    assert entry.status == cache.DAMAGED
    assert part.name in entry.reason


def test_compact_makes_one_file(run: Run) -> None:
    """Rows stay as they are; a second call leaves the file alone."""
    before = store.open_store(PATH)
    code, out, _ = run("cache", "compact", "--json")
    (record,) = json.loads(out)
    assert code == 0
    assert record == {
        "path": str(PATH), "rows": 8, "files": 2, "bytes": PATH.stat().st_size
    }  # fmt: skip
    after = store.open_store(PATH)
    assert np.array_equal(after.features(), rows(0, 8))
    with pytest.raises(StoreError, match="has just replaced the store"):
        before.features()
    assert after.keys.equals(before.keys)
    assert left() == {PATH.name}
    with h5py.File(PATH) as file:
        assert not file["features"].is_virtual
    content = PATH.read_bytes()
    assert "files before" in run("cache", "compact", PATH.name)[1]
    assert PATH.read_bytes() == content


def test_compact_stops_at_damage(run: Run) -> None:
    """What has rotted gets no fresh checksum."""
    part = store.open_store(PATH).segments[0].files[0].path
    with h5py.File(part, "r+") as file:
        file["features"][0] += 50
    before = PATH.read_bytes()
    code, _, err = run("cache", "compact")
    assert code
    assert part.name in err
    assert PATH.read_bytes() == before


def test_prune_writes_only_files_of_its_rows(run: Run) -> None:
    """The size afterwards is that of all files, which the other one is still of."""
    before = store.open_store(PATH).segments[0].files
    images(*range(7))
    total = PATH.stat().st_size + sum(p.stat().st_size for p in DATA.iterdir())
    (done,) = json.loads(run("cache", "prune", "--yes", "--json")[1])["removals"]
    after = PATH.stat().st_size + sum(p.stat().st_size for p in DATA.iterdir())
    assert (done["before"], done["after"]) == (total, after)
    assert np.array_equal(store.open_store(PATH).features(), rows(0, 7))
    assert store.open_store(PATH).segments[0].files == before


def test_prune_of_all_rows_removes_all_files() -> None:
    """A store without rows is deleted with its part files."""
    images(9)
    cache.prune(Path("cache"), REPORTS, yes=True)
    assert left() == set()


def test_prune_removes_part_files_that_are_not_used() -> None:
    """What a crash left beside the used ones goes; they stay."""
    used = store.data_files(PATH)
    stray = DATA / f"{'0' * 16}.h5"
    shutil.copy(used[0], stray)
    pruned = cache.prune(Path("cache"), REPORTS, yes=True)
    assert [removal.path for removal in pruned.removals] == [stray]
    assert store.data_files(PATH) == used


def test_load_and_export_join_all_files() -> None:
    """Labels and embeddings of every part, in the manifest's order."""
    assert np.array_equal(featcache.load(PATH).X, rows(0, 8))
    cache.export(PATH, Path("toy.npz"))
    with np.load("toy.npz") as exported:
        assert np.array_equal(exported["X"], rows(0, 8))


def test_a_renamed_dataset_keeps_its_parts(run: Run) -> None:
    """Stores are used under the new name, and grow there."""
    assert run("dataset", "rename", "toy", "other")[0] == 0
    path = Path("cache/other/features") / PATH.name
    assert np.array_equal(fill(path, (8, 1)).features(), rows(0, 9))
    with h5py.File(path) as file:
        assert np.array_equal(file["features"][:], rows(0, 9))


def test_a_removed_dataset_leaves_no_parts(run: Run) -> None:
    """Part files are of the dataset."""
    assert run("dataset", "rm", "toy", "--yes")[0] == 0
    assert not FOLDER.parent.exists()


def test_rows_are_copied_from_parts() -> None:
    """Another dataset takes rows from a store in parts, each read from its file."""
    from featcache.features.copies import OpenedStore, copy_rows

    other = OpenedStore.open(PATH)
    block = keys(0, 8).iloc[[1, 5, 6, 7]].assign(row=[1, 5, 6, 7])
    copied = Path("cache/second/features") / PATH.name
    copy_rows(copied, HEADER, other, block, ["features"])
    published = store.publish(copied, HEADER)
    assert published is not None
    assert published.features()[:, 0].tolist() == [1, 5, 6, 7]
