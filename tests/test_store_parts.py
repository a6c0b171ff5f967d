"""Stores in part files: what is read, damage, kills, and that all else is as ever."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from records import make_contract
from test_store import HEADER, fill, flip_byte, keys, rows
from toys import slow_but

from featcache.commands import cache
from featcache.dataset.views import Policy
from featcache.errors import StoreError
from featcache.features import store
from featcache.features.store import publication

ONE, TWO = Policy().to_dict(), Policy(flip=False).to_dict()


@pytest.fixture(autouse=True)
def _parts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any store that is there is large enough for part files."""
    monkeypatch.setattr(publication, "PARTS_ABOVE", 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store of images 1000..1007 in two part files, of six and two."""
    path = tmp_path / "features" / "toy.h5"
    fill(path, (1000, 6))
    fill(path, (1006, 2))
    return path


def part_of(path: Path, number: int) -> Path:
    return store.open_store(path, all_parts=False).segments[number].files[0].path


def used_files(stored: store.Store) -> set[Path]:
    return {file.path for segment in stored.segments for file in segment.files}


def grown(path: Path) -> store.Store:
    """A store that grew by images, views, policies, a tap and a mask."""
    steps = [
        (HEADER, {"features": rows(0, 8)}, keys(0, 8)),
        (HEADER, {"features": rows(8, 2), "a/b": rows(8, 2)[:, :2]}, keys(8, 2)),
        (replace(HEADER, policies=[TWO]), {"features": rows(0, 1)}, keys(0, 1, 1, 0)),
        (
            replace(HEADER, policies=[ONE, TWO]),
            {"features": rows(20, 3)},
            pd.concat([keys(0, 2, 1, 0), keys(1, 1, 1, 1)]).assign(mask_id="e" * 64),
        ),
    ]
    for header, outputs, row_keys in steps:
        store.seal(path, header, outputs, row_keys)
        published = store.publish(path, header)
    assert published is not None
    return published


@pytest.mark.parametrize("name", ["toy", "50%b"])
def test_both_kinds_are_read_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Numbers, keys, blocks, single rows, h5py's view: one file or several."""
    several = grown(tmp_path / "several" / f"{name}.h5")
    monkeypatch.setattr(publication, "PARTS_ABOVE", 2**30)
    single = grown(tmp_path / "single" / f"{name}.h5")
    assert len(several.segments) > 1 == len(single.segments)
    pd.testing.assert_frame_equal(several.keys, single.keys)
    assert (several.header, several.dims) == (single.header, single.dims)
    assert several.filled == single.filled
    picked = np.array([11, 0, 9, 9, 13, 8])
    for matrix in single.dims:
        assert np.array_equal(several.read(matrix), single.read(matrix), True)
        assert np.array_equal(several.has(matrix), single.has(matrix))
        pair = [one.rows(matrix, picked) for one in (several, single)]
        assert np.array_equal(*pair, equal_nan=True)
    with h5py.File(several.path) as a, h5py.File(single.path) as b:
        columns = ["image_id", "view", "policy", "path", "mask_id"]
        for dataset in [*columns, "features", "taps/a%2Fb"]:
            assert a[dataset].dtype == b[dataset].dtype
            equal_nan = a[dataset].dtype.kind == "f"
            assert np.array_equal(a[dataset][:], b[dataset][:], equal_nan)


def test_what_is_there_is_not_written_again(tmp_path: Path) -> None:
    """The one file becomes a part under another name; new rows have a file."""
    path = tmp_path / "toy.h5"
    fill(path, (0, 60))
    before = path.stat()
    stored = fill(path, (60, 10))
    first, second = (segment.files[0].path for segment in stored.segments)
    assert (first.stat().st_ino, first.stat().st_mtime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
    )
    part = store.open_store(second)
    assert np.array_equal(part.features(), rows(60, 10))
    assert np.array_equal(stored.features(), rows(0, 70))


def test_a_file_system_without_links_copies_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first part file is then a copy."""

    def refuse(*_: object) -> None:
        raise OSError(1, "no links")

    monkeypatch.setattr(publication.os, "link", refuse)
    path = tmp_path / "toy.h5"
    fill(path, (0, 6))
    assert np.array_equal(fill(path, (6, 2)).features(), rows(0, 8))
    assert part_of(path, 0).stat().st_nlink == 1


def test_small_part_files_are_joined(path: Path) -> None:
    """Many publications leave few files, all of which are used."""
    for number in range(1008, 1020):
        stored = fill(path, (number, 1))
    assert len(stored.segments) <= 5
    assert used_files(stored) == {*store.data_files(path)}
    assert np.array_equal(stored.features(), rows(1000, 20))


def test_rows_that_are_there_add_nothing(path: Path) -> None:
    """Parts that are published already leave the store as it is, byte for byte."""
    before = path.read_bytes()
    stored = fill(path, (1003, 4))
    assert path.read_bytes() == before
    assert np.array_equal(stored.features(), rows(1000, 8))


def test_float16_stays(tmp_path: Path) -> None:
    """Part files and the whole have the type of the contract."""
    path, half = tmp_path / "a.h5", make_contract(dtype="float16")
    header = replace(HEADER, contract=half)
    fill(path, (0, 4), header=header)
    stored = fill(path, (4, 2), header=header)
    assert len(stored.segments) == 2
    assert np.array_equal(stored.features(), rows(0, 6))
    with h5py.File(path) as file:
        assert file["features"].dtype == np.float16


def test_the_folder_can_be_moved(path: Path) -> None:
    """Part files are named relative to the store, for featcache and for h5py."""
    moved = path.parent.rename(path.parent.with_name("elsewhere")) / path.name
    assert np.array_equal(store.open_store(moved).features(), rows(1000, 8))
    with h5py.File(moved) as file:
        assert np.array_equal(file["features"][:], rows(1000, 8))


def test_who_reads_is_not_disturbed_by_growth(tmp_path: Path) -> None:
    """A store that was opened as one file is read when it has become several."""
    path = tmp_path / "toy.h5"
    before = fill(path, (0, 6))
    fill(path, (6, 2))
    assert np.array_equal(before.features(), rows(0, 6))


def remove_part(part: Path) -> None:
    part.unlink()


def cut_part(part: Path) -> None:
    part.write_bytes(part.read_bytes()[:-100])


def flip_part(part: Path) -> None:
    flip_byte(part, rows(1006, 1).tobytes())


def swap_part(part: Path) -> None:
    """Another store of so many rows, whole in itself."""
    other = part.parent / "other" / "toy.h5"
    fill(other, (1006, 1), (1050, 1))
    shutil.copy(other, part)
    shutil.rmtree(other.parent)


def key_part(part: Path) -> None:
    with h5py.File(part, "r+") as file:
        file["view"][0] = 3


DAMAGES = [remove_part, cut_part, flip_part, swap_part, key_part]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_part_is_named_and_repaired(path: Path, damage) -> None:
    """Rows of the other part files stay; the missing ones are computed again."""
    part = part_of(path, 1)
    damage(part)
    (checked,) = cache.verify([path])
    assert checked.is_damaged
    assert part.name in checked.fault
    with pytest.raises(StoreError, match=part.name):
        store.open_store(path).features()
    (repaired,) = cache.verify([path], repair=True)
    assert repaired.whole
    assert part.name in repaired.repaired
    assert np.array_equal(store.open_store(path).features(), rows(1000, 6))
    assert all(one.whole for one in cache.verify([path]))
    assert np.array_equal(fill(path, (1006, 2)).features(), rows(1000, 8))


@pytest.mark.parametrize("is_gone", [False, True])
def test_the_store_is_made_anew_from_its_parts(path: Path, is_gone: bool) -> None:
    """What names the part files can be lost; the rows cannot."""
    shutil.copy(part_of(path, 1), part_of(path, 1).with_name("0" * 16 + ".h5"))
    if is_gone:
        path.unlink()
        stored = store.publish(path, HEADER)
    else:
        path.write_bytes(path.read_bytes()[:-100])
        (checked,) = cache.verify([path], repair=True)
        assert "2 part files" in checked.repaired
        stored = store.open_store(path)
    assert stored is not None
    assert np.array_equal(stored.features(), rows(1000, 8))
    pd.testing.assert_frame_equal(
        stored.keys, keys(1000, 8), check_dtype=False, check_index_type=False
    )


def rewritten(name: str, old: str, new: str):
    def edit(file: h5py.File) -> None:
        text = file[name].asstr()[()]
        assert old in text
        del file[name]
        file.create_dataset(
            name, data=text.replace(old, new, 1), dtype=h5py.string_dtype()
        )

    return edit


def remapped(file: h5py.File) -> None:
    """The first rows twice, as other programs see them."""
    sources = file["features"].virtual_sources()
    attributes = dict(file["features"].attrs)
    layout = h5py.VirtualLayout((8, 5), "<f4")
    layout[:6] = h5py.VirtualSource(sources[0].file_name, "features", (6, 5))
    layout[6:] = h5py.VirtualSource(sources[0].file_name, "features", (6, 5))[:2]
    del file["features"]
    file.create_virtual_dataset("features", layout).attrs.update(attributes)


def unmapped(file: h5py.File) -> None:
    attributes, matrix = dict(file["features"].attrs), file["features"][:]
    del file["features"]
    file["features"] = matrix
    file["features"].attrs.update(attributes)


EDITS = {
    "elsewhere": rewritten("parts", "toy.data/", "../../x/"),
    "upwards": rewritten("parts", "toy.data/", "toy.data/../"),
    "negative": rewritten("parts", '"rows":6', '"rows":-6'),
    "other rows": rewritten("parts", '"rows":6', '"rows":5'),
    "text": rewritten("parts", '"rows":6', '"rows":"6"'),
    "no list": rewritten("parts", "[{", "{"),
    "other size": rewritten("parts", '"bytes":', '"bytes":1'),
    "remapped": remapped,
    "unmapped": unmapped,
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_list_of_parts_is_refused(path: Path, name: str) -> None:
    """Files elsewhere, other rows, another mapping: one error of a damaged store."""
    with h5py.File(path, "r+") as file:
        EDITS[name](file)
    with pytest.raises(StoreError, match=r"toy\.h5") as caught:
        store.open_store(path)
    assert ("another checksum" in str(caught.value)) == (name == "other size")


STEPS = ("replace", "rename", "link", "unlink", "fsync", "rmdir", "mkdir", "open")


def killed_at(step: int, work) -> bool:
    """Runs work in a child that ends without a word at its n-th step on files.

    Returns whether it ended so.
    """
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    try:
        left = step

        def counting(call):
            def run(*args, **kwargs):
                nonlocal left
                left -= 1
                if left < 0:
                    os._exit(9)
                return call(*args, **kwargs)

            return run

        for name in STEPS:
            setattr(os, name, counting(getattr(os, name)))
        work()
        os._exit(0)
    finally:
        os._exit(1)


def grow(path: Path) -> None:
    store.publish(path, HEADER)


def compact(path: Path) -> None:
    store.compact(path)


def kill_points(path: Path, stride: int) -> Iterator[tuple[int, Path]]:
    """Copies of the store, each for a kill some steps later."""
    for step in range(0, 200, stride):
        folder = path.parent.with_name(f"copy{step}")
        shutil.copytree(path.parent, folder)
        yield step, folder / path.name


@pytest.mark.parametrize(
    ("first", "stride"),
    slow_but([(f, n) for f in (False, True) for n in (12, 1)], (False, 12), (True, 12)),
)
def test_a_kill_while_the_store_grows_loses_nothing(
    path: Path, first: bool, stride: int
) -> None:
    """At any step: the old rows or all of them, and the next call ends the same."""
    if first:  # one file that becomes several
        store.compact(path)
    store.seal(path, HEADER, {"features": rows(1008, 1)}, keys(1008, 1))
    count = 0
    for step, copy in kill_points(path, stride):
        was_killed = killed_at(step, lambda copy=copy: grow(copy))
        stored = store.open_store(copy)
        assert np.array_equal(stored.features(), rows(1000, 9)[: len(stored.keys)])
        assert len(stored.keys) in (8, 9)
        stored = store.publish(copy, HEADER)
        assert stored is not None
        assert np.array_equal(stored.features(), rows(1000, 9))
        assert used_files(stored) == {*store.data_files(copy)}
        assert not store.parts_folder(copy).exists()
        if not was_killed:
            break
        count += 1
    assert 8 < count * stride < 190


@pytest.mark.parametrize("stride", slow_but([12, 1], 12))
def test_a_kill_while_parts_are_merged_loses_nothing(path: Path, stride: int) -> None:
    """At any step the store is several files or one, with all rows."""
    count = 0
    for step, copy in kill_points(path, stride):
        was_killed = killed_at(step, lambda copy=copy: compact(copy))
        assert np.array_equal(store.open_store(copy).features(), rows(1000, 8))
        stored = store.compact(copy)
        assert np.array_equal(stored.features(), rows(1000, 8))
        assert not store.data_folder(copy).exists()
        if not was_killed:
            break
        count += 1
    assert 8 < count * stride < 190
