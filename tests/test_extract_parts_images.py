"""Parts of a plan: a worker reads of the images what its part needs, and no more."""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from test_extract_parts import Planned, planned  # noqa: F401 (a fixture)
from test_regions import mask_of, masked  # noqa: F401 (a fixture)
from toys import Heard

from featcache import backbones
from featcache.commands.extract import (
    compute_parts,
    extract,
    missing_parts,
    part_files,
    part_plan,
    plan_parts,
    planning,
    publish_parts,
)
from featcache.commands.extract.part_plan import open_plan
from featcache.commands.extract.planned_images import has_images, images_digest
from featcache.dataset import manifest as manifests
from featcache.dataset import sources
from featcache.dataset.manifest import Manifest
from featcache.dataset.regions import Region
from featcache.dataset.views import Policy
from featcache.errors import DatasetError, StoreError
from featcache.features import store

INSIDE = Policy(region=Region("inside"))


@pytest.fixture
def no_table(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on, nobody reads the table of a manifest."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("the manifest was read")

    def call() -> None:
        monkeypatch.setattr(manifests.pd, "read_csv", refuse)

    return call


def rewritten(dataset: Manifest, **columns: Any) -> None:
    """Saves the manifest again with other columns."""
    manifests.save(replace(dataset, table=dataset.table.assign(**columns)))


def test_a_worker_does_not_read_the_manifest(
    dataset: Manifest,
    planned: Planned,  # noqa: F811
    no_table: Callable[[], None],
    run: Callable[..., Any],
) -> None:
    """Neither in Python nor at the command line, and not to list what is missing."""
    planned()
    no_table()
    (part,) = compute_parts(dataset.folder, [3])
    assert part.rows
    assert missing_parts(dataset.folder) == [0, 1, 2, 4, 5, 6]
    cache = dataset.folder.parent
    code, out, err = run("extract", "--part", "4,5", "--cache", cache)
    assert code == 0, err
    assert "part 5 of plan" in out
    assert missing_parts(dataset.folder) == [0, 1, 2, 6]


def test_images_that_changed_are_refused_by_their_file(
    dataset: Manifest,
    planned: Planned,  # noqa: F811
) -> None:
    """A file of other images is; one of other labels, or a copy, is not."""
    planned()
    rewritten(dataset, label="another")
    compute_parts(dataset.folder, [0])
    os.utime(dataset.folder / "manifest.csv", (1, 1))
    compute_parts(dataset.folder, [1])
    rewritten(dataset, path=["elsewhere.png", *dataset.table["path"][1:]])
    with pytest.raises(StoreError, match=r"36 images of plan .* not all the same"):
        compute_parts(dataset.folder, [2])
    (dataset.folder / "manifest.csv").write_text("no table")
    with pytest.raises(DatasetError, match="cannot be read"):
        compute_parts(dataset.folder, [2])
    (dataset.folder / "manifest.csv").unlink()
    with pytest.raises(DatasetError, match="scanned dataset"):
        compute_parts(dataset.folder, [2])


def test_a_file_of_other_images_is_not_taken_for_the_plan_s(
    dataset: Manifest,
    planned: Planned,  # noqa: F811
) -> None:
    """A manifest that is replaced while it is planned is compared by each worker."""
    rewritten(dataset, path=["elsewhere.png", *dataset.table["path"][1:]])
    planned()
    assert open_plan(dataset).record.manifest is None
    with pytest.raises(StoreError, match="36 images of plan"):
        compute_parts(dataset.folder, [0])


def test_images_in_pieces_have_the_digest_of_all(
    dataset: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unusable images do not count; a path with commas and quotes is one."""
    table = dataset.table.copy()
    table.loc[3, "path"] = 'a, "b"/ü.png'
    table.loc[5, "status"] = manifests.UNREADABLE
    other = replace(dataset, table=table)
    manifests.save(other)
    monkeypatch.setattr(manifests, "_AT_ONCE", 5)
    light = manifests.load_settings(dataset.folder)
    assert has_images(light, images_digest(other), None)
    assert not has_images(light, images_digest(dataset), None)


def test_only_the_masks_of_a_part_are_read(
    masked: Manifest,  # noqa: F811
    no_table: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their paths are in the plan, whatever the column is called."""
    whole = masked.table.rename(columns={"mask": "lungs"})
    other = replace(masked, table=whole)
    manifests.save(other)
    policy = Policy(region=Region("inside", "lungs"))
    networks = backbones.resolve_all(["border"])
    plan_parts(other, networks, parts=3, batch_size=8, policy=policy)
    opened: list[str] = []
    inner = sources.masks.read_bytes
    monkeypatch.setattr(
        sources.masks,
        "read_bytes",
        lambda root, path: opened.append(path) or inner(root, path),
    )
    no_table()
    (part,) = compute_parts(other.folder, [1])
    assert part.rows == 8
    assert sorted(opened) == sorted(whole["lungs"].iloc[8:16])


def test_images_of_a_part_are_in_the_manifest_s_order(dataset: Manifest) -> None:
    """Also where networks lack different rows."""
    table = dataset.table.iloc[list(range(0, 30, 2))]
    extract(replace(dataset, table=table), backbones.resolve_all(["border"]))
    networks = backbones.resolve_all(["border", "metadata"])
    plan_parts(dataset, networks, parts=2, batch_size=3)
    plan = open_plan(dataset)
    number = {one: n for n, one in enumerate(dataset.table["image_id"])}
    for part in range(2):
        numbers = [number[one] for one, *_ in plan.rows(part).images]
        assert numbers == sorted(numbers)
        compute_parts(dataset.folder, [part])
    assert [one.computed for one in publish_parts(dataset)] == [21, 36]


@pytest.mark.parametrize("has_masks", [False, True])
def test_a_plan_of_an_earlier_version_is_computed(
    masked: Manifest,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    has_masks: bool,
) -> None:
    """It names neither the manifest's file nor the masks: the manifest is read."""
    line = part_plan.PartRows.line

    def short(self: part_plan.PartRows) -> bytes:
        return line(replace(self, images=[one[:3] for one in self.images]))

    with monkeypatch.context() as patch:
        patch.setattr(part_plan.PartRows, "line", short)
        patch.setattr(planning, "file_of_images", lambda *_: None)
        policy = INSIDE if has_masks else Policy()
        networks = backbones.resolve_all(["border"])
        plan_parts(masked, networks, parts=2, batch_size=8, policy=policy)
    assert all(len(one) == 4 for one in open_plan(masked).rows(0).images)
    compute_parts(masked.folder, [0, 1])
    (result,) = publish_parts(masked)
    assert (result.rows, result.failures) == (24, [])


def test_missing_parts_are_seen_by_one_listing(
    dataset: Manifest,
    planned: Planned,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing of a part is opened; the publication names one that is damaged."""
    planned()
    assert missing_parts(dataset.folder) == [*range(7)]
    compute_parts(dataset.folder, [1, 2])
    folder = open_plan(dataset).folder / "parts"
    (folder / ".000003.x_y.tmp").mkdir()
    (folder / "000099").mkdir()
    (folder / "000001" / "part.json").write_text("{}")
    with monkeypatch.context() as patch:
        patch.setattr(store, "open_store", None)
        patch.setattr(part_files, "read_record", None)
        assert missing_parts(dataset.folder) == [0, 3, 4, 5, 6]
    heard = Heard()
    with pytest.raises(StoreError, match="0-1,3-6 to be computed"):
        publish_parts(dataset, reporter=heard)
    assert "part 1 cannot be used" in heard.messages[0]
    assert np.shape(compute_parts(dataset.folder, [1])) == (1,)
