"""Extraction in parts: no lock, no agreement, and the rows of an undivided call."""

import random
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from toys import Heard, picture, slow_but

from featcache import backbones
from featcache.commands.extract import (
    PlanResult,
    compute_parts,
    extract,
    measure,
    part_files,
    plan_parts,
    publish_parts,
)
from featcache.commands.extract.part_files import read_part
from featcache.commands.extract.part_plan import open_plan
from featcache.commands.extract.publishing import array_of
from featcache.commands.scan import scan
from featcache.core import checked
from featcache.dataset import manifest
from featcache.dataset.manifest import Manifest
from featcache.dataset.regions import Region
from featcache.dataset.views import Policy
from featcache.errors import (
    ContractError,
    StoreError,
    UsageError,
)

Planned = Callable[..., PlanResult]


@pytest.fixture
def planned(dataset: Manifest) -> Planned:
    """Plans 36 images of one baseline in batches of 4, by default in 7 parts."""

    def call(dataset: Manifest = dataset, **options: Any) -> PlanResult:
        names = options.pop("names", ["border"])
        size = {} if "part_rows" in options else {"parts": 7}
        options = {"batch_size": 4} | size | options
        return plan_parts(dataset, backbones.resolve_all(names), **options)

    return call


def content(path: Path) -> dict[str, bytes]:
    """Every dataset of a store, and what its header says of the rows."""
    with h5py.File(path) as file:
        names: list[str] = []
        file.visititems(
            lambda name, item: names.append(name) if hasattr(item, "shape") else None
        )
        arrays = {name: np.asarray(file[name][:]) for name in names}
        about = {name: file.attrs[name] for name in ("contract", "policies", "notes")}
    return {name: repr(values.tolist()).encode() for name, values in arrays.items()} | {
        name: str(text).encode() for name, text in about.items()
    }


def twin(dataset: Manifest, tmp_path: Path) -> Manifest:
    """The same dataset in another cache."""
    other = replace(dataset, folder=tmp_path / "twin" / dataset.dataset)
    manifest.save(other)
    return other


@pytest.mark.parametrize(
    "options",
    slow_but(
        [
            {"views": 2},
            {"policy": Policy(region=Region("ring")), "views": 1},
            {"dtype": "float16"},
            {"part_rows": 9},
        ],
        {"part_rows": 9},
    ),
)
def test_parts_give_the_store_of_an_undivided_call(
    dataset: Manifest, planned: Planned, tmp_path: Path, options: dict[str, Any]
) -> None:
    """Parts in random order, two of them twice: the same datasets, byte for byte."""
    other = twin(dataset, tmp_path)
    plan = planned(other, names=["border", "metadata"], **options)
    order = [*range(plan.parts), 2, 1]
    random.Random(3).shuffle(order)
    for part in order:
        compute_parts(other.folder, [part])
    parts = publish_parts(other)
    options.pop("part_rows", None)
    networks = backbones.resolve_all(["border", "metadata"])
    whole = extract(dataset, networks, batch_size=4, **options)
    assert [one.computed for one in parts] == [one.computed for one in whole]
    for one, two in zip(whole, parts, strict=True):
        assert content(one.path) == content(two.path)
    assert not (other.folder / "plans").exists()


