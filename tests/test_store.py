"""The feature store: sealed parts, publishing, keys, refusals."""

import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from records import make_contract

from featcache.dataset.views import Policy
from featcache.errors import ContractError, LockedError, StoreError
from featcache.features import store
from featcache.features.store import Header

DIM = 5
HEADER = Header(
    contract=make_contract(),
    policies=[],
    weights="random",
    weights_key="random seed 0",
    engine="tensorflow",
    versions={"keras": "3"},
    notes={},
)


def keys(first: int, count: int, view: int = 0, policy: int = -1) -> pd.DataFrame:
    """Keys of images first..first+count-1, whose ids are their numbers."""
    return pd.DataFrame(
        {
            "image_id": [f"{n:064x}" for n in range(first, first + count)],
            "view": view,
            "policy": policy,
            "mask_id": "",
            "path": [f"é/{n}.png" for n in range(first, first + count)],
        }
    )


def rows(first: int, count: int) -> np.ndarray:
    """Embeddings whose every entry is the image's number."""
    return np.repeat(np.arange(first, first + count, dtype=np.float32), DIM).reshape(
        count, DIM
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "features" / "toy.h5"


def fill(path: Path, *parts: tuple[int, int], header: Header = HEADER) -> store.Store:
    """Seals parts of (first, count) images and publishes them."""
    for first, count in parts:
        store.seal(path, header, {"features": rows(first, count)}, keys(first, count))
    published = store.publish(path, header)
    assert published is not None
    return published


def test_what_is_sealed_is_read_back(path: Path) -> None:
    """Embeddings, keys and header come back as they were given."""
    found = fill(path, (0, 3), (3, 2))
    assert np.array_equal(found.features(), rows(0, 5))
    pd.testing.assert_frame_equal(found.keys, keys(0, 5), check_dtype=False)
    assert found.header == HEADER
    assert not store.parts_folder(path).exists()


def test_any_tool_can_read_the_file(path: Path) -> None:
    """The layout is that of docs/reference/file-format.md, for h5py alone."""
    fill(path, (0, 2))
    with h5py.File(path) as file:
        assert set(file) == {"features", "image_id", "view", "policy", "path"}
        assert file["features"].dtype == np.float32
        assert file["features"].fletcher32
        assert file["features"].attrs["filled"] == 2
        assert file["image_id"].dtype == np.dtype("S64")
        assert file["view"].dtype == np.uint16
        assert file["policy"].dtype == np.int16
        assert file["path"].asstr()[1] == "é/1.png"
        assert file.attrs["contract_id"] == HEADER.contract_id
        assert file.attrs["complete"]


def test_a_part_is_no_store(path: Path) -> None:
    """Readers see published stores only."""
    store.seal(path, HEADER, {"features": rows(0, 1)}, keys(0, 1))
    with pytest.raises(StoreError, match="no such file"):
        store.open_store(path)


def test_a_row_is_kept_once(path: Path) -> None:
    """A key that is published already is not added again."""
    fill(path, (0, 3))
    found = fill(path, (2, 2))
    assert np.array_equal(found.features(), rows(0, 4))


def test_policies_are_matched_by_content(path: Path) -> None:
    """Views of one recipe share an index, wherever their part numbered it."""
    one, two = Policy().to_dict(), Policy(flip=False).to_dict()
    first = replace(HEADER, policies=[one])
    store.seal(path, first, {"features": rows(0, 1)}, keys(0, 1, view=1, policy=0))
    store.publish(path, first)
    second = replace(HEADER, policies=[two, one])
    store.seal(path, second, {"features": rows(1, 1)}, keys(1, 1, view=1, policy=1))
    store.seal(path, second, {"features": rows(2, 1)}, keys(2, 1, view=1, policy=0))
    found = store.publish(path, second)
    assert found is not None
    assert found.header.policies == [one, two]
    assert found.keys["policy"].tolist() == [0, 0, 1]


def test_publishing_twice_changes_nothing(path: Path) -> None:
    """Without parts, the published file is left as it is, byte for byte."""
    fill(path, (0, 3))
    before = path.read_bytes()
    store.publish(path, HEADER)
    assert path.read_bytes() == before


def test_a_tap_fills_the_rows_that_lack_it(path: Path) -> None:
    """Inner layers come later: their rows join those of the embeddings."""
    fill(path, (0, 3))
    both = {"features": rows(2, 2), "fire4": rows(2, 2)[:, :2]}
    store.seal(path, HEADER, both, keys(2, 2))
    found = store.publish(path, HEADER)
    assert found is not None
    assert found.dims == {"features": 5, "fire4": 2}
    assert found.has("fire4").tolist() == [False, False, True, True]
    assert np.array_equal(found.features(), rows(0, 4))
    tap = found.read("fire4")
    assert np.isnan(tap[:2]).all()
    assert np.array_equal(tap[2:], rows(2, 2)[:, :2])
    store.seal(path, HEADER, {"fire4": rows(0, 2)[:, :2]}, keys(0, 2))
    found = store.publish(path, HEADER)
    assert found is not None
    assert found.has("fire4").all()
    assert np.array_equal(found.read("fire4"), rows(0, 4)[:, :2])


def test_float16_is_kept_as_such(path: Path) -> None:
    """Half the room; another contract; read back as float32."""
    half = replace(HEADER, contract=make_contract(dtype="float16"))
    found = fill(path, (0, 3), header=half)
    with h5py.File(path) as file:
        assert file["features"].dtype == np.float16
    assert found.features().dtype == np.float32
    assert np.array_equal(found.features(), rows(0, 3))


def test_nothing_to_publish_is_no_store(path: Path) -> None:
    """Without a store and parts there is none afterwards either."""
    assert store.publish(path, HEADER) is None


def test_a_kill_between_publish_and_cleaning_up_costs_nothing(path: Path) -> None:
    """Parts that are published already add no rows a second time."""
    fill(path, (0, 3))
    store.seal(path, HEADER, {"features": rows(0, 3)}, keys(0, 3))
    found = store.publish(path, HEADER)
    assert found is not None
    assert np.array_equal(found.features(), rows(0, 3))


def test_another_contract_is_refused_by_its_fields(path: Path) -> None:
    """The error names the differing field with both values."""
    found = fill(path, (0, 1))
    other = replace(HEADER, contract=make_contract(input_size=64))
    with pytest.raises(ContractError, match=r"input_size=64; got input_size=32 in"):
        store.check_contract(found, other)


def test_a_part_of_another_contract_is_left_out(path: Path) -> None:
    """It is named by the fields that differ, stays, and stops nothing."""
    fill(path, (0, 1))
    other = replace(HEADER, contract=make_contract(input_size=64))
    part = store.seal(path, other, {"features": rows(1, 1)}, keys(1, 1))
    mine = store.seal(path, HEADER, {"features": rows(2, 1)}, keys(2, 1))
    messages: list[str] = []
    published = store.publish(path, HEADER, on_damage=messages.append)
    assert published is not None
    assert np.array_equal(published.features()[:, 0], [0, 2])
    assert len(messages) == 1
    assert "input_size=64" in messages[0]
    assert (part.exists(), mine.exists()) == (True, False)


def flip_byte(path: Path, needle: bytes) -> None:
    data = bytearray(path.read_bytes())
    at = data.index(needle)
    data[at] ^= 0xFF
    path.write_bytes(data)


def test_a_flipped_byte_is_found(path: Path) -> None:
    """Rot in the features is an error, never another number."""
    found = fill(path, (1000, 3))
    flip_byte(path, rows(1000, 1).tobytes())
    with pytest.raises(
        StoreError, match="The disk or another program changed the file"
    ):
        found.features()


def test_a_rotten_part_is_left_out_and_told(path: Path) -> None:
    """Its rows are missing then, so that they are computed again."""
    store.seal(path, HEADER, {"features": rows(0, 2)}, keys(0, 2))
    part = store.seal(path, HEADER, {"features": rows(1000, 2)}, keys(1000, 2))
    flip_byte(part, rows(1000, 1).tobytes())
    said: list[str] = []
    found = store.publish(path, HEADER, on_damage=said.append)
    assert found is not None
    assert np.array_equal(found.features(), rows(0, 2))
    assert len(said) == 1
    assert "computed again" in said[0]


def damage_cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-500])


