"""The one reader of stores: odd values are damage, closed doors are not."""

import contextlib
import errno
import hashlib
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
from test_store import HEADER, fill, keys, rows

from featcache.dataset.views import Policy
from featcache.errors import StoreError, StoreUnavailableError
from featcache.features import store
from featcache.features.store import opening

Edit = Callable[[h5py.File], None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "features" / "toy.h5"
    fill(path, (0, 3))
    return path


def edited(name: str, value: object) -> Edit:
    def edit(file: h5py.File) -> None:
        file.attrs[name] = value

    return edit


def contract(text: str) -> Edit:
    """A contract of these letters, under the id that they have."""

    def edit(file: h5py.File) -> None:
        file.attrs["contract"] = text
        file.attrs["contract_id"] = hashlib.sha256(text.encode()).hexdigest()

    return edit


def filled(value: object) -> Edit:
    def edit(file: h5py.File) -> None:
        file["features"].attrs["filled"] = value

    return edit


def replaced(name: str, value: object) -> Edit:
    def edit(file: h5py.File) -> None:
        attributes = dict(file[name].attrs) if name in file else {}
        if name in file:
            del file[name]
        file[name] = value
        file[name].attrs.update(attributes)

    return edit


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3, 5), "<f4")
    layout[:] = h5py.VirtualSource("other.h5", "features", (3, 5))
    del file["features"]
    file.create_virtual_dataset("features", layout)


def bomb(file: h5py.File) -> None:
    del file["image_id"]
    file.create_dataset("image_id", (2**40,), "S64", chunks=(1024,))


def dropped(name: str) -> Edit:
    def edit(file: h5py.File) -> None:
        del file.attrs[name]

    return edit


POLICY = Policy().to_dict()
NESTED = "[" * 100_000
EDITS: dict[str, Edit] = {
    "contract is a number": edited("contract", 5),
    "contract is a list": contract("[]"),
    "contract with NaN": contract('{"backbone":"toy","input_size":NaN}'),
    "contract with a huge number": contract(
        '{"backbone":"toy","input_size":' + "9" * 400 + "}"
    ),
    "contract of an odd dtype": contract(
        '{"backbone":"toy","dtype":"object","input_size":32}'
    ),
    "contract with a path for a name": contract(
        '{"backbone":"../toy","input_size":32}'
    ),
    "contract nested deeply": contract(NESTED),
    "contract nested a little less": contract(
        '{"backbone":"toy","input_size":32,"x":' + "[" * 200 + "]" * 200 + "}"
    ),
    "contract_id is a number": edited("contract_id", 5),
    "contract not UTF-8": edited("contract", np.bytes_(b"\xff\xfe")),
    "policies of texts": edited("policies", '["x"]'),
    "policies without seed": edited("policies", '[{"flip":true}]'),
    "policies of an odd region": edited("policies", '[{"region":"left"}]'),
    "policies with an odd range": edited(
        "policies", str([POLICY | {"zoom": [3.0, 2.0]}]).replace("'", '"')
    ),
    "rows are two": edited("rows", [1, 2]),
    "rows are NaN": edited("rows", np.nan),
    "rows are negative": edited("rows", -3),
    "rows are true": edited("rows", "3"),
    "filled are two": filled([1, 2]),
    "filled is more than there is": filled(4),
    "complete is a list": edited("complete", [True, True]),
    "schema is a text": edited("featcache_schema", "two"),
    "weights is a path": edited("weights", "../../x"),
    "notes is a list": edited("notes", "[]"),
    "notes of an odd type": edited("notes", '{"calibration":"x"}'),
    "versions are numbers": edited("versions", '{"keras":3}'),
    "engine is empty": edited("engine", h5py.Empty("S1")),
    "no created": dropped("created"),
    "no header_sha256": dropped("header_sha256"),
    "another engine": edited("engine", "numpy"),
    "another weights_key": edited("weights_key", "random seed 1"),
    "features of one dimension": replaced("features", np.zeros(3, "<f4")),
    "features of doubles": replaced("features", np.zeros((3, 5))),
    "features is a group": lambda file: file.move("features", "taps/features"),
    "features elsewhere": replaced("features", h5py.ExternalLink("o.h5", "features")),
    "features virtual": virtual,
    "image_id of numbers": replaced("image_id", np.arange(3)),
    "image_id of a billion rows": bomb,
    "view of texts": replaced("view", np.array([b"0", b"0", b"0"])),
    "view of fractions": replaced("view", np.zeros(3)),
    "policy of no recipe": replaced("policy", np.array([0, 0, 0], np.int16)),
    "another path of each row": replaced("path", ["a.png", "b.png", "c.png"]),
    "taps is a list": replaced("taps", [1]),
}