def test_parts_of_a_network_with_measured_statistics(
    dataset: Manifest,
    toy_network: Path,
    planned: Planned,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a contract measures is fixed in the plan, and no part measures it again."""
    networks = [backbones.resolve(str(toy_network), preprocess="featurewise")]
    whole = extract(dataset, networks, batch_size=8, engine="tensorflow")[0]
    other = twin(dataset, tmp_path)
    options = {"batch_size": 8, "engine": "tensorflow"}
    plan_parts(other, networks, parts=3, **options)
    monkeypatch.setattr(measure, "statistics", None)
    compute_parts(other.folder, [2, 0, 1])
    assert content(publish_parts(other)[0].path) == content(whole.path)


def test_parts_are_whole_batches_of_equal_size(planned: Planned) -> None:
    """9 batches of 4 rows in 7 parts are 2 parts of two batches and 5 of one."""
    assert planned().parts == 7
    assert planned(parts=100).parts == 9
    assert planned(part_rows=9).parts == 5
    assert planned(part_rows=1).parts == 9


def test_the_same_call_makes_the_same_plan(
    dataset: Manifest, planned: Planned, tmp_path: Path
) -> None:
    """A plan is named by its content, wherever it is made; finished parts stay."""
    plan = planned()
    compute_parts(dataset, [4])
    assert planned() == replace(plan, done=1)
    assert planned(twin(dataset, tmp_path)).plan == plan.plan
    assert planned(parts=3).plan != plan.plan


def test_only_what_is_missing_is_planned(
    dataset: Manifest, planned: Planned, image_folder: Path
) -> None:
    """Two new images are one part; where nothing is missing there is no plan."""
    extract(dataset, backbones.resolve_all(["border"]))
    assert planned() == PlanResult("", None, 36, {}, 0, 0)
    for number in range(2):
        picture(900 + number, 70).save(image_folder / "COVID" / f"new{number}.png")
    grown = scan(image_folder, dataset.folder.parent).manifest
    assert [*planned(grown).rows.values()] == [2]
    compute_parts(grown, [0])
    assert publish_parts(grown)[0].rows == 38


def test_missing_parts_are_listed_as_an_array(
    dataset: Manifest, planned: Planned
) -> None:
    """Nothing is published before all parts are there."""
    planned(parts=9)
    compute_parts(dataset, [0, 1, 2, 4, 5])
    with pytest.raises(StoreError, match="--array=3,6-8,"):
        publish_parts(dataset)
    assert not [*(dataset.folder / "features").glob("*.h5")]
    assert array_of([3, 17, 18, 19]) == "3,17-19"


def test_a_part_that_is_there_is_not_computed_again(
    dataset: Manifest, planned: Planned
) -> None:
    """The second call of a part says so and writes nothing."""
    planned()
    (part,) = compute_parts(dataset, [3])
    before = (part.path / "part.json").read_bytes()
    heard = Heard()
    assert compute_parts(dataset, [3], reporter=heard) == []
    assert "part 3 of plan" in heard.messages[0]
    assert (part.path / "part.json").read_bytes() == before


def test_of_two_calls_for_one_part_the_first_counts(
    dataset: Manifest, planned: Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part that another call has finished meanwhile is not written over."""
    planned()
    plan = open_plan(dataset)
    inner = part_files.install

    def beaten(plan: Any, number: int, temp: Path) -> bool:
        first = temp.with_name(".first")
        shutil.copytree(temp, first)
        assert inner(plan, number, first)
        marks.append((plan.part_folder(number) / "part.json").stat().st_ino)
        return inner(plan, number, temp)

    marks: list[int] = []
    monkeypatch.setattr("featcache.commands.extract.computing.install", beaten)
    heard = Heard()
    compute_parts(dataset, [0], reporter=heard)
    assert "by another call meanwhile" in heard.messages[0]
    assert (plan.part_folder(0) / "part.json").stat().st_ino == marks[0]
    assert [path.name for path in (plan.folder / "parts").iterdir()] == ["000000"]


@pytest.mark.slow
def test_many_calls_at_once(dataset: Manifest, planned: Planned) -> None:
    """Four threads that all compute all parts leave each part once."""
    planned()
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda _: compute_parts(dataset, range(7)), range(4)))
    plan = open_plan(dataset)
    assert len([*(plan.folder / "parts").iterdir()]) == 7
    assert publish_parts(dataset)[0].rows == 36


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def change_record(folder: Path, **fields: Any) -> None:
    record = checked.read_record(folder / "part.json")
    checked.write_record(folder / "part.json", record | fields)


SPOILED: dict[str, Callable[[Path], object]] = {
    "cut short": lambda folder: damage(next(folder.glob("*.h5"))),
    "no rows": lambda folder: next(folder.glob("*.h5")).unlink(),
    "no record": lambda folder: (folder / "part.json").unlink(),
    "edited record": lambda folder: (folder / "part.json").write_text("{}"),
    "another plan": lambda folder: change_record(folder, plan_id="0" * 64),
    "another part": lambda folder: change_record(folder, part=1),
    "rows called failed": lambda folder: change_record(
        folder, failures={"COVID/p000_COVID (1).png": "unreadable"}
    ),
}


@pytest.mark.parametrize("spoil", SPOILED)
def test_a_part_that_is_not_as_planned_is_computed_again(
    dataset: Manifest, planned: Planned, spoil: str
) -> None:
    """It is listed as missing with its reason, and replaced by the next call."""
    planned()
    compute_parts(dataset, range(7))
    plan, heard = open_plan(dataset), Heard()
    SPOILED[spoil](plan.part_folder(0))
    with pytest.raises(StoreError, match="--array=0,"):
        publish_parts(dataset, reporter=heard)
    compute_parts(dataset, range(7))
    read_part(plan, 0)
    assert publish_parts(dataset)[0].rows == 36


