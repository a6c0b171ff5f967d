"""No image twice, across datasets too: rows are copied from other stores."""

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from toys import Heard

from featcache import backbones
from featcache.backbones.engines import choose
from featcache.commands.extract import extract
from featcache.commands.scan import scan
from featcache.dataset.manifest import Manifest
from featcache.dataset.regions import Region
from featcache.dataset.views import Policy
from featcache.errors import DatasetError, StoreUnavailableError
from featcache.features import store
from featcache.features.copies import OpenedStore

Part = Callable[..., Manifest]


@pytest.fixture
def part(image_folder: Path, tmp_path: Path) -> Part:
    """Scans some images of each class as a dataset of its own, renamed."""

    def call(name: str, first: int, last: int) -> Manifest:
        for folder in sorted(image_folder.iterdir()):
            target = tmp_path / name / folder.name
            target.mkdir(parents=True)
            for number, file in enumerate(sorted(folder.iterdir())[first:last]):
                shutil.copy(file, target / f"{name}{number}{file.suffix}")
        return scan(tmp_path / name, tmp_path / "cache").manifest

    return call


def by_key(path: Path, name: str = store.FEATURES) -> dict[tuple[object, ...], bytes]:
    """The rows of a matrix by image and view."""
    opened = store.open_store(path)
    keys = opened.keys[["image_id", "view"]].itertuples(index=False, name=None)
    return {k: v.tobytes() for k, v in zip(keys, opened.read(name), strict=True)}


def test_images_of_another_dataset_are_copied(part: Part, toy) -> None:
    """Of 24 images, 12 are in another dataset: 12 are computed and 12 copied."""
    first, heard = toy(part("one", 0, 8), views=1), Heard()
    second = toy(part("two", 4, 12), views=1, reporter=heard)
    assert (second.rows, second.computed, second.copied) == (48, 24, 24)
    assert heard.messages == ["toynet@32: 24 of 48 rows are copied from dataset one"]
    one, two = by_key(first.path), by_key(second.path)
    common = one.keys() & two.keys()
    assert len(common) == 24
    assert all(one[key] == two[key] for key in common)
    paths = store.open_store(second.path).keys["path"]
    assert paths.str.contains("two").all()


def test_what_is_copied_whole_builds_no_network(
    part: Part, toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dataset whose images are all stored elsewhere needs no network at all."""
    toy(part("one", 0, 8))
    monkeypatch.setattr(backbones, "build", None)
    monkeypatch.setattr(choose, "make", lambda networks, **_: networks)
    second = toy(part("two", 2, 6))
    assert (second.rows, second.computed, second.copied) == (12, 0, 12)
    assert (toy(part("three", 2, 6)).copied, second.engine) == (12, "")


def test_baselines_are_copied(part: Part) -> None:
    """What is measured without a network is copied as well."""
    networks = [backbones.resolve(name) for name in ("metadata", "border")]
    extract(part("one", 0, 8), networks)
    results = extract(part("two", 4, 8), networks)
    assert [(one.computed, one.copied) for one in results] == [(0, 12), (0, 12)]


def test_only_the_same_rendering_is_copied(part: Part, toy) -> None:
    """Another policy or region is another row; only the plain renderings are equal."""
    toy(part("one", 0, 4), views=1)
    policy = Policy(seed=7)
    second = toy(part("two", 0, 4), views=1, policy=policy)
    assert (second.computed, second.copied) == (12, 12)
    ring = Policy(region=Region("ring"))
    third = toy(part("three", 0, 4), policy=ring)
    assert (third.computed, third.copied) == (12, 0)
    assert toy(part("four", 0, 4), policy=ring).copied == 12


def test_taps_are_copied_only_together(part: Part, toy, toy_network: Path) -> None:
    """A store without the taps has nothing to copy; one with them has all."""
    model = backbones.build(backbones.resolve(str(toy_network)))
    tap = model.layers[1].name
    toy(part("one", 0, 4))
    second = toy(part("two", 0, 4), taps=tap)
    assert (second.computed, second.copied) == (12, 0)
    third = toy(part("three", 0, 4), taps=tap)
    assert (third.computed, third.copied) == (0, 12)
    assert by_key(third.path, tap) == by_key(second.path, tap)


def test_a_damaged_store_is_skipped_and_named(part: Part, toy) -> None:
    """Nothing is copied from a store whose bytes are not those that were sealed."""
    first, heard = toy(part("one", 0, 4)), Heard()
    with h5py.File(first.path, "r+") as file:
        del file["features"].attrs["sha256"]
        file["features"].attrs["sha256"] = "0" * 64
    second = toy(part("two", 0, 4), reporter=heard)
    assert (second.computed, second.copied) == (12, 0)
    assert any(f"nothing is copied from {first.path}" in m for m in heard.messages)


def test_rows_of_other_libraries_do_not_join_a_store(
    part: Part, toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store is not filled with rows of other versions that nothing compares."""
    module = "featcache.commands.extract"
    toy(part("one", 0, 8))
    two = part("two", 8, 12)
    for name in ("work", "copying", "plan"):
        monkeypatch.setattr(f"{module}.{name}.versions", lambda: {"featcache": "9"})
    toy(two)
    heard = Heard()
    grown = scan(two.folder.parent.parent / "chest", two.folder.parent, dataset="two")
    result = toy(grown.manifest, reporter=heard)
    assert (result.computed, result.copied) == (24, 0)
    assert any("24 of 24 rows are computed again" in m for m in heard.messages)


def test_an_interrupted_call_has_copied_already(
    part: Part, toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copied rows are published before anything is computed."""
    toy(part("one", 0, 8))
    two = part("two", 4, 12)

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(choose, "make", stop)
        with pytest.raises(KeyboardInterrupt):
            toy(two)
    again = toy(two)
    assert (again.computed, again.copied, again.rows) == (12, 0, 24)


def test_a_store_that_is_replaced_meanwhile_is_not_read(part: Part, toy) -> None:
    """Row numbers hold for the file that was opened, not for its successor."""
    one = part("one", 0, 4)
    opened = OpenedStore.open(toy(one).path)
    assert len(opened.rows(store.FEATURES, np.array([0, 1]))) == 2
    toy(one, views=1)
    with pytest.raises(StoreUnavailableError, match="replaced"):
        opened.rows(store.FEATURES, np.array([0, 1]))


def test_a_dataset_that_vanishes_is_named(part: Part, toy) -> None:
    """A dataset that is removed during a call does not come back in part."""
    one = part("one", 0, 12)

    class Removing(Heard):
        def progress(self, name: str, done: int, total: int) -> None:
            shutil.rmtree(one.folder, ignore_errors=True)

    with pytest.raises(DatasetError, match="removed or renamed while this call ran"):
        toy(one, reporter=Removing())
    assert not one.folder.exists()