def damage_text(path: Path) -> None:
    path.write_text("not HDF5")


def damage_foreign(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["features"] = [1.0]


def damage_schema(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file.attrs["featcache_schema"] = 99


def damage_unfinished(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file.attrs["complete"]


def damage_rows(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["view"]
        file["view"] = np.zeros(2, np.uint16)


def damage_keys(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["view"][0] = 7


def damage_contract(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file.attrs["contract"] = '{"backbone":"toy","input_size":64}'


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (damage_cut, "no readable HDF5"),
        (damage_text, "no readable HDF5"),
        (damage_foreign, "an HDF5 file of another program"),
        (damage_schema, "schema 99"),
        (damage_unfinished, "an incomplete file"),
        (damage_rows, "unreadable content|3 embeddings"),
        (damage_keys, "keys with another checksum"),
        (damage_contract, "edited by hand"),
    ],
)
def test_a_store_that_is_not_whole_is_refused(path: Path, damage, said: str) -> None:
    """Cut short, foreign, unfinished or edited: an error that says which."""
    fill(path, (0, 3))
    damage(path)
    with pytest.raises(StoreError, match=said):
        store.open_store(path)


def test_one_writer_a_store(path: Path) -> None:
    """A second writer is refused while the first writes, not afterwards."""
    with (
        store.writing(path),
        pytest.raises(LockedError, match=r"toy\.h5"),
        store.writing(path),
    ):
        pass
    with store.writing(path):
        pass


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow above 64 KiB: a full disk, as far as a program can tell."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_while_sealing_loses_nothing_sealed(
    path: Path, small_files: None
) -> None:
    """The part that does not fit is an OSError; earlier parts stay whole."""
    store.seal(path, HEADER, {"features": rows(0, 10)}, keys(0, 10))
    with pytest.raises(OSError, match="File too large"):
        store.seal(path, HEADER, {"features": rows(0, 9000)}, keys(0, 9000))
    assert [p.name for p in store.parts_folder(path).iterdir()] == ["000000.h5"]


FULL_DISK = """
import resource, sys
sys.path.insert(0, {tests!r})
from test_store import HEADER, keys, rows, store
from featcache.errors import StoreError
from pathlib import Path
path = Path({path!r})
for n in range(4):
    store.seal(path, HEADER, dict(features=rows(n * 1000, 1000)), keys(n * 1000, 1000))
for limit in range(1000, 400_000, 20_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        store.publish(path, HEADER)
    except StoreError as error:
        print(error)
"""


@pytest.mark.slow
def test_a_full_disk_while_publishing_keeps_the_parts(path: Path) -> None:
    """However much fits: no crash, no store, all parts; later it succeeds."""
    code = FULL_DISK.format(tests=str(Path(__file__).parent), path=str(path))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.count("free some space") == 20
    assert not path.exists()
    assert not list(path.parent.glob(".*.tmp"))
    found = store.publish(path, HEADER)
    assert found is not None
    assert np.array_equal(found.features(), rows(0, 4000))


def test_no_room_is_told_before_writing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The size of the merged store is compared with the free space first."""
    store.seal(path, HEADER, {"features": rows(0, 2)}, keys(0, 2))
    store.seal(path, HEADER, {"features": rows(2, 2)}, keys(2, 2))
    usage = shutil_usage(total=10**9, used=10**9, free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(StoreError, match="MiB free for"):
        store.publish(path, HEADER)
    assert store.parts_folder(path).is_dir()


def shutil_usage(**sizes: int) -> object:
    return type("Usage", (), sizes)
