"""Stores in part files: keys lie in the parts, and a publication writes new ones."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from test_store import HEADER, fill, keys, rows
from test_store_parts import ONE, TWO, key_part, part_of, remove_part

from featcache.commands import cache
from featcache.errors import StoreError
from featcache.features import store
from featcache.features.store import publication
from featcache.features.store.base import header_sha256
from featcache.features.store.key_columns import COLUMNS, key_sums
from featcache.features.store.reader import NUMBERS, TEXTS
from featcache.features.store.write import write_keys

MASK = "e" * 64


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of images 1000..1007 in two part files, of six and two."""
    monkeypatch.setattr(publication, "PARTS_ABOVE", 1)
    path = tmp_path / "features" / "toy.h5"
    fill(path, (1000, 6))
    fill(path, (1006, 2))
    return path


def add_view(path: Path, first: int, policy: int, **columns: str) -> store.Store:
    """One more row of an image, by one of two policies."""
    header = replace(HEADER, policies=[ONE, TWO])
    row = keys(first, 1, 1, policy).assign(**columns)
    store.seal(path, header, {"features": rows(first, 1)}, row)
    published = store.publish(path, header)
    assert published is not None
    return published


def seen_by_h5py(path: Path) -> pd.DataFrame:
    with h5py.File(path) as file:
        columns = {
            name: [*(file[name].asstr() if dtype.kind in "SO" else file[name])[:]]
            for name, dtype in COLUMNS.items()
            if name in file
        }
    return pd.DataFrame({"mask_id": ""} | columns)[[*COLUMNS]]


def check(path: Path, virtual: set[str]) -> None:
    """All programs see the same keys, and the columns that are virtual are these."""
    stored = store.open_store(path)
    pd.testing.assert_frame_equal(
        stored.keys[[*COLUMNS]], seen_by_h5py(path), check_dtype=False
    )
    with h5py.File(path) as file:
        assert {name for name in COLUMNS if name in file and file[name].is_virtual} == (
            virtual
        )
    assert all(one.whole for one in cache.verify([path]))


def as_earlier_version(path: Path) -> None:
    """Writes a store's own file with all keys in it, as earlier versions did."""
    stored = store.open_store(path)
    with h5py.File(path, "r+") as file:
        for name in {*COLUMNS} & {*file}:
            del file[name]
        write_keys(file, stored.keys, COLUMNS)
        parts = json.loads(file["parts"].asstr()[()])
        for part in (file for one in parts for file in (one, *one.get("beside", []))):
            for name in ("keys_sha256", "paths_sha256", "policies"):
                part.pop(name, None)
        del file["parts"]
        text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
        file.create_dataset("parts", data=text, dtype=h5py.string_dtype())
        file.attrs.update(key_sums(stored.keys))
        matrices = {
            name: dict(file[store.dataset_name(name)].attrs) for name in stored.dims
        }
        sealed = {
            name: {"filled": int(values["filled"]), "sha256": str(values["sha256"])}
            for name, values in matrices.items()
        }
        texts = {name: str(file.attrs[name]) for name in TEXTS}
        numbers = {name: int(file.attrs[name]) for name in NUMBERS}
        attributes = {**texts, **numbers, "parts": text}
        file.attrs["header_sha256"] = header_sha256(attributes, sealed)


def written_by(path: Path, work: Callable[[], object]) -> int:
    """Bytes of the files that some work makes."""
    before = {file.stat().st_ino for file in (path, *store.data_files(path))}
    work()
    after = [file.stat() for file in (path, *store.data_files(path))]
    return sum(one.st_size for one in after if one.st_ino not in before)


def test_what_is_written_does_not_grow_with_what_is_there(path: Path) -> None:
    """Ten rows are as many bytes beside 5,000 rows as beside 500."""
    written = []
    for number, count in enumerate((500, 5000)):
        large = path.with_name(f"large{number}.h5")
        fill(large, (0, count))
        fill(large, (count, 40))
        written.append(
            written_by(large, lambda p=large, n=count: fill(p, (n + 40, 10)))
        )
        assert len(store.open_store(large).segments) == 3
    assert written[1] <= written[0] + 100
    assert written[1] < 40_000


def test_a_tap_writes_no_keys_of_other_parts(path: Path) -> None:
    """The store's own file stays small where matrices are added to a few rows."""
    large = path.with_name("large.h5")
    fill(large, (0, 5000))
    fill(large, (5000, 10))

    def add() -> None:
        store.seal(large, HEADER, {"a": rows(5000, 10)}, keys(5000, 10))
        store.publish(large, HEADER)

    assert written_by(large, add) < 60_000
    assert store.open_store(large).filled == {"features": 5010, "a": 10}


def test_keys_are_shown_from_the_parts(path: Path) -> None:
    """Masks are there from the first row on that has one."""
    check(path, {*COLUMNS} - {"mask_id"})
    add_view(path, 1000, 0, mask_id=MASK)
    add_view(path, 1001, 1)
    check(path, {*COLUMNS})
    assert store.open_store(path).keys["mask_id"].tolist() == [""] * 8 + [MASK, ""]


