"""Whatever `extract` can compute, parts can: masks, int8, taps, files of networks."""

import json
import shutil
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from test_extract_parts import content, twin
from test_regions import mask_of, masked  # noqa: F401 (a fixture)

from featcache import backbones
from featcache.backbones.engines import convert
from featcache.commands.extract import (
    compute_parts,
    extract,
    plan_parts,
    publish_parts,
)
from featcache.core.io import lock
from featcache.dataset.manifest import Manifest
from featcache.dataset.regions import Region
from featcache.dataset.views import Policy
from featcache.errors import StoreError

INSIDE = Policy(region=Region("inside"))
BASELINES = ["pixels48", "border"]


def in_parts(dataset: Manifest, networks: Any, **options: Any) -> list[Any]:
    """The stores of a plan of 4 parts, the last computed first."""
    plan = plan_parts(dataset, networks, parts=4, **options)
    for part in reversed(range(plan.parts)):
        compute_parts(dataset.folder, [part])
    return publish_parts(dataset, max_bad=1)


@pytest.mark.parametrize("views", [0, 2])
def test_regions_of_masks(masked: Manifest, tmp_path: Path, views: int) -> None:  # noqa: F811
    """One image without a mask, one whose mask cannot be read, one that is empty."""
    table = masked.table.copy()
    table.loc[3, "mask"] = ""
    dataset = Manifest(masked.folder, masked.settings, table)
    mask_of(dataset, 4).unlink()
    Image.new("L", (40, 32)).save(mask_of(dataset, 9))
    networks = backbones.resolve_all(BASELINES)
    options = {"policy": INSIDE, "views": views, "batch_size": 4}
    parts = in_parts(twin(dataset, tmp_path), networks, **options)
    whole = extract(dataset, networks, max_bad=1, **options)
    for one, two in zip(whole, parts, strict=True):
        assert one.rows == two.rows == 21 * (views + 1)
        assert one.failures == two.failures
        assert len(one.failures) == 2
        assert content(one.path) == content(two.path)


def test_a_mask_that_changes_after_the_plan(masked: Manifest) -> None:  # noqa: F811
    """Its part is refused with the image's name; one that is lost is a failure."""
    networks = backbones.resolve_all(BASELINES)
    plan = plan_parts(masked, networks, parts=3, batch_size=8, policy=INSIDE)
    Image.new("L", (40, 32)).save(mask_of(masked, 1))
    with pytest.raises(StoreError, match=masked.ok["path"].iloc[1]):
        compute_parts(masked, [0])
    mask_of(masked, 1).unlink()
    (part,) = compute_parts(masked, [0])
    ((path, reason),) = part.failures
    assert (path, "cannot be read" in reason) == (masked.ok["path"].iloc[1], True)
    compute_parts(masked, range(1, plan.parts))
    assert [store.rows for store in publish_parts(masked)] == [23, 23]


def layer_names(network: Path) -> list[str]:
    """Keras numbers the layers of a process."""
    with zipfile.ZipFile(network) as archive:
        layers = json.loads(archive.read("config.json"))["config"]["layers"]
    return [layer["config"]["name"] for layer in layers]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_network_with_taps_and_poolings(
    dataset: Manifest,
    toy_network: Path,
    tmp_path: Path,
    precision: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Converted and quantised when it is planned; parts take no lock for it."""
    networks = backbones.resolve_all([str(toy_network)])
    (tap, *_) = [n for n in layer_names(toy_network) if n.startswith("conv2d")]
    options = {
        "precision": precision, "taps": tap, "tap_pooling": "avg+grid2",
        "pooling": "avg+max", "views": 1, "batch_size": 8, "engine": "openvino",
    }  # fmt: skip
    whole = extract(dataset, networks, **options)
    other = twin(dataset, tmp_path)
    shutil.copytree(
        dataset.folder.parent / "openvino", other.folder.parent / "openvino"
    )
    plan = plan_parts(other, networks, parts=3, **options)

    @contextmanager
    def no_lock(path: Path, *arguments: Any, **words: Any) -> Any:
        assert path.parent.name != "openvino"
        with lock(path, *arguments, **words):
            yield

    with monkeypatch.context() as patch:
        patch.setattr(convert, "lock", no_lock)
        for part in (2, 0, 1):
            compute_parts(other, [part])
    assert plan.parts == 3
    (parts,) = publish_parts(other)
    assert content(whole[0].path) == content(parts.path)


@pytest.mark.slow
def test_a_worker_that_lacks_the_quantised_network(
    dataset: Manifest, toy_network: Path
) -> None:
    """It is quantised again on the plan's images, and is the same or refused."""
    networks = backbones.resolve_all([str(toy_network)])
    plan_parts(dataset, networks, parts=2, precision="int8", batch_size=8)
    for path in (dataset.folder.parent / "openvino").glob("*.xml"):
        path.unlink()
    assert compute_parts(dataset.folder, [0, 1])[0].rows
    (result,) = publish_parts(dataset)
    assert (result.rows, result.engine) == (36, "openvino")
