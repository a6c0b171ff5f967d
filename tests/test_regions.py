"""Regions: a part of the picture by itself, as a control; never mixed, never stale."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from toys import Heard, picture, slow_but, train_flat

import featcache
from featcache import backbones
from featcache.commands import cache
from featcache.commands.explain import explain
from featcache.commands.extract import StoreResult, extract
from featcache.commands.scan import scan
from featcache.core.io import canonical_json
from featcache.dataset import images, phantom, views
from featcache.dataset.manifest import Manifest
from featcache.dataset.regions import KINDS, Region
from featcache.dataset.views import Policy
from featcache.errors import (
    DatasetError,
    RunError,
    StoreError,
    UnreadableImageError,
    UsageError,
)
from featcache.evaluation import runs
from featcache.features import store

NAMES = ("COVID", "NORMAL")


def half(width: int, height: int) -> Image.Image:
    """A mask that shows the left half."""
    pixels = np.zeros((height, width), np.uint8)
    pixels[:, : width // 2] = 255
    return Image.fromarray(pixels)


@pytest.fixture
def masked(tmp_path: Path) -> Manifest:
    """Two classes of 12 images of 40x32, two a patient, all with masks."""
    root = tmp_path / "chest"
    for label, name in enumerate(NAMES):
        for kind in ("images", "masks"):
            (root / name / kind).mkdir(parents=True)
        for i in range(12):
            file = f"p{label}{i // 2:02d}_{i}.png"
            picture(100 * label + i, 60 + 90 * label).save(
                root / name / "images" / file
            )
            half(40, 32).save(root / name / "masks" / file)
    return scan(root, tmp_path / "cache", group_by=r"(p\d{3})_").manifest


def mask_of(dataset: Manifest, row: int) -> Path:
    """The file of an image's mask."""
    return dataset.root / str(dataset.ok["mask"].iloc[row])


def fill(dataset: Manifest, kind: str = "whole", **options: Any) -> StoreResult:
    """The store of pixels48, which needs no network, with renderings of a region."""
    policy = Policy(region=Region(kind), **options.pop("recipe", {}))
    networks = backbones.resolve_all(["pixels48"])
    (result,) = extract(dataset, networks, policy=policy, **options)
    return result


def train(dataset: Manifest, reports: Path, **options: Any) -> runs.Run:
    """A logreg on pixels48, without tuning."""
    options = {"backbones": ["pixels48"], "heads": ["logreg"], "folds": 3} | options
    (run,) = train_flat(dataset, reports, tune=False, jobs=1, **options).runs
    return run


def rows(path: Path, kind: str) -> np.ndarray:
    """The plain renderings of a region in a store, (N, 48, 48), unordered."""
    found = store.open_store(path)
    region = Region(kind).to_dict()
    number = found.header.policies.index(region) if region else store.NO_POLICY
    return found.features()[found.keys["policy"] == number].reshape(-1, 48, 48)


def test_policies_of_whole_pictures_are_as_ever() -> None:
    """Neither their record nor, with it, their draws know of regions."""
    told = '{"brightness":[0.8,1.25],"flip":true,"seed":0,"zoom":[1.0,1.2]}'
    assert canonical_json(Policy().to_dict()) == told
    assert Policy(region=Region("whole", "lesion")) == Policy()


@pytest.mark.parametrize("kind", KINDS)
def test_a_region_comes_back_from_its_record(kind: str) -> None:
    """Kind and column are kept; a column that is not needed is not."""
    region = Region(kind, "lesion")
    assert Region.of(region.to_dict() | {"flip": True}) == region
    assert bool(region.mask) == (kind in ("inside", "outside"))


def test_no_such_region() -> None:
    """A wrong word is refused with those that there are."""
    with pytest.raises(UsageError, match="inside, outside, ring"):
        Region("lungs")


@pytest.mark.parametrize("kind", ["whole", "ring"])
def test_a_mask_of_no_region_is_refused(kind: str) -> None:
    """It would be ignored; the default column and none are no wish."""
    for mask in ("mask", ""):
        assert Region.of_options(kind, mask) == Region(kind)
    with pytest.raises(UsageError, match="inside or outside with `mask='lesion'`"):
        Region.of_options(kind, "lesion")


def test_inside_and_outside_are_the_picture() -> None:
    """Each pixel is in one of the two, and black in the other."""
    image = picture(1, 100)
    mask = np.asarray(half(*image.size)) > 0
    inside, outside = (
        np.asarray(views.apply_region(image, Region(kind), mask), int)
        for kind in ("inside", "outside")
    )
    assert np.array_equal(inside + outside, np.asarray(image))
    assert not inside[~mask].any()
    assert not outside[mask].any()


