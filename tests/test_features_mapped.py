"""Features that are mapped from a file: the same numbers, and nothing left behind."""

import errno
import gc
import operator
import os
import time
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from test_store import HEADER, keys, rows

import featcache
from featcache.commands import cache
from featcache.commands.cache import leftovers
from featcache.dataset import manifest
from featcache.dataset.manifest import Manifest, Settings
from featcache.errors import StoreError
from featcache.features import mapping, store
from featcache.features.store import publication

STORE = Path("cache/toy/features/toy-random-12345678.h5")


@pytest.fixture(params=["one file", "part files"])
def path(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A store of eight images with a tap; the manifest has them in another order."""
    monkeypatch.chdir(tmp_path)
    limit = 2**30 if request.param == "one file" else 1
    monkeypatch.setattr(publication, "PARTS_ABOVE", limit)
    for first, count in ((0, 6), (6, 2)):
        outputs = {"features": rows(first, count), "fire4": -rows(first, count)[:, :2]}
        store.seal(STORE, HEADER, outputs, keys(first, count))
        published = store.publish(STORE, HEADER)
    assert published is not None
    assert published.is_in_parts == (request.param == "part files")
    table = keys(0, 8)[["image_id", "path"]].iloc[[3, 7, 0, 1, 6, 2, 5, 4]]
    table = table.reindex(columns=manifest.COLUMNS, fill_value="").assign(
        label=["a", "b"] * 4, group=[f"patient {n}" for n in range(8)], status="ok",
        width=1, height=1, bytes=1,
    )  # fmt: skip
    manifest.save(Manifest(Path("cache/toy"), Settings("x", "x", "patient"), table))
    return STORE


def copies() -> list[Path]:
    return list(STORE.parent.glob(".*.tmp"))


def test_both_kinds_are_mapped(path: Path) -> None:
    """Rows, labels and groups are those of an array, which nobody can write to."""
    expected = featcache.load(path, taps="all")
    X, y, groups, meta = featcache.load(path, taps="all", mmap=True)
    assert isinstance(X, np.memmap)
    assert not X.flags.writeable
    assert np.array_equal(X, expected.X)
    assert X[1].tolist() == [7] * 5 + [-7] * 2
    assert (y == expected.y).all()
    assert (groups == expected.groups).all()
    pd.testing.assert_frame_equal(meta, expected.meta)


def test_the_file_goes_with_the_last_array(path: Path) -> None:
    """A view of it counts as well; another process may map it until then."""
    X = featcache.load(path, mmap=True).X
    view = np.asarray(X)[2:, :3]
    del X
    gc.collect()
    assert len(copies()) == 1
    assert view[0, 0] == 0
    del view
    gc.collect()
    assert copies() == []


@pytest.mark.slow
def test_joblib_maps_the_same_file(path: Path) -> None:
    """Its processes are given the file's name, and not the numbers."""
    X = featcache.load(path, mmap=True).X
    names = joblib.Parallel(n_jobs=2)(
        joblib.delayed(operator.attrgetter("filename"))(part) for part in (X, X[1:])
    )
    assert names == [X.filename] * 2


def test_a_fork_does_not_remove_the_file(path: Path) -> None:
    """A child has the array too, and its end is not that of its parent's."""
    X = featcache.load(path, mmap=True).X
    pid = os.fork()
    if not pid:
        del X
        gc.collect()
        os._exit(0)
    os.waitpid(pid, 0)
    assert len(copies()) == 1
    assert X[0, 0] == 3


def leave_a_copy(path: Path) -> None:
    """A child loads, and ends without a word, as by kill -9."""
    pid = os.fork()
    if not pid:
        try:
            X = featcache.load(path, mmap=True).X
        finally:
            os._exit(X is None)
    os.waitpid(pid, 0)
    assert len(copies()) == 1


def test_what_a_killed_process_left_goes(path: Path) -> None:
    """With the next call, or with prune; that of a live process never does."""
    leave_a_copy(path)
    X = featcache.load(path, mmap=True).X
    assert [one.resolve() for one in copies()] == [Path(X.filename)]
    old = time.time() - 2 * leftovers.OLD_SECONDS
    os.utime(X.filename, (old, old))
    assert not cache.prune(Path("cache"), Path("reports"), yes=True).removals
    del X
    gc.collect()
    leave_a_copy(path)
    (removal,) = cache.prune(Path("cache"), Path("reports"), yes=True).removals
    assert (removal.kind, removal.what) == ("temporary", "its process has ended")
    assert copies() == []


def test_what_is_damaged_is_not_mapped(path: Path) -> None:
    """Each part is compared with its checksum, as ever; no file stays."""
    part = store.open_store(path).segments[0].files[0].path
    content = part.read_bytes()
    at = content.index(rows(5, 1).tobytes())
    part.write_bytes(content[:at] + b"\x01" + content[at + 1 :])
    with pytest.raises(StoreError):
        featcache.load(path, mmap=True)
    assert copies() == []


def test_a_full_disk_is_an_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Space is reserved before anything is written to the map."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(mapping.os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        featcache.load(path, mmap=True)
    assert copies() == []


def test_embeddings_that_are_not_there_are_named(path: Path) -> None:
    """As after a repair that left a tap alone of some rows: extract has the rest."""
    store.remove(path)
    for name, count in (("fire4", 8), ("features", 6)):
        store.seal(path, HEADER, {name: rows(0, count)}, keys(0, count))
        store.publish(path, HEADER)
    for is_mapped in (False, True):
        with pytest.raises(StoreError, match=r"none for 2 of 8.*featcache extract"):
            featcache.load(path, mmap=is_mapped)