def test_what_a_publication_returns_is_what_is_opened(path: Path) -> None:
    """It does not read again what it has written."""
    works = (
        lambda: fill(path, (1008, 1)),
        lambda: add_view(path, 1000, 1, mask_id=MASK),
    )
    for work in works:
        stored = work()
        opened = store.open_store(path)
        pd.testing.assert_frame_equal(stored.keys, opened.keys)
        assert replace(stored, keys=opened.keys) == replace(opened, keys=opened.keys)


def test_numbers_of_policies_may_differ(path: Path) -> None:
    """After a policy is gone, its parts' numbers are translated; merging ends that."""
    for first, policy in ((1000, 0), (1001, 0), (1002, 1), (1003, 1)):
        add_view(path, first, policy)
    stored = store.open_store(path)
    store.drop_rows(path, (stored.keys["policy"] == 0).to_numpy())
    stored = fill(path, (1008, 1))
    assert stored.header.policies == [TWO]
    assert sorted(stored.keys["policy"]) == [-1] * 9 + [0, 0]
    check(path, {"image_id", "view", "path"})
    with h5py.File(path, "r+") as file:
        file["policy"][...] = 0
    with pytest.raises(StoreError, match=r"policy of other rows.*"):
        store.open_store(path)


@pytest.mark.parametrize("work", [fill, store.drop_rows, add_view])
def test_a_store_of_an_earlier_version_is_turned_over(path: Path, work) -> None:
    """It is read as it is; the next publication writes no keys that are there."""
    add_view(path, 1000, 0, mask_id=MASK)
    before = store.open_store(path)
    as_earlier_version(path)
    check(path, set())
    pd.testing.assert_frame_equal(store.open_store(path).keys, before.keys)
    if work is fill:
        fill(path, (1008, 1))
    elif work is add_view:
        add_view(path, 1001, 1)
    else:
        store.drop_rows(path, np.arange(9) == 7)
    stored = store.open_store(path)
    assert all(segment.files[0].keys_sha256 for segment in stored.segments)
    check(path, {*COLUMNS})


def test_a_policy_that_an_earlier_version_dropped(path: Path) -> None:
    """Its part files have numbers of their own, which are found in their headers."""
    for first, policy in ((1000, 0), (1001, 0), (1002, 0), (1003, 1), (1004, 1)):
        add_view(path, first, policy)
    stored = store.open_store(path)
    store.drop_rows(path, (stored.keys["policy"] == 0).to_numpy())
    expected = store.open_store(path).keys
    as_earlier_version(path)
    stored = fill(path, (1008, 1))
    pd.testing.assert_frame_equal(stored.keys.iloc[: len(expected)], expected)
    pd.testing.assert_frame_equal(store.open_store(path).keys, stored.keys)
    assert np.array_equal(stored.features()[:8], rows(1000, 8))


def test_a_rotten_part_of_an_earlier_version_is_no_part_of_a_new_one(
    path: Path,
) -> None:
    """Its keys get no fresh checksum; the repair keeps the other rows."""
    as_earlier_version(path)
    key_part(part_of(path, 0))
    before = path.read_bytes()
    with pytest.raises(StoreError, match=part_of(path, 0).name):
        fill(path, (1008, 1))
    assert path.read_bytes() == before
    assert all(one.whole for one in cache.verify([path], repair=True))
    assert store.open_store(path).keys["path"].tolist() == ["é/1006.png", "é/1007.png"]
    stored = store.publish(path, HEADER)
    assert stored is not None
    assert len(stored.keys) == 3


@pytest.mark.parametrize("damage", [key_part, remove_part])
def test_a_part_without_its_keys_is_named(path: Path, damage) -> None:
    """A store whose keys cannot be read is not opened, and says which file it is."""
    damage(part_of(path, 1))
    with pytest.raises(StoreError, match=part_of(path, 1).name):
        store.open_store(path)


def test_columns_of_another_type_are_written(tmp_path: Path, path: Path) -> None:
    """HDF5 would not show an earlier file's text of another kind; all see it alike."""
    own = tmp_path / "own.h5"
    fill(own, (0, 4))
    with h5py.File(own, "r+") as file:
        for name, dtype in (("image_id", h5py.string_dtype()), ("view", np.int64)):
            values = file[name].asstr()[:] if name == "image_id" else file[name][:]
            del file[name]
            file.create_dataset(name, data=values, dtype=dtype)
    fill(own, (4, 1))
    check(own, {"policy", "path"})


def other_views(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((8,), np.uint16)
    part = file["view"].virtual_sources()[0].file_name
    layout[:6] = h5py.VirtualSource(part, "view", (6,))
    layout[6:] = h5py.VirtualSource(part, "view", (6,))[:2]
    del file["view"]
    file.create_virtual_dataset("view", layout)


def fewer_views(file: h5py.File) -> None:
    del file["view"]


def own_views(file: h5py.File) -> None:
    del file["view"]
    file["view"] = np.arange(8, dtype=np.uint16)


def masks(file: h5py.File) -> None:
    file.create_dataset("mask_id", data=[MASK] * 8, dtype=COLUMNS["mask_id"])


@pytest.mark.parametrize("edit", [other_views, fewer_views, own_views, masks])
def test_keys_that_are_not_the_parts_are_refused(path: Path, edit) -> None:
    """What other programs see of the keys is what the part files have."""
    with h5py.File(path, "r+") as file:
        edit(file)
    with pytest.raises(StoreError, match=r"toy\.h5"):
        store.open_store(path)
