"""Stores in part files: taps that come later, and rows that go, touch few files."""

import os
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from test_store import HEADER, fill, flip_byte, keys, rows
from test_store_parts import ONE, TWO, kill_points, killed_at, part_of, used_files
from toys import slow_but

from featcache.commands import cache
from featcache.errors import StoreError
from featcache.features import store
from featcache.features.store import publication


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of images 1000..1008 in three part files, of six, two and one."""
    monkeypatch.setattr(publication, "PARTS_ABOVE", 1)
    path = tmp_path / "features" / "toy.h5"
    for first, count in ((1000, 6), (1006, 2), (1008, 1)):
        stored = fill(path, (first, count))
    assert [one.rows for one in stored.segments] == [6, 2, 1]
    return path


def tap(first: int, count: int) -> np.ndarray:
    return -rows(first, count)[:, :2]


def add_tap(path: Path, first: int, count: int, name: str = "a/b") -> store.Store:
    store.seal(path, HEADER, {name: tap(first, count)}, keys(first, count))
    stored = store.publish(path, HEADER)
    assert stored is not None
    assert {*store.data_files(path)} == used_files(stored)
    assert all(one.whole for one in cache.verify([path]))
    return stored


def marks(path: Path) -> list[tuple[int, int]]:
    status = [os.stat(file) for file in store.data_files(path)]
    return [(one.st_ino, one.st_mtime_ns) for one in status]


def test_a_tap_of_rows_that_are_there_lies_beside_them(path: Path) -> None:
    """No file that is there is written again, nor are its embeddings read."""
    flip_byte(part_of(path, 0), rows(1002, 1).tobytes())  # would else be noticed
    before = {*marks(path)}
    store.seal(path, HEADER, {"a/b": tap(1001, 8)}, keys(1001, 8))
    stored = store.publish(path, HEADER)
    assert stored is not None
    assert before < {*marks(path)}
    assert [len(one.files) for one in stored.segments] == [2, 2, 2]
    expected = np.vstack([np.full((1, 2), np.nan), tap(1001, 8)])
    assert np.array_equal(stored.read("a/b"), expected, equal_nan=True)
    assert stored.filled == {"features": 9, "a/b": 8}
    with h5py.File(path) as file:
        assert np.array_equal(file["taps/a%2Fb"][:], expected, equal_nan=True)
        assert np.array_equal(file["features"][6:], rows(1006, 3))


def test_one_large_file_gets_a_file_for_its_tap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It becomes a part under a second name, as when rows are added."""
    monkeypatch.setattr(publication, "PARTS_ABOVE", 1)
    path = tmp_path / "toy.h5"
    fill(path, (0, 6))
    inode = path.stat().st_ino
    stored = add_tap(path, 0, 6)
    assert part_of(path, 0).stat().st_ino == inode
    assert np.array_equal(stored.read("a/b"), tap(0, 6))
    assert np.array_equal(stored.features(), rows(0, 6))


def test_only_files_of_the_rows_get_another(path: Path) -> None:
    """A tap of few rows, then of the others; what is superseded goes."""
    stored = add_tap(path, 1006, 1)
    assert [len(one.files) for one in stored.segments] == [1, 2, 1]
    stored = add_tap(path, 1000, 9)
    assert [len(one.files) for one in stored.segments] == [2, 2, 2]
    assert np.array_equal(stored.read("a/b"), tap(1000, 9))
    before = path.read_bytes()
    assert add_tap(path, 1000, 9).filled["a/b"] == 9
    assert path.read_bytes() == before


def test_rows_without_a_tap_take_no_space(path: Path) -> None:
    """Blocks that are NaN alone are not written, and read and hashed as such."""
    wide = 200_000
    store.seal(path, HEADER, {"wide": np.ones((1, wide), np.float32)}, keys(1004, 1))
    stored = store.publish(path, HEADER)
    assert stored is not None
    assert stored.segments[0].files[1].bytes < 2.5 * 4 * wide  # and not 6
    matrix = stored.read("wide")
    assert (matrix[4] == 1).all()
    assert np.isnan(np.delete(matrix, 4, 0)).all()


def test_rows_and_values_come_at_once(path: Path) -> None:
    """Sealed parts of new rows, and of taps of old ones; then all is one file."""
    both = {"features": rows(1009, 1), "a/b": tap(1009, 1)}
    store.seal(path, HEADER, {"a/b": tap(1000, 4)}, keys(1000, 4))
    store.seal(path, HEADER, both, keys(1009, 1))
    stored = add_tap(path, 1004, 2, "c")
    expected = tap(1000, 10)
    expected[4:9] = np.nan
    for compact in (False, True):
        one = store.compact(path) if compact else stored
        assert np.array_equal(one.features(), rows(1000, 10))
        assert np.array_equal(one.read("a/b"), expected, equal_nan=True)
        assert np.array_equal(one.read("c")[4:6], tap(1004, 2))
        assert one.filled == {"features": 10, "a/b": 5, "c": 2}
    assert not store.data_folder(path).exists()