def test_a_ring_is_a_twelfth_of_each_side() -> None:
    """Of 24x12 pixels two columns and one row a side are left."""
    white = Image.new("RGB", (24, 12), "white")
    ring = np.asarray(views.apply_region(white, Region("ring")))[:, :, 0] > 0
    assert ring.sum() == 24 * 12 - 20 * 10
    assert not ring[1:-1, 2:-2].any()


def test_a_mask_is_fitted_to_its_picture() -> None:
    """Another size is resized to the nearest pixel; proportions may be 2 % apart."""
    image = Image.new("L", (40, 32))

    def read(width: int, height: int) -> np.ndarray:
        half(width, height).save(file := io.BytesIO(), "PNG")
        return images.read_mask(file.getvalue(), image)

    assert np.array_equal(read(80, 64), np.asarray(half(40, 32)) > 127)
    assert read(79, 64).shape == (32, 40)
    with pytest.raises(UnreadableImageError, match="proportions"):
        read(64, 64)


def test_regions_are_computed_once_beside_whole_pictures(masked: Manifest) -> None:
    """24 rows for each; a call for what is there computes nothing."""
    path = fill(masked).path
    for kind in ("inside", "outside", "ring"):
        assert [fill(masked, kind).computed for _ in range(2)] == [24, 0]
    assert len(store.open_store(path).keys) == 4 * 24
    assert not rows(path, "inside")[:, :, 25:].any()
    assert not rows(path, "outside")[:, :, :23].any()
    assert not rows(path, "ring")[:, 5:-5, 5:-5].any()
    assert not cache.verify([path])[0].fault


def test_readers_of_whole_pictures_never_meet_a_region(masked: Manifest) -> None:
    """View 0 is the whole picture; views of a region are no views of it."""
    path = fill(masked, views=1).path
    before = featcache.load(path, views=1)
    fill(masked, "inside", views=2)
    after = featcache.load(path, views=1)
    assert np.array_equal(before.X, after.X)
    assert len(featcache.load(path).X) == 24
    found = store.open_store(path)
    assert (found.keys["view"] == 0).sum() == 24
    (entry,) = cache.ls(masked.folder.parent, Path("reports"))
    assert (entry.views, entry.regions) == (1, [":inside"])
    with pytest.raises(UsageError, match="`region` whole; got one of inside"):
        featcache.load(path, views=1, policy=Policy(region=Region("inside")))


def test_another_mask_is_another_row(masked: Manifest, tmp_path: Path) -> None:
    """A mask that changes costs its image alone, and the old row is never read."""
    path = fill(masked, "inside").path
    before = train(masked, tmp_path, region="inside")
    pixels = np.asarray(half(40, 32))[:, ::-1]
    Image.fromarray(pixels).save(mask_of(masked, 3))
    with pytest.raises(StoreError, match=r"for 1 of them.*--region inside"):
        train(masked, tmp_path, region="inside")
    assert fill(masked, "inside").computed == 1
    assert len(rows(path, "inside")) == 25
    again = train(masked, tmp_path, region="inside")
    assert again.run_id != before.run_id
    (removal,) = cache.prune(masked.folder.parent, tmp_path, yes=True).removals
    assert "1 row made with masks that have since changed" in removal.what
    assert len(rows(path, "inside")) == 24


def test_an_image_without_a_mask_gets_no_row(masked: Manifest, tmp_path: Path) -> None:
    """It is told and counted; heads are trained on the others when told so."""
    mask_of(masked, 0).unlink()
    dataset = scan(masked.root, masked.folder.parent).manifest
    said: list[str] = []
    assert fill(dataset, "outside", reporter=Heard(said)).computed == 23
    assert "1 of 24 images have no mask" in said[0]
    with pytest.raises(DatasetError, match="`exclude='mask='`"):
        train(dataset, tmp_path, region="outside")
    run = train(dataset, tmp_path, region="outside", exclude=["mask="])
    assert len(run.table) == 23


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (Image.new("L", (40, 32)), "it is empty"),
        (Image.new("L", (40, 32), 255), "it is full"),
        (Image.new("L", (40, 40), 255), "proportions of the image"),
        (None, "cannot be read"),
        ("text", "none of"),
    ],
)
def test_a_mask_of_no_use_is_a_failure_with_its_reason(
    masked: Manifest, mask: Image.Image | str | None, reason: str
) -> None:
    """Never the whole picture in its place."""
    path = mask_of(masked, 5)
    if isinstance(mask, Image.Image):
        mask.save(path)
    elif mask:
        path.write_text(mask)
    else:
        path.unlink()
    result = fill(masked, "inside", max_bad=1)
    ((name, told),) = result.failures
    assert (result.computed, name) == (23, masked.ok["path"].iloc[5])
    assert reason in told
    with pytest.raises(DatasetError, match=reason):
        fill(masked, "inside", max_bad=0)


