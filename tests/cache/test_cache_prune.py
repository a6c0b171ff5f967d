"""Stores are thinned out: what is gone from the manifest goes, what is alive stays."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from records import make_contract
from test_store import HEADER, damage_keys, fill, keys, rows
from toy_stores import (
    FOLDER,
    ONE,
    PATH,
    REPORTS,
    TWO,
    Run,
    damage_matrix,
    images,
    left,
    record,
    with_views,
)

import featcache
from featcache.backbones.engines.base import network_name
from featcache.commands import cache
from featcache.commands.cache import leftovers
from featcache.errors import RunError
from featcache.features import store


def test_prune_shows_and_then_does(run: Run) -> None:
    """Without --yes not a byte changes; with it, exactly what was shown."""
    with_views(4, ONE)
    images(1, 3)
    content = PATH.read_bytes()
    code, out, _ = run("cache", "prune", "--json")
    (shown,) = json.loads(out)["removals"]
    assert code == 0
    assert shown["what"] == "4 rows of 2 images no longer in the manifest"
    assert PATH.read_bytes() == content
    assert "Dry run: add --yes to delete" in run("cache", "prune")[1]
    code, out, _ = run("cache", "prune", "--yes", "--json")
    (done,) = json.loads(out)["removals"]
    assert (done["before"], done["after"]) == (len(content), PATH.stat().st_size)
    found = store.open_store(PATH)
    assert found.keys["view"].tolist() == [0, 0, 1, 1]
    assert np.array_equal(found.features()[:, 0], [1, 3, 1, 3])
    assert found.header.policies == [ONE]
    assert "Nothing to delete" in run("cache", "prune", "--yes")[1]


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
    assert "Nothing to delete" in run("cache", "prune", "--yes")[1]
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
        patch.setattr("featcache.features.store.write._write_matrix", interrupted)
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
    assert (pruned.removals, len(pruned.excluded)) == ([], 1)
    assert PATH.read_bytes() == content


def test_prune_leaves_alone_what_it_cannot_judge(run: Run) -> None:
    """Without a manifest, damaged, or being written: named, and untouched."""
    fill(PATH, (0, 2))
    assert "a scanned dataset" not in run("cache", "prune", "--yes")[1]
    assert PATH.exists()
    images(0)
    with store.writing(PATH):
        pruned = cache.prune(Path("cache"), REPORTS, yes=True)
        assert f"written by pid {os.getpid()}" in pruned.excluded[0]
    damage_keys(PATH)
    code, _, err = run("cache", "prune", "--yes")
    assert (code, "Skipped:" in err, "checksum" in err) == (0, True, True)
    assert left() == {PATH.name}


def age(path: Path) -> Path:
    """Makes a file two days old."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    old = time.time() - 2 * leftovers.OLD_SECONDS
    os.utime(path, (old, old))
    return path


def test_prune_clears_up_after_the_dead() -> None:
    """Temporary files, locks, parts without an image, networks without a contract."""
    images(0)
    fill(PATH, (0, 1))
    gone = FOLDER / "gone-random-00000001.h5"
    store.seal(gone, HEADER, {"features": rows(5, 1)}, keys(5, 1))
    networks = Path("cache/openvino")
    (networks / ".vgg19-01234567-0123456789abcdef.xml.abc.tmp").mkdir(parents=True)
    expected = {
        ("parts", store.parts_folder(gone)),
        ("temporary", FOLDER / f".{PATH.name}.1.tmp"),
        ("temporary", Path("cache/toy/.manifest.csv.1.tmp")),
        ("temporary", networks / ".vgg19-01234567-0123456789abcdef.xml.abc.tmp"),
        ("lock", PATH.with_suffix(".lock")),
        ("lock", Path("cache/toy/.manifest.lock")),
        ("network", networks / "vgg19-01234567-0123456789abcdef.xml"),
        ("network", networks / "toy-01234567-0123456789abcdef.xml"),
        (
            "network",
            networks / "toy-89abcdef-0123456789abcdef.bin",
        ),  # its .xml went first
        ("digest", networks / "weights-0123456789abcdef.json"),
    }
    for _, path in expected:
        age(path)
    (networks / "vgg19-01234567-0123456789abcdef.bin").touch()
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
    quantised = make_contract(quantised="0123", weights_digest="4567")
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
        age(Path(f"cache/openvino/{network_name(HEADER.contract)}-{number * 16}.xml"))
    Path("cache/openvino/vgg19-01234567-0123456789abcdef.xml").touch()
    with store.writing(PATH):
        (FOLDER / f".{PATH.name}.1.tmp").touch()
        assert not cache.prune(Path("cache"), REPORTS, yes=True).removals
    assert {"000000.h5", f".{PATH.name}.1.tmp"} <= left()