def test_a_part_of_another_plan_is_refused(dataset: Manifest, planned: Planned) -> None:
    """A folder moved from one plan to another is not taken for that one's."""
    one, two = planned(), planned(parts=3)
    compute_parts(dataset, [0], plan=one.plan)
    assert one.path
    assert two.path
    shutil.copytree(one.path / "parts", two.path / "parts")
    heard = Heard()
    with pytest.raises(StoreError, match="0-2 to be computed"):
        publish_parts(dataset, plan=two.plan, reporter=heard)
    assert f"a part of plan {one.plan}" in heard.messages[0]


def test_of_several_plans_one_is_named(dataset: Manifest, planned: Planned) -> None:
    """Without a name the only plan is meant; of several, none."""
    with pytest.raises(StoreError, match="expected a plan of parts; got none"):
        publish_parts(dataset)
    one, two = planned(), planned(parts=3)
    with pytest.raises(StoreError, match=f"{one.plan}|{two.plan}"):
        compute_parts(dataset, [0])
    assert compute_parts(dataset, [0], plan=two.plan[:5])[0].plan == two.plan


def test_other_images_are_refused_but_other_labels_are_not(
    dataset: Manifest, planned: Planned, image_folder: Path
) -> None:
    """A plan is of the images it was made of, whatever their labels; parts are kept."""
    planned()
    table = dataset.table.assign(label="x")
    assert compute_parts(replace(dataset, table=table), [0])
    picture(999, 50).save(image_folder / "COVID" / "new.png")
    grown = scan(image_folder, dataset.folder.parent).manifest
    with pytest.raises(StoreError, match=r"36 images of plan .* got 37 images"):
        compute_parts(grown, [1])
    heard = Heard()
    assert publish_parts(grown, reporter=heard)[0].rows == 4
    assert heard.messages[0].startswith("parts 1-6 of plan")
    assert planned(grown).rows == {next(iter(planned(grown).rows)): 33}


def test_a_plan_of_other_images_without_any_part_is_refused(
    dataset: Manifest, planned: Planned, image_folder: Path
) -> None:
    """There is nothing to publish: the way out is named."""
    planned()
    picture(999, 50).save(image_folder / "COVID" / "new.png")
    grown = scan(image_folder, dataset.folder.parent).manifest
    with pytest.raises(StoreError, match=r"got none\. Make a new plan"):
        publish_parts(grown)
    assert list((dataset.folder / "plans").iterdir())


def test_another_network_is_refused(
    dataset: Manifest, toy_network: Path, tmp_path: Path
) -> None:
    """A network file that was replaced after the plan is not run."""
    file = tmp_path / "toynet.keras"
    shutil.copy(toy_network, file)
    shutil.copy(toy_network.with_suffix(".json"), file.with_suffix(".json"))
    network = backbones.resolve(str(file))
    plan_parts(dataset, [network], parts=2, batch_size=8, engine="tensorflow")
    file.with_suffix(".json").write_text('{"preprocess": "caffe", "input_size": 32}')
    with pytest.raises((ContractError, UsageError), match="preprocess"):
        compute_parts(dataset, [0])


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_other_libraries_prove_themselves_on_the_plan_s_rows(
    dataset: Manifest, planned: Planned, monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    """Other versions are said; where their numbers differ, nothing is computed."""
    from featcache.backbones.engines.numpy import NumpyEngine

    planned()
    compute_parts(dataset, [0])
    run, heard = NumpyEngine.run, Heard()
    monkeypatch.setattr(
        NumpyEngine,
        "run",
        lambda self, batches: run(self, (b * factor for b in batches)),
    )
    monkeypatch.setattr(
        "featcache.commands.extract.work.versions", lambda: {"featcache": "9"}
    )
    if factor != 1:
        with pytest.raises(StoreError, match=r"featcache .* before, 9 now"):
            compute_parts(dataset, [1])
        return
    compute_parts(dataset, range(1, 7), reporter=heard)
    assert "this machine computes by other libraries" in heard.messages[0]
    publish_parts(dataset, reporter=heard)
    assert "other versions of featcache" in heard.messages[-1]