def test_a_dataset_without_masks(dataset: Manifest) -> None:
    """Refused before anything is computed; a ring needs none."""
    with pytest.raises(DatasetError, match="column mask"):
        fill(dataset, "inside")
    assert fill(dataset, "ring").computed == 36


def test_a_run_on_a_region_is_a_control(masked: Manifest, tmp_path: Path) -> None:
    """Its record says so, its name too, and it cannot be explained."""
    fill(masked)
    whole = train(masked, tmp_path)
    fill(masked, "inside", views=1)
    run = train(masked, tmp_path, region="inside")
    assert (run.record.backbone, run.record.views) == ("pixels48:inside", 1)
    assert run.run_id.startswith("logreg-pixels48-inside-")
    (block,) = run.record.features
    assert (block.region, block.mask) == ("inside", "mask")
    assert run.record.evaluation_id == whole.record.evaluation_id
    assert whole.record.features[0].region is None
    with pytest.raises(RunError, match="a control on region inside"):
        explain(masked, run)
    kept = cache.prune(masked.folder.parent, tmp_path, policies=True).removals
    assert kept == []


def test_all_are_the_stores_that_have_the_region(
    masked: Manifest, tmp_path: Path
) -> None:
    """`-b all` leaves out stores of whole pictures; a named one is an error."""
    fill(masked, "ring")
    extract(masked, backbones.resolve_all(["border"]))
    assert train(masked, tmp_path, backbones=["all"], region="ring")
    with pytest.raises(StoreError, match="-b border --views 0 --region ring"):
        train(masked, tmp_path, backbones=["border"], region="ring")
    networks = backbones.resolve_all(["border"])
    extract(masked, networks, policy=Policy(region=Region("ring")))
    both = train(masked, tmp_path, backbones=["pixels48+border"], region="ring")
    assert both.record.backbone == "border+pixels48:ring"


def test_all_leaves_out_stores_of_regions_alone(
    masked: Manifest, tmp_path: Path
) -> None:
    """For whole pictures, a store with rows of the ring only is none of them."""
    of_ring, whole = (backbones.resolve_all([name]) for name in ("border", "pixels48"))
    extract(masked, of_ring, policy=Policy(region=Region("ring")))
    extract(masked, whole)
    run = train(masked, tmp_path, backbones=["all"])
    assert run.record.backbone == "pixels48"


@pytest.mark.slow
@pytest.mark.parametrize("shortcut", slow_but([True, False], True))
def test_the_audit_tells_markers_from_lungs(
    tmp_path: Path, run: Callable[..., tuple[int, str, str]], shortcut: bool
) -> None:
    """What is outside the lungs gives the class away with markers, and only so."""
    from featcache.core.tf import tensorflow

    tensorflow()
    import keras

    pixels = keras.Input((96, 96, 3))
    cells = keras.layers.AveragePooling2D(6)(pixels)
    # The mean of each cell is a feature of its own: this network knows where.
    apart = keras.layers.Reshape((1, 1, 768))(cells)
    keras.Model(pixels, apart).save(tmp_path / "cells.keras")
    table = phantom.write(tmp_path / "xrays", 180, size=96, shortcut=shortcut)
    scan(table, tmp_path / "cache", group_by="patient")
    options = ("--preprocess", "tf", "--input-size", 96)
    for kind in KINDS:
        made = run("extract", "-b", "cells.keras", *options, "--region", kind)
        assert made[0] == 0, made[2]
        assert run("train-head", "-H", "logreg", "--no-tune", "--region", kind)[0] == 0
    said = {row["code"]: row for row in json.loads(run("audit", "--json")[1])}
    fires = [said[code]["status"] == "finding" for code in ("FC023", "FC025")]
    assert fires == [shortcut, shortcut]
    board = json.loads(run("compare", "--json")[1])
    below = {row["backbone"]: row["is_baseline"] for row in board}
    assert below == {"cells": False} | {f"cells:{kind}": True for kind in KINDS[1:]}