def test_prune_keeps_networks_where_a_store_cannot_be_read() -> None:
    """What a damaged store is of cannot be known, so no network is given up."""
    images(0)
    fill(PATH, (0, 1))
    damage_keys(PATH)
    network = age(Path("cache/openvino/vgg19-01234567-0123456789abcdef.xml"))
    assert not cache.prune(Path("cache"), REPORTS, yes=True).removals
    assert network.exists()


def test_prune_leaves_other_folders_alone(tmp_path: Path) -> None:
    """What is no dataset keeps its locks and temporary files, however old."""
    foreign = [
        "cache/webapp/poetry.lock",
        "cache/webapp/.draft.tmp",
        "cache/webapp/features/.manifest.lock",
        "cache/webapp/features/notes.parts/readme.txt",
    ]
    for name in foreign:
        age(Path(name))
    assert not cache.prune(Path("cache"), REPORTS, yes=True).removals
    assert all(Path(name).exists() for name in foreign)


def test_prune_removes_only_names_of_ours() -> None:
    """In a dataset, too, and among converted networks."""
    images(0)
    fill(PATH, (0, 1))
    foreign = [
        "cache/toy/poetry.lock",
        "cache/toy/.draft.tmp",
        "cache/toy/features/mine.lock",
        "cache/toy/features/.mine.1.tmp",
        "cache/toy/features/mine.parts/mine.h5",
        "cache/openvino/notes.json",
        "cache/openvino/model.xml",
        "cache/openvino/.mine.tmp",
    ]
    for name in foreign:
        age(Path(name))
    assert not cache.prune(Path("cache"), REPORTS, yes=True).removals
    assert all(Path(name).exists() for name in foreign)


@pytest.mark.parametrize("link", ["cache/toy", "cache/toy/features", "cache/openvino"])
def test_prune_follows_no_links(link: str) -> None:
    """What lies behind a symbolic link is somebody else's, and is left out."""
    images(0)
    fill(PATH, (0, 2))
    age(PATH.with_suffix(".lock"))
    age(Path("cache/toy/.manifest.lock"))
    age(Path("cache/openvino/vgg19-01234567-0123456789abcdef.xml"))
    elsewhere = Path("elsewhere")
    Path(link).rename(elsewhere)
    Path(link).symlink_to(elsewhere.absolute())
    before = {p: p.stat().st_mtime_ns for p in elsewhere.rglob("*")}
    pruned = cache.prune(Path("cache"), REPORTS, yes=True)
    assert {p: p.stat().st_mtime_ns for p in elsewhere.rglob("*")} == before
    behind = [line for line in pruned.excluded if "behind the link" in line]
    assert len(behind) == ("openvino" not in link)


def test_prune_keeps_proofs_of_networks_with_a_store() -> None:
    """A canary's proof goes with the last store of its architecture."""
    images(0)
    contract = make_contract(architecture="net")
    waiting = FOLDER / "toy-random-abcdef01.h5"
    header = replace(HEADER, contract=contract)
    store.seal(waiting, header, {"features": rows(0, 1)}, keys(0, 1))
    folder = Path("cache/openvino")
    folder.mkdir()
    for name, number in (("net", "0"), ("other", "1")):
        proof = folder / f"canary-{number * 16}.json"
        proof.write_text(json.dumps({"contract": {"architecture": name}}))
        age(proof)
    (removal,) = cache.prune(Path("cache"), REPORTS).removals
    assert removal.path == folder / f"canary-{'1' * 16}.json"
