"""Stores are checked; what is damaged is moved aside, never lost."""

import json
from dataclasses import replace
from pathlib import Path

import h5py
import pytest
from records import make_contract
from test_store import HEADER, damage_cut, damage_keys, fill, keys, rows
from toy_stores import FOLDER, PATH, Run, damage_matrix, images, left

import featcache
from featcache.commands import cache
from featcache.errors import LockedError, StoreError
from featcache.features import store


def test_whole_stores_are_whole(run: Run) -> None:
    """Nothing damaged is exit code 0."""
    fill(PATH, (0, 3))
    store.seal(PATH, HEADER, {"features": rows(3, 1)}, keys(3, 1))
    code, out, _ = run("cache", "verify", "--json")
    assert code == 0
    assert [(one["rows"], one["whole"]) for one in json.loads(out)] == [
        (3, True), (1, True),
    ]  # fmt: skip


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
    assert "1 of 1 files are damaged" in err
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


def test_a_part_of_another_contract_is_removed(run: Run) -> None:
    """What extract leaves out is named here, and --repair takes it away."""
    fill(PATH, (0, 1))
    other = replace(HEADER, contract=make_contract(input_size=64))
    part = store.seal(PATH, other, {"features": rows(1, 1)}, keys(1, 1))
    code, out, _ = run("cache", "verify")
    assert (code, "input_size=64" in out) == (1, True)
    assert run("cache", "verify", "--repair")[0] == 0
    assert (PATH.exists(), part.exists()) == (True, False)


def test_what_cannot_be_opened_is_not_repaired(run: Run) -> None:
    """A store that another program has open stays; the exit code says so."""
    fill(PATH, (0, 1))
    with h5py.File(PATH, "r+", locking=True):
        code, out, err = run("cache", "verify", "--repair")
        assert (code, "cannot be opened: another program" in out) == (1, True)
        assert "0 of 1 files are damaged, 1 cannot be opened" in err
        assert "unavailable" in run("cache", "ls")[1]
    assert left() == {PATH.name}
    assert run("cache", "verify")[0] == 0


def test_a_changed_number_stays_damaged(run: Run) -> None:
    """Neither another extract nor a prune makes it whole; loading refuses it."""
    images(*range(1000, 1003))
    fill(PATH, (1000, 3))
    with h5py.File(PATH, "r+") as file:
        file["features"][0] += 50
    store.seal(PATH, HEADER, {"features": rows(0, 1)}, keys(0, 1))
    with pytest.raises(StoreError, match="another checksum"):
        store.publish(PATH, HEADER)
    with pytest.raises(StoreError, match="another checksum"):
        featcache.load(PATH)
    assert run("cache", "export", PATH, "--to", "a.csv")[0] == 1
    assert not Path("a.csv").exists()
    assert run("cache", "verify")[0] == 1
