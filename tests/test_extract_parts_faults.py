"""Parts on disks that are full or closed, with clocks apart, and published twice."""

import errno
import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from test_extract_parts import content, twin
from toys import slow_but

from featcache import backbones
from featcache.commands.extract import (
    compute_parts,
    extract,
    plan_parts,
    publish_parts,
    publishing,
)
from featcache.core import io
from featcache.dataset.manifest import Manifest
from featcache.errors import FeatcacheError, StoreError

faults = pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])


@pytest.fixture
def planned(dataset: Manifest) -> Manifest:
    """A dataset with a plan of two baselines in 4 parts."""
    networks = backbones.resolve_all(["border", "metadata"])
    plan_parts(dataset, networks, parts=4, batch_size=4)
    return dataset


@contextmanager
def failing(number: int, folder: str, after: int) -> Iterator[None]:
    """No file gets its name below a folder, once so many have got theirs."""
    replace, count = os.replace, 0

    def call(source: Any, target: Any) -> None:
        nonlocal count
        if f"/{folder}/" in str(target):
            count += 1
            if count > after:
                raise OSError(number, os.strerror(number), str(target))
        replace(source, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(io.os, "replace", call)
        yield


def files(folder: Path) -> list[Path]:
    """What lies below a folder."""
    return [path for path in folder.rglob("*") if path.is_file()]


def assert_published_as_undivided(planned: Manifest, tmp_path: Path) -> None:
    """The stores are those of one call, byte for byte, and the plan is gone."""
    networks = backbones.resolve_all(["border", "metadata"])
    whole = extract(twin(planned, tmp_path), networks, batch_size=4)
    for one in whole:
        assert content(one.path) == content(planned.folder / "features" / one.path.name)
    assert not (planned.folder / "plans").exists()


@faults
@pytest.mark.parametrize("after", slow_but([0, 3], 3))
def test_a_disk_that_cannot_be_written_at_a_part(
    planned: Manifest, tmp_path: Path, number: int, after: int
) -> None:
    """The error names part, folder and reason; nothing stays, and a rerun completes."""
    compute_parts(planned, [1])
    (parts,) = planned.folder.glob("plans/*/parts")
    before = files(parts)
    with (
        failing(number, "parts", after),
        pytest.raises(StoreError, match=os.strerror(number)) as error,
    ):
        compute_parts(planned, range(4))
    assert f"part 0 of plan {parts.parent.name} cannot be written" in str(error.value)
    assert ".tmp" not in str(error.value)
    assert files(parts) == before
    compute_parts(planned, range(4))
    publish_parts(planned)
    assert_published_as_undivided(planned, tmp_path)


@faults
@pytest.mark.parametrize("after", [0, 1])
def test_a_disk_that_cannot_be_written_at_the_end(
    planned: Manifest, tmp_path: Path, number: int, after: int
) -> None:
    """Each store is there in full or not at all; the same call completes them."""
    compute_parts(planned, range(4))
    with (
        failing(number, "features", after),
        pytest.raises(StoreError, match=os.strerror(number)),
    ):
        publish_parts(planned)
    stores = files(planned.folder / "features")
    assert len(stores) == after
    assert all(path.suffix == ".h5" for path in stores)
    assert [store.rows for store in publish_parts(planned)] == [36, 36]
    assert_published_as_undivided(planned, tmp_path)


def test_clocks_that_are_apart(planned: Manifest, tmp_path: Path) -> None:
    """Parts of yesterday and of the next century are the same parts."""
    compute_parts(planned, [2, 3, 0])
    draw = random.Random(1)
    for path in planned.folder.rglob("plans/**/*"):
        moment = draw.choice([0, 10**9, 4 * 10**9])
        os.utime(path, (moment, moment))
    compute_parts(planned, range(4))
    publish_parts(planned)
    assert_published_as_undivided(planned, tmp_path)


def test_publications_at_once(planned: Manifest, tmp_path: Path) -> None:
    """One of many publishes; the others are told of it or of the plan's end."""
    compute_parts(planned, range(4))

    def publish(_: int) -> FeatcacheError | None:
        try:
            publish_parts(planned)
        except FeatcacheError as error:
            return error
        return None

    with ThreadPoolExecutor(6) as pool:
        errors = list(pool.map(publish, range(6)))
    assert errors.count(None) == 1
    for error in filter(None, errors):
        texts = (
            "being written by",
            "a plan of parts; got none",
            "published or removed",
        )
        assert any(text in str(error) for text in texts), str(error)
    assert_published_as_undivided(planned, tmp_path)


def test_a_publication_that_comes_too_late(
    planned: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan that it has opened was published before it had the locks."""
    compute_parts(planned, range(4))
    inner = publishing.in_use

    def publish_first(manifest: Manifest) -> Any:
        monkeypatch.setattr(publishing, "in_use", inner)
        publish_parts(planned)
        return inner(manifest)

    monkeypatch.setattr(publishing, "in_use", publish_first)
    with pytest.raises(StoreError, match="published or removed while this call ran"):
        publish_parts(planned)
