"""Looking after stores: listed, checked, thinned out, exported; never lost."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from test_store import HEADER, damage_cut, damage_keys, fill, flip_byte, keys, rows

import featcache
from featcache import cache, manifest, runs, store
from featcache.cache import exporting, pruning
from featcache.engines.base import network_name
from featcache.errors import LockedError, RunError, StoreError
from featcache.manifest import Manifest, Settings

FOLDER = Path("cache/toy/features")
PATH = FOLDER / "toy-random-12345678.h5"
REPORTS = Path("reports")
ONE, TWO = {"flip": True}, {"flip": False}
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def images(*numbers: int) -> Manifest:
    """Makes the manifest of images whose ids are their numbers."""
    table = keys(0, 1 + max(numbers)).iloc[list(numbers)][["image_id", "path"]]
    table = table.reindex(columns=manifest.COLUMNS, fill_value="").assign(
        label=[f"class {n % 2}" for n in numbers],
        group=[f"patient {n}" for n in numbers],
        status=manifest.OK,
        **dict.fromkeys(("width", "height", "bytes"), 1),
    )
    found = Manifest(FOLDER.parent, Settings("xrays", "xrays", "patient"), table)
    manifest.save(found)
    return found


def with_views(count: int, *policies: dict[str, object]) -> store.Store:
    """A store of plain rows, and of one view by each policy."""
    fill(PATH, (0, count))
    for number, _ in enumerate(policies):
        header = replace(HEADER, policies=list(policies))
        views = keys(0, count, view=1, policy=number)
        store.seal(PATH, header, {"features": rows(0, count)}, views)
        store.publish(PATH, header)
    return store.open_store(PATH)


def record(name: str, policy: dict[str, object] | None = None) -> None:
    """A run that used the store, and another one beside it."""
    fields: dict[str, object] = {key: kind() for key, kind in runs._REQUIRED.items()}
    blocks = [{"contract_id": contract} for contract in (HEADER.contract_id, "other")]
    fields |= {"features": blocks, "contract_id": None, "split": {"name": "k5"}}
    fields |= {"policy": policy, "status": "ok"}
    with runs.saving(REPORTS / "toy" / "runs" / name, fields):
        pass


def left() -> set[str]:
    """Names of all files and folders with the store."""
    return {path.name for path in FOLDER.rglob("*")}


def test_ls_tells_what_a_store_holds(run: Run) -> None:
    """Rows, images, views, width, runs and waiting parts are counted."""
    with_views(3, ONE)
    store.seal(PATH, HEADER, {"features": rows(3, 1)}, keys(3, 1))
    record("logreg-toy-1")
    (entry,) = json.loads(run("cache", "ls", "--json")[1])
    expected = {
        "dataset": "toy", "store": PATH.name, "status": "ok", "backbone": "toy",
        "weights": "random", "input_size": 32, "dtype": "float32", "rows": 6,
        "images": 3, "views": 1, "dim": 5, "taps": [], "parts": 1, "locked_by": "",
        "runs": ["logreg-toy-1"],
    }  # fmt: skip
    assert entry | expected == entry
    code, out, _ = run("cache", "ls")
    assert (code, "toy (random)" in out, "Stores: 1" in out) == (0, True, True)


def test_ls_of_a_dataset_leaves_the_others_out() -> None:
    """With a name, only that dataset's stores are listed."""
    images(0)
    fill(PATH, (0, 1))
    fill(Path("cache/other/features") / PATH.name, (0, 1))
    assert [e.dataset for e in cache.ls(Path("cache"), REPORTS)] == ["other", "toy"]
    assert len(cache.ls(Path("cache"), REPORTS, dataset="toy")) == 1


def test_ls_lists_what_is_damaged(run: Run) -> None:
    """A damaged store is a line with the reason, never an error."""
    fill(PATH, (0, 3))
    damage_keys(PATH)
    code, out, _ = run("cache", "ls")
    assert code == 0
    assert "damaged: keys with another checksum" in out


def test_ls_lists_what_is_not_published_yet() -> None:
    """Sealed parts without a store wait for the next extract; they are no rows."""
    store.seal(PATH, HEADER, {"features": rows(0, 2)}, keys(0, 2))
    (entry,) = cache.ls(Path("cache"), REPORTS)
    assert (entry.status, entry.rows, entry.parts) == ("waiting", 0, 1)
    assert entry.backbone == "toy"