def test_a_tap_without_values_adds_nothing(path: Path) -> None:
    """A part with NaN alone leaves the store as it is."""
    before = path.read_bytes()
    store.seal(path, HEADER, {"a/b": np.full((9, 2), np.nan)}, keys(1000, 9))
    store.publish(path, HEADER)
    assert path.read_bytes() == before


def test_a_damaged_tap_costs_no_row(path: Path) -> None:
    """Its values are computed again; those of other parts, and all rows, stay."""
    stored = add_tap(path, 1000, 9)
    part = stored.segments[0].files[1].path
    flip_byte(part, tap(1002, 1).tobytes())
    (checked,) = cache.verify([path])
    assert part.name in checked.fault
    with pytest.raises(StoreError, match=part.name):
        stored.read("a/b")
    (repaired,) = cache.verify([path], repair=True)
    assert part.name in repaired.repaired
    stored = store.open_store(path)
    assert np.array_equal(stored.features(), rows(1000, 9))
    assert stored.filled == {"features": 9, "a/b": 3}
    assert np.array_equal(add_tap(path, 1000, 6).read("a/b"), tap(1000, 9))


def test_a_lost_master_is_made_anew_with_taps(path: Path) -> None:
    """Files of taps are known by the keys that they share with their rows."""
    add_tap(path, 1000, 9)
    path.unlink()
    stored = store.publish(path, HEADER)
    assert stored is not None
    assert np.array_equal(stored.features(), rows(1000, 9))
    assert np.array_equal(stored.read("a/b"), tap(1000, 9))


def test_rows_are_dropped_from_their_files_alone(path: Path) -> None:
    """Others are neither read nor written; a file without rows goes."""
    add_tap(path, 1000, 9)
    flip_byte(part_of(path, 0), rows(1002, 1).tobytes())  # would else be noticed
    before = [file.path for file in store.open_store(path).segments[0].files]
    store.drop_rows(path, np.isin(np.arange(9), [7, 8]))
    stored = store.open_store(path)
    assert [one.rows for one in stored.segments] == [6, 1]
    assert [file.path for file in stored.segments[0].files] == before
    assert {*store.data_files(path)} == used_files(stored)
    assert np.array_equal(stored.read("a/b"), tap(1000, 7))
    with h5py.File(path) as file:
        assert np.array_equal(file["features"][6:], rows(1006, 1))
    with pytest.raises(StoreError):
        store.drop_rows(path, np.arange(7) == 0)
    assert np.array_equal(store.open_store(path).read("a/b"), tap(1000, 7))


def test_what_is_small_then_is_one_file(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below the limit a store is in parts no longer."""
    monkeypatch.setattr(publication, "PARTS_ABOVE", 2**30)
    store.drop_rows(path, np.arange(9) > 2)
    assert np.array_equal(store.open_store(path).features(), rows(1000, 3))
    assert not store.data_folder(path).exists()


def test_policies_are_renumbered_in_all_files(path: Path) -> None:
    """One without rows goes; rows of the other keep theirs in untouched files."""
    header = replace(HEADER, policies=[ONE, TWO])
    for policy, count in ((0, 2), (1, 1)):
        outputs = {"features": rows(50 + policy, count)}
        store.seal(path, header, outputs, keys(1000, count, 1, policy))
        store.publish(path, header)
    stored = store.open_store(path)
    store.drop_rows(path, (stored.keys["policy"] == 0).to_numpy())
    stored = store.open_store(path)
    assert stored.header.policies == [TWO]
    expected = pd.concat([keys(1000, 9), keys(1000, 1, 1, 0)], ignore_index=True)
    pd.testing.assert_frame_equal(stored.keys, expected, check_dtype=False)
    assert stored.features()[9, 0] == 51
    assert all(one.whole for one in cache.verify([path]))
    path.unlink()
    rebuilt = store.publish(path, HEADER)
    assert rebuilt is not None
    assert rebuilt.header.policies[rebuilt.keys["policy"].max()] == TWO


@pytest.mark.parametrize("stride", slow_but([24, 1], 24))
@pytest.mark.parametrize("what", ["tap", "drop"])
def test_a_kill_loses_nothing(path: Path, what: str, stride: int) -> None:
    """At any step the store is as it was or as it will be; the next call ends it."""
    drop = np.arange(9) == 6
    if what == "tap":
        store.seal(path, HEADER, {"a/b": tap(1000, 9)}, keys(1000, 9))
    count = 0
    for step, copy in kill_points(path, stride):
        work = store.publish if what == "tap" else store.drop_rows
        value = HEADER if what == "tap" else drop
        was_killed = killed_at(step, lambda c=copy, w=work, v=value: w(c, v))
        stored = store.open_store(copy)
        is_done = len(stored.keys) == 8 if what == "drop" else "a/b" in stored.dims
        left = ~drop if what == "drop" and is_done else np.full(9, True)
        assert np.array_equal(stored.features(), rows(1000, 9)[left])
        if what == "drop" and not is_done:
            store.drop_rows(copy, drop)
        after = store.publish(copy, HEADER)
        assert after is not None
        assert {*store.data_files(copy)} == used_files(after)
        if what == "tap":
            assert np.array_equal(after.read("a/b"), tap(1000, 9))
        if not was_killed:
            break
        count += 1
    assert 8 < count * stride < 190
