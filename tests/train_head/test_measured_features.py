"""Features scaled or quantised by images of a split's test set are not trained on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toys import Heard, header, make_dataset, train_flat, write_store

from featcache import backbones, features
from featcache.commands.extract import extract
from featcache.commands.scan import scan
from featcache.commands.train_head import TrainResult
from featcache.dataset.manifest import Manifest
from featcache.dataset.splits import TEST, SplitOptions
from featcache.dataset.views import Policy
from featcache.errors import StoreError

Train = Callable[..., TrainResult]


@pytest.fixture
def dataset(tmp_path: Path) -> Manifest:
    """90 images of 45 patients, without features."""
    return make_dataset(tmp_path)


def calibrated(dataset: Manifest, **options: Any) -> None:
    """Stores int8 features, calibrated outside the test set of a split."""
    fold_of = features.draw_split(dataset, SplitOptions(**options)).fold_of
    ids = sorted(i for i, fold in fold_of.items() if fold != TEST)
    about = header(precision="int8", quantised="0" * 64)
    write_store(dataset, replace(about, notes={"calibration": ids}))


LEAKING = [{"seed": 0}, {"seed": 5, "test_size": 0.4}, {"test_where": "ward=w3"}]


@pytest.mark.parametrize("options", LEAKING)
def test_int8_calibrated_on_test_images_is_refused(
    options: dict[str, Any], dataset: Manifest, train: Train, tmp_path: Path
) -> None:
    """Of another seed or size, or where a site is held out; nothing is trained."""
    calibrated(dataset, seed=5)
    with pytest.raises(StoreError, match="calibrated on") as caught:
        train(**options)
    (path,) = dataset.folder.glob("features/*.h5")
    assert path.name in str(caught.value)
    assert "`seed`" in str(caught.value)
    assert not list(tmp_path.rglob("run.json"))


@pytest.mark.parametrize("names", [["all"], ["toy"]])
def test_what_leaks_is_left_out_of_several(
    names: list[str], dataset: Manifest, train: Train
) -> None:
    """Float32 features beside it are trained on; each store left out is named."""
    calibrated(dataset, seed=5)
    (leaking,) = dataset.folder.glob("features/*.h5")
    sound = write_store(dataset, header())
    heard = Heard()
    runs = train(backbones=names, heads=["majority"], reporter=heard).runs
    assert {run.record.features[0].store for run in runs} == {sound.name}
    (line,) = [text for text in heard.messages if "calibrated on" in text]
    assert leaking.name in line


@pytest.mark.parametrize("further", [[], ["all"]])
def test_what_is_named_exactly_is_refused(
    further: list[str], dataset: Manifest, train: Train
) -> None:
    """By its file's name, or in a combination, whatever else is asked for."""
    calibrated(dataset, seed=5)
    (leaking,) = dataset.folder.glob("features/*.h5")
    write_store(dataset, header("other"))
    for name in (leaking.stem, "toy", "toy+other"):
        with pytest.raises(StoreError, match=f"{leaking.name} were calibrated on"):
            train(backbones=[name, *further])


@pytest.mark.parametrize(
    "options", [{}, {"repeats": 2}, {"test_size": 0.0}, {"split": "mine"}]
)
def test_int8_calibrated_on_training_images_is_trained_on(
    options: dict[str, Any], dataset: Manifest, train: Train
) -> None:
    """On its own split, under any name, and where nothing is held out."""
    calibrated(dataset)
    assert train(**options).runs[0].record.features[0].precision == "int8"


def test_a_patient_of_the_test_set_counts(dataset: Manifest, train: Train) -> None:
    """An image that is left out is in no test set, but another of its patient is."""
    test_set = features.draw_split(dataset).fold_of
    patients = dataset.ok.loc[dataset.ok["image_id"].map(test_set) == TEST, "patient"]
    rows = dataset.table["patient"] == patients.iloc[0]
    first, second = dataset.table.index[rows]
    dataset.table["left_out"] = "0"
    dataset.table.loc[first, "left_out"] = "1"
    dataset.table["site"] = "A"
    dataset.table.loc[second, "site"] = "B"
    about = header(precision="int8", quantised="0" * 64)
    notes = {"calibration": [dataset.table.loc[first, "image_id"]]}
    write_store(dataset, replace(about, notes=notes))
    with pytest.raises(StoreError, match="calibrated on 1 image "):
        train(exclude=["left_out"], test_where="site=B")


def test_a_store_that_does_not_say_is_read(dataset: Manifest, train: Train) -> None:
    """Its images cannot be known."""
    write_store(dataset, header(precision="int8", quantised="0" * 64))
    assert train(seed=5).runs


def test_statistics_of_another_split_are_refused(
    dataset: Manifest, train: Train
) -> None:
    """The split is named."""
    name = features.draw_split(dataset, SplitOptions(seed=5)).name
    statistics = {"split": name, "mean": [1.0] * 3, "std": [1.0] * 3}
    write_store(dataset, header(preprocess="featurewise", statistics=statistics))
    assert train(seed=5).runs
    with pytest.raises(StoreError, match=f"standardised on .* of split {name}"):
        train()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preprocess", "precision"), [("featurewise", "float32"), ("imagenet", "int8")]
)
def test_extracted_with_the_seed_of_the_split_they_are_trained_on(
    preprocess: str,
    precision: str,
    image_folder: Path,
    toy_network: Path,
    tmp_path: Path,
) -> None:
    """The way out that the error names; each seed has a store that is filled again."""
    made = scan(image_folder, tmp_path / "other", group_by=r"(p\d{3})_").manifest
    network = backbones.resolve(str(toy_network), preprocess=preprocess)

    def extracted(seed: int) -> Path:
        words = {"policy": Policy(seed=seed), "precision": precision}
        return extract(made, [network], **words)[0].path

    first = extracted(5)
    words: dict[str, Any] = {"heads": ["majority"], "jobs": 1, "seed": 0}
    with pytest.raises(StoreError, match="of split"):
        train_flat(made, tmp_path / "r", **words)
    second = extracted(0)
    assert train_flat(made, tmp_path / "r", **words).runs
    assert [extracted(0), extracted(5)] == [second, first]