def test_ls_tells_the_living_from_the_dead() -> None:
    """A lock says who holds it while it is held, and nobody after a crash."""
    fill(PATH, (0, 1))
    with store.writing(PATH):
        (entry,) = cache.ls(Path("cache"), REPORTS)
        assert f"pid {os.getpid()} on" in entry.locked_by
    PATH.with_suffix(".lock").write_text("pid 1 on nowhere")
    (entry,) = cache.ls(Path("cache"), REPORTS)
    assert entry.locked_by == ""


def test_an_empty_cache_lists_nothing(run: Run) -> None:
    """No store is no error; stderr says how to make one."""
    assert run("cache", "ls", "--json")[:2] == (0, "[]\n")
    code, out, err = run("cache", "ls")
    assert (code, out, "featcache extract" in err) == (0, "", True)


def test_a_store_is_found_by_what_only_it_has() -> None:
    """Path, file name or a unique part will do; others are named."""
    fill(PATH, (0, 1))
    other = fill(FOLDER / "toy-file-12345678.h5", (0, 1)).path
    for reference in (str(PATH), PATH.name, PATH.stem, "random"):
        assert cache.find(Path("cache"), reference) == PATH
    assert cache.find(Path("cache"), "toy-file") == other
    with pytest.raises(StoreError, match=r"'toy-', which 2 of 2 stores have: toy/fea"):
        cache.find(Path("cache"), "toy-")
    with pytest.raises(StoreError, match="none of 2"):
        cache.find(Path("cache"), "vgg")


def test_info_tells_all(run: Run) -> None:
    """Contract, policies, notes, rows by view, taps, coverage and runs."""
    images(1, 2, 3)
    header = replace(HEADER, policies=[ONE], notes={"drift": {"mean_cosine": 0.99}})
    both = {"features": rows(0, 2), "fire4:max": rows(0, 2)[:, :2]}
    store.seal(PATH, header, both, keys(0, 2))
    store.seal(PATH, header, {"features": rows(2, 1)}, keys(2, 1))
    store.seal(PATH, header, {"features": rows(0, 1)}, keys(0, 1, view=1, policy=0))
    store.publish(PATH, header)
    record("logreg-toy-1")
    found = json.loads(run("cache", "info", "toy", "--json")[1])
    assert found["contract"] == HEADER.contract
    assert found["contract_id"] == HEADER.contract_id
    assert found["rows_by_view"] == [
        {"policy": -1, "view": 0, "rows": 3},
        {"policy": 0, "view": 1, "rows": 1},
    ]
    assert found["filled"] == [{"layer": "fire4:max", "dim": 2, "rows": 2}]
    assert found["coverage"] == {"with_rows": 2, "without_rows": 1, "left_over": 2}
    assert found["runs"] == ["logreg-toy-1"]
    code, out, _ = run("cache", "info", "toy")
    assert code == 0
    for text in ("contract: input_size", "mean_cosine 0.99", "fire4:max", "logreg-toy"):
        assert text in out


def test_info_without_a_manifest(run: Run) -> None:
    """A store alone is shown; its coverage is unknown."""
    fill(PATH, (0, 1))
    assert json.loads(run("cache", "info", str(PATH), "--json")[1])["coverage"] is None
    assert "No manifest" in run("cache", "info", str(PATH))[1]


def test_whole_stores_are_whole(run: Run) -> None:
    """Nothing damaged is exit code 0."""
    fill(PATH, (0, 3))
    store.seal(PATH, HEADER, {"features": rows(3, 1)}, keys(3, 1))
    code, out, _ = run("cache", "verify", "--json")
    assert code == 0
    assert [(one["rows"], one["whole"]) for one in json.loads(out)] == [
        (3, True), (1, True),
    ]  # fmt: skip


def damage_matrix(path: Path) -> None:
    flip_byte(path, rows(1000, 1).tobytes())


