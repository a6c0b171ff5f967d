"""Hundreds of damaged stores: none is a traceback, and nothing of one is laundered."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from test_store import HEADER, fill, keys, rows
from toys import slow_but

import featcache
from featcache.commands import cache
from featcache.dataset import manifest
from featcache.dataset.manifest import Manifest, Settings
from featcache.errors import StoreError
from featcache.features import store

IMAGES = 300
VALUES = (
    5, -1, 2**62, np.nan, "", "x", "[]", "{}", "null", '{"a":NaN}', "[" * 5000,
    "9" * 5000, [1, 2], [], b"\xff", True, np.zeros((2, 2)), h5py.Empty("f4"),
)  # fmt: skip


def flip(path: Path, rng: np.random.Generator) -> None:
    """Flips some bits, more often where the structure of the file is."""
    data = bytearray(path.read_bytes())
    end = len(data) if rng.random() < 0.5 else 8000
    for at in rng.integers(0, end, rng.integers(1, 6)):
        data[at] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)


def cut(path: Path, rng: np.random.Generator) -> None:
    """Cuts the file, or fills a stretch of it with zeros."""
    data = bytearray(path.read_bytes())
    at = int(rng.integers(len(data)))
    data[at:] = bytes(int(rng.choice([0, len(data) - at])))
    path.write_bytes(data)


def edit(path: Path, rng: np.random.Generator) -> None:
    """Gives an attribute of the file or of a matrix another value, or none."""
    with h5py.File(path, "r+") as file:
        attributes = file.attrs if rng.random() < 0.7 else file["features"].attrs
        name = str(rng.choice(sorted(attributes)))
        if rng.random() < 0.1:
            del attributes[name]
        else:
            attributes[name] = VALUES[rng.integers(len(VALUES))]


def change(path: Path, rng: np.random.Generator) -> None:
    """Changes a number, a key or a path, or the type and shape of a column."""
    with h5py.File(path, "r+") as file:
        name = str(rng.choice(sorted(file)))
        row, column = int(rng.integers(IMAGES)), file[name]
        if rng.random() < 0.3:
            del file[name]
            file[name] = VALUES[rng.integers(len(VALUES))]
        elif column.dtype.kind in "iuf":
            column[row] = column[row] + 50
        else:
            column[row] = b"another"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store with its manifest, in a cache."""
    path = tmp_path / "cache" / "toy" / "features" / "toy-random-12345678.h5"
    fill(path, (0, IMAGES))
    table = keys(0, IMAGES)[["image_id", "path"]]
    table = table.reindex(columns=manifest.COLUMNS, fill_value="").assign(
        label="a", group="b", status="ok", width=1, height=1, bytes=1
    )
    manifest.save(Manifest(path.parents[1], Settings("x", "x", "patient"), table))
    return path


def use(path: Path) -> bool:
    """Lists, checks, loads and publishes a store; says whether it was taken as whole.

    A store is used only where each number, key and fact in it is as it was.
    """
    folder, damage = path.parents[2], path.read_bytes()
    (listed,), (checked,) = cache.ls(folder, folder), cache.verify([path])
    assert listed.status == cache.OK or not checked.whole
    part = store.seal(path, HEADER, {"features": rows(IMAGES, 1)}, keys(IMAGES, 1))
    try:
        loaded = featcache.load(path)
        published = store.publish(path, HEADER)
    except StoreError:
        assert checked.is_damaged
        assert path.read_bytes() == damage
        assert part.exists()
        return False
    assert published is not None
    assert np.array_equal(loaded.X, rows(0, IMAGES))
    assert np.array_equal(published.features(), rows(0, IMAGES + 1))
    assert published.keys.equals(keys(0, IMAGES + 1).astype(published.keys.dtypes))
    assert published.header == HEADER
    return True


@pytest.mark.parametrize(
    ("mutate", "count"),
    slow_but(
        [(m, n) for n in (100, 3) for m in (flip, cut, edit, change)],
        (flip, 3), (cut, 3), (edit, 3), (change, 3),
    ),
)  # fmt: skip
def test_a_mutated_store_is_refused_or_as_it_was(path: Path, mutate, count) -> None:
    """Bits, lengths, attributes, columns: one error, or the same numbers."""
    whole, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(count):
        path.write_bytes(whole)
        mutate(path, rng)
        refused += not use(path)
        for part in store.part_files(path):
            part.unlink()
    assert refused > count / 3