@pytest.mark.parametrize("name", EDITS)
def test_odd_values_are_damage(path: Path, name: str) -> None:
    """Whatever is of another type, shape or size, or edited, is one error."""
    with contextlib.suppress(KeyError), h5py.File(path, "r+") as file:
        EDITS[name](file)  # what is elsewhere has no attributes
    with pytest.raises(StoreError) as caught:
        store.open_store(path)
    assert not isinstance(caught.value, StoreUnavailableError)
    text = str(caught.value)
    assert "\n" not in text
    # What is of another type is refused even under a digest that fits.
    assert ("another checksum" in text) == ("another" in name)


def test_a_key_twice_is_damage(tmp_path: Path) -> None:
    """Rows of one key cannot be told apart, even where all digests are right."""
    path = tmp_path / "toy.h5"
    twice = keys(0, 2).assign(image_id="same")
    part = store.seal(path, HEADER, {"features": rows(0, 2)}, twice)
    with pytest.raises(StoreError, match="a key that is there twice"):
        store.open_store(part)


def test_a_store_changed_since_it_was_opened_is_not_read(path: Path) -> None:
    """A matrix and its checksum that are replaced together are noticed all the same."""
    opened = store.open_store(path)
    with h5py.File(path, "r+") as file:
        file["features"][0] = 7
        changed = file["features"][:]
        file["features"].attrs["sha256"] = hashlib.sha256(changed).hexdigest()
    with pytest.raises(StoreError, match="features with another checksum"):
        opened.read()
    with pytest.raises(StoreError, match="header with another checksum"):
        store.open_store(path)


def test_nothing_changed_is_merged(path: Path) -> None:
    """A published store with an edited number gets no fresh checksum."""
    with h5py.File(path, "r+") as file:
        file["features"][0] += 50
    content = path.read_bytes()
    part = store.seal(path, HEADER, {"features": rows(3, 1)}, keys(3, 1))
    with pytest.raises(StoreError, match="features with another checksum"):
        store.publish(path, HEADER)
    assert path.read_bytes() == content
    assert part.exists()


@contextmanager
def held_by_another(path: Path) -> Iterator[None]:
    with h5py.File(path, "r+", locking=True):
        yield


@contextmanager
def few_files(path: Path) -> Iterator[None]:
    store.open_store(path)  # what is imported late needs files, too
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@contextmanager
def refused(path: Path, code: int) -> Iterator[None]:
    """The system refuses to open the file."""

    def refuse(file: object, *_: object) -> int:
        raise OSError(code, os.strerror(code), str(file))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening.os, "open", refuse)
        yield


CLOSED = {
    "another program that has it open": held_by_another,
    "too many open files": few_files,
    "no permission": lambda path: refused(path, errno.EACCES),
    "input/output error": lambda path: refused(path, errno.EIO),
    "stale file handle": lambda path: refused(path, errno.ESTALE),
}


@pytest.mark.parametrize("reason", CLOSED)
def test_what_cannot_be_opened_is_not_damaged(path: Path, reason: str) -> None:
    """The error says why; the file is whole before and after."""
    with CLOSED[reason](path), pytest.raises(StoreUnavailableError, match=reason):
        store.open_store(path)
    store.open_store(path).verify()


def test_a_part_that_cannot_be_opened_is_kept(path: Path) -> None:
    """Publishing stops, for a part that is left out would be computed again."""
    part = store.seal(path, HEADER, {"features": rows(3, 1)}, keys(3, 1))
    with held_by_another(part), pytest.raises(StoreUnavailableError):
        store.publish(path, HEADER)
    published = store.publish(path, HEADER)
    assert published is not None
    assert len(published.keys) == 4


def test_no_locks_are_needed_to_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system without locks, as some over networks are, has whole stores."""

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(opening.fcntl, "flock", no_locks)
    assert np.array_equal(store.open_store(path).features(), rows(0, 3))


def test_a_foreign_file_among_parts_stays(path: Path) -> None:
    """Only files under the names of parts are merged, counted and removed."""
    foreign = store.parts_folder(path) / "notes.h5"
    foreign.parent.mkdir()
    foreign.write_text("mine")
    store.seal(path, HEADER, {"features": rows(3, 1)}, keys(3, 1))
    published = store.publish(path, HEADER)
    assert published is not None
    assert len(published.keys) == 4
    assert os.listdir(foreign.parent) == ["notes.h5"]


@pytest.mark.parametrize("number", [1, 30])
def test_a_heap_of_zeros_is_damage(tmp_path: Path, number: int) -> None:
    """HDF5 would walk it for ever: texts whose bytes a crash left as zeros."""
    path = tmp_path / "toy.h5"
    fill(path, (0, 200))
    data = bytearray(path.read_bytes())
    at = data.rindex(f"é/{number}.png".encode()) - 16
    data[at : at + 512] = bytes(512)
    path.write_bytes(data)
    with pytest.raises(StoreError, match="empty object in a heap"):
        store.open_store(path)