def damage_filled(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["features"].attrs["filled"] = 1


@pytest.mark.parametrize(
    "damage", [damage_cut, damage_keys, damage_matrix, damage_filled]
)
def test_a_damaged_store_is_moved_aside(run: Run, damage) -> None:
    """Exit code 1 and a way out; --repair keeps the bytes under another name."""
    fill(PATH, (1000, 3))
    damage(PATH)
    content = PATH.read_bytes()
    code, out, err = run("cache", "verify", "random")
    assert (code, "damaged:" in out, "--repair moves it aside" in out) == (
        1,
        True,
        True,
    )
    assert "1 of 1 damaged" in err
    assert PATH.read_bytes() == content
    code, out, _ = run("cache", "verify", "--repair")
    assert (code, "moved to" in out) == (0, True)
    assert left() == {f"{PATH.name}.damaged"}
    assert (FOLDER / f"{PATH.name}.damaged").read_bytes() == content


def test_what_was_moved_aside_stays() -> None:
    """A second damaged store of the same name replaces no earlier one."""
    for content in ("one", "two"):
        PATH.parent.mkdir(parents=True, exist_ok=True)
        PATH.write_text(content)
        cache.verify([PATH], repair=True)
    assert left() == {f"{PATH.name}.damaged", f"{PATH.name}.damaged2"}
    assert (FOLDER / f"{PATH.name}.damaged").read_text() == "one"


def test_a_damaged_part_is_removed(run: Run) -> None:
    """Its rows are computed again; the parts beside it stay."""
    store.seal(PATH, HEADER, {"features": rows(0, 2)}, keys(0, 2))
    part = store.seal(PATH, HEADER, {"features": rows(1000, 2)}, keys(1000, 2))
    damage_matrix(part)
    assert run("cache", "verify")[0] == 1
    assert run("cache", "verify", "--repair")[0] == 0
    assert {p.name for p in store.parts_folder(PATH).iterdir()} == {"000000.h5"}


def test_a_store_that_is_written_is_not_repaired() -> None:
    """Repair needs the lock, as every writer does."""
    fill(PATH, (0, 1))
    damage_keys(PATH)
    with store.writing(PATH), pytest.raises(LockedError):
        cache.verify([PATH], repair=True)
    assert PATH.exists()


def test_prune_shows_and_then_does(run: Run) -> None:
    """Without --yes not a byte changes; with it, exactly what was shown."""
    with_views(4, ONE)
    images(1, 3)
    content = PATH.read_bytes()
    code, out, _ = run("cache", "prune", "--json")
    (shown,) = json.loads(out)["removals"]
    assert code == 0
    assert shown["what"] == "4 rows of 2 images that left the manifest"
    assert PATH.read_bytes() == content
    assert "Nothing is removed without --yes" in run("cache", "prune")[1]
    code, out, _ = run("cache", "prune", "--yes", "--json")
    (done,) = json.loads(out)["removals"]
    assert (done["before"], done["after"]) == (len(content), PATH.stat().st_size)
    found = store.open_store(PATH)
    assert found.keys["view"].tolist() == [0, 0, 1, 1]
    assert np.array_equal(found.features()[:, 0], [1, 3, 1, 3])
    assert found.header.policies == [ONE]
    assert "Nothing to remove" in run("cache", "prune", "--yes")[1]


def test_prune_keeps_taps() -> None:
    """Rows that stay keep all matrices, and rows without a tap still lack it."""
    both = {"features": rows(0, 2), "fire4": rows(0, 2)[:, :2]}
    store.seal(PATH, HEADER, both, keys(0, 2))
    fill(PATH, (2, 2))
    images(1, 2)
    cache.prune(Path("cache"), REPORTS, yes=True)
    found = store.open_store(PATH)
    assert found.has("fire4").tolist() == [True, False]
    assert np.array_equal(found.read("fire4")[0], [1, 1])


def test_prune_of_policies_keeps_what_runs_use(run: Run) -> None:
    """Views of other policies go, and the one left is the newest then."""
    with_views(2, ONE, TWO)
    images(0, 1)
    record("logreg-toy-1", ONE)
    assert "Nothing to remove" in run("cache", "prune", "--yes")[1]
    code, out, _ = run("cache", "prune", "--policies", "--yes")
    assert (code, "2 rows of policies that no run uses" in out) == (0, True)
    assert store.open_store(PATH).header.policies == [ONE]
    assert len(featcache.load(PATH, views=1).X) == 4


def test_prune_of_policies_needs_every_run() -> None:
    """What a broken run uses cannot be known, so nothing is taken from it."""
    with_views(2, ONE)
    images(0, 1)
    (REPORTS / "toy" / "runs" / "broken").mkdir(parents=True)
    with pytest.raises(RunError):
        cache.prune(Path("cache"), REPORTS, policies=True, yes=True)
    assert len(store.open_store(PATH).keys) == 4


def test_a_store_without_rows_is_deleted(run: Run) -> None:
    """Shown as a whole store beforehand; no other file of the folder goes."""
    fill(PATH, (0, 2))
    other = FOLDER / "toy-file-12345678.h5"
    fill(other, (2, 2))
    images(2, 3)
    assert "all: 2 rows" in run("cache", "prune")[1]
    assert PATH.exists()
    pruned = cache.prune(Path("cache"), REPORTS, yes=True)
    assert [(r.kind, r.after) for r in pruned.removals] == [("store", 0)]
    assert left() == {other.name}


def test_an_interrupted_prune_leaves_the_store_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Old bytes, no lock, no temporary file; the next call does the work."""
    fill(PATH, (0, 3))
    images(1)
    content = PATH.read_bytes()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("featcache.store.write._write_matrix", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cache.prune(Path("cache"), REPORTS, yes=True)
    assert PATH.read_bytes() == content
    assert left() == {PATH.name}
    cache.prune(Path("cache"), REPORTS, yes=True)
    assert len(store.open_store(PATH).keys) == 1


def test_rot_gets_no_fresh_checksum() -> None:
    """A store whose bytes have changed is not rewritten, but named."""
    fill(PATH, (1000, 3))
    images(1000)
    damage_matrix(PATH)
    content = PATH.read_bytes()
    pruned = cache.prune(Path("cache"), REPORTS, yes=True)
    assert (pruned.removals, len(pruned.left_out)) == ([], 1)
    assert PATH.read_bytes() == content


def test_prune_leaves_alone_what_it_cannot_judge(run: Run) -> None:
    """Without a manifest, damaged, or being written: named, and untouched."""
    fill(PATH, (0, 2))
    assert "a scanned dataset" not in run("cache", "prune", "--yes")[1]
    assert PATH.exists()
    images(0)
    with store.writing(PATH):
        pruned = cache.prune(Path("cache"), REPORTS, yes=True)
        assert f"written by pid {os.getpid()}" in pruned.left_out[0]
    damage_keys(PATH)
    code, _, err = run("cache", "prune", "--yes")
    assert (code, "Left out:" in err, "checksum" in err) == (0, True, True)
    assert left() == {PATH.name}


def age(path: Path) -> Path:
    """Makes a file two days old."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    old = time.time() - 2 * pruning.OLD_SECONDS
    os.utime(path, (old, old))
    return path


def test_prune_clears_up_after_the_dead() -> None:
    """Temporary files, locks, parts without an image, networks without a contract."""
    images(0)
    fill(PATH, (0, 1))
    gone = FOLDER / "gone-random-1.h5"
    store.seal(gone, HEADER, {"features": rows(5, 1)}, keys(5, 1))
    networks = Path("cache/openvino")
    (networks / ".vgg19-0123.xml.abc.tmp").mkdir(parents=True)
    expected = {
        ("parts", store.parts_folder(gone)),
        ("temporary", FOLDER / f".{PATH.name}.1.tmp"),
        ("temporary", Path("cache/toy/.manifest.csv.1.tmp")),
        ("temporary", networks / ".vgg19-0123.xml.abc.tmp"),
        ("lock", PATH.with_suffix(".lock")),
        ("lock", Path("cache/toy/.manifest.lock")),
        ("network", networks / "vgg19-0123.xml"),
        ("network", networks / "toy-01234567-0123.xml"),
        ("network", networks / "toy-89abcdef-0123.bin"),  # its .xml went first
        ("digest", networks / "weights-0123456789abcdef.json"),
    }
    for _, path in expected:
        age(path)
    (networks / "vgg19-0123.bin").touch()
    pruned = cache.prune(Path("cache"), REPORTS)
    assert {(r.kind, r.path) for r in pruned.removals} == expected
    assert all(r.path.exists() for r in pruned.removals)
    cache.prune(Path("cache"), REPORTS, yes=True)
    assert left() == {PATH.name}
    assert not list(networks.iterdir())
    assert not cache.prune(Path("cache"), REPORTS).removals


def test_prune_keeps_what_is_alive() -> None:
    """Sealed work, held locks, young files, and networks of a store's contract."""
    images(0, 1)
    fill(PATH, (0, 1))
    quantised = HEADER.contract | {"quantised": "0123", "weights_digest": "4567"}
    waiting = FOLDER / "toy-random-abcdef01.h5"
    header = replace(HEADER, contract=quantised)
    store.seal(waiting, header, {"features": rows(0, 1)}, keys(0, 1))
    memo = Path("cache/openvino/weights-0123456789abcdef.json")
    memo.parent.mkdir()
    memo.write_text('{"weights_digest": "4567"}')
    age(memo)
    store.seal(PATH, HEADER, {"features": rows(1, 1)}, keys(1, 1))
    Path("cache/toy/.manifest.1.tmp").touch()
    for number in "01":
        age(Path(f"cache/openvino/{network_name(HEADER.contract)}-{number}.xml"))
    Path("cache/openvino/vgg19-0123.xml").touch()
    with store.writing(PATH):
        (FOLDER / f".{PATH.name}.1.tmp").touch()
        assert not cache.prune(Path("cache"), REPORTS, yes=True).removals
    assert {"000000.h5", f".{PATH.name}.1.tmp"} <= left()


def test_prune_keeps_networks_where_a_store_cannot_be_read() -> None:
    """What a damaged store is of cannot be known, so no network is given up."""
    images(0)
    fill(PATH, (0, 1))
    damage_keys(PATH)
    network = age(Path("cache/openvino/vgg19-01234567-0123.xml"))
    assert not cache.prune(Path("cache"), REPORTS, yes=True).removals
    assert network.exists()


def read_npz(path: Path) -> tuple[np.ndarray, pd.DataFrame]:
    with np.load(path) as file:
        columns = {"label": "y", "group": "groups"}
        names = {c: columns.get(c, c) for c in exporting.COLUMNS}
        return file["X"], pd.DataFrame({c: file[n] for c, n in names.items()})


def read_table(table: pd.DataFrame) -> tuple[np.ndarray, pd.DataFrame]:
    names = [c for c in table if c not in exporting.COLUMNS]
    assert names == [f"f{i}" for i in range(len(names))]
    return table[names].to_numpy(np.float32), table[exporting.COLUMNS]


READERS = {
    ".npz": read_npz,
    ".csv": lambda path: read_table(pd.read_csv(path, dtype={"image_id": str})),
    ".parquet": lambda path: read_table(pd.read_parquet(path)),
}


@pytest.mark.parametrize("suffix", cache.WRITERS)
def test_what_is_exported_is_read_back(run: Run, suffix: str) -> None:
    """Each format has the same numbers, ids, labels, groups, views and paths."""
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    images(0, 2, 1)
    with_views(3, ONE)
    to = Path("out") / f"toy{suffix}"
    code, out, err = run("cache", "export", "toy", "--to", to, "--views", "1")
    assert code == 0, err
    assert out.startswith("6 x 5")
    X, meta = READERS[suffix](to)
    expected = featcache.load(PATH, views=1)
    assert np.array_equal(X, expected.X)
    table = expected.meta[exporting.COLUMNS].reset_index(drop=True)
    pd.testing.assert_frame_equal(meta, table, check_dtype=False)
    assert [p.name for p in to.parent.iterdir()] == [to.name]


def test_export_appends_taps() -> None:
    """Columns of the taps follow those of the embedding."""
    images(0, 1)
    both = {"features": rows(0, 2), "fire4": 10 + rows(0, 2)[:, :2]}
    store.seal(PATH, HEADER, both, keys(0, 2))
    store.publish(PATH, HEADER)
    assert cache.export(PATH, Path("toy.csv"), taps="all").dim == 7
    assert pd.read_csv("toy.csv")[["f5", "f6"]].to_numpy().tolist() == [
        [10, 10], [11, 11],
    ]  # fmt: skip


def test_export_replaces_only_by_force(run: Run) -> None:
    """A file that is there stays, unless --force is given."""
    images(0)
    fill(PATH, (0, 1))
    Path("toy.csv").write_text("mine")
    code, _, err = run("cache", "export", "toy", "--to", "toy.csv")
    assert (code, "--force" in err, Path("toy.csv").read_text()) == (1, True, "mine")
    assert run("cache", "export", "toy", "--to", "toy.csv", "--force")[0] == 0
    assert Path("toy.csv").read_text().startswith("image_id,view")


def test_export_says_what_it_can_write(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another ending, or parquet without pyarrow, is an error with a way out."""
    images(0)
    fill(PATH, (0, 1))
    code, _, err = run("cache", "export", "toy", "--to", "toy.xlsx")
    assert (code, ".npz|.parquet|.csv" in err) == (1, True)
    monkeypatch.setattr(exporting, "find_spec", lambda name: None)
    code, _, err = run("cache", "export", "toy", "--to", "toy.parquet")
    assert (code, "featcache[parquet]" in err) == (1, True)
