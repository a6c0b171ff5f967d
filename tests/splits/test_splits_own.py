"""Splits around the test set of a source, a val that is kept, a site held out."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toys import Heard, header, make_dataset, train_flat, write_store

from featcache import features
from featcache.dataset import manifest
from featcache.dataset.manifest import Manifest
from featcache.dataset.narrowing import narrow, straddling
from featcache.dataset.splits import TEST, SplitOptions
from featcache.errors import DatasetError, SplitError, UsageError
from featcache.evaluation import fitting, runs


@pytest.fixture
def dataset(tmp_path: Path) -> Manifest:
    """90 images of 45 patients with a split of their own; 6 patients cross it."""
    made = make_dataset(tmp_path)
    part = np.array(["train"] * 60 + ["val"] * 12 + ["test"] * 18)
    crossing = range(0, 12, 2)  # one of the two images of patients 0 to 5
    part[[*crossing]] = "test"
    made.table["split"] = part
    settings = manifest.Settings("/x", "/x", "patient", split_by="folder")
    made = Manifest(made.folder, settings, made.table)
    manifest.save(made)
    write_store(made, header())
    return manifest.load(made.folder)


def test_the_test_set_is_the_sources_own(dataset: Manifest) -> None:
    """Test images are TEST, all others (val too) are in folds; the file says so."""
    split = features.draw_split(narrow(dataset))
    own = set(dataset.table.loc[dataset.table["split"] == "test", "image_id"])
    assert {i for i, fold in split.fold_of.items() if fold == TEST} == own
    assert split.name == "patient-k5-test-by-folder-seed0"
    val = dataset.table.loc[dataset.table["split"] == "val", "image_id"]
    assert all(split.fold_of[i] >= 0 for i in val)
    again = features.draw_split(narrow(dataset))
    assert again == split
    other = features.draw_split(narrow(dataset), repeat=1)
    assert {i for i, fold in other.fold_of.items() if fold == TEST} == own


def test_without_a_part_test_it_is_val(dataset: Manifest) -> None:
    """What the source holds out is held out."""
    dataset.table["split"] = dataset.table["split"].replace("test", "train")
    val = set(dataset.table.loc[dataset.table["split"] == "val", "image_id"])
    split = features.draw_split(narrow(dataset))
    assert {i for i, fold in split.fold_of.items() if fold == TEST} == val


def test_groups_on_both_sides_are_left_out_of_training(dataset: Manifest) -> None:
    """Their test images stay; their other images are in no fold."""
    assert dataset.crossing["group"].tolist() == [f"p{i}" for i in range(6)]
    narrowed = narrow(dataset)
    assert len(dataset.ok) - len(narrowed.ok) == 6
    assert set(narrowed.ok.query("split == 'test'")["image_id"]) == dataset.own_test
    with pytest.raises(SplitError, match="every group in one part"):
        features.draw_split(dataset)


@pytest.mark.parametrize("options", [{}, {"split": "mine"}, {"group_by": "image"}])
def test_no_test_image_is_trained_on(
    dataset: Manifest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, str],
) -> None:
    """Whatever the split is called: no fit sees a test image, or one of its group."""
    own, fitted = dataset.own_test or set(), []
    group = "image_id" if "group_by" in options else "group"
    tested = set(dataset.table.loc[dataset.table["image_id"].isin(own), group])
    real = fitting.fit_predict

    def spy(head: object, X: np.ndarray, **words: object) -> object:
        fitted.append(set(np.asarray(words["groups"])[np.asarray(words["train"])]))
        return real(head, X, **words)

    monkeypatch.setattr(fitting, "fit_predict", spy)
    result = train_flat(
        dataset, tmp_path / "r", heads=["logreg"], jobs=1, tune=False, **options
    )
    assert len(fitted) == 6
    assert not tested & set.union(*fitted)
    table = result.runs[0].table
    assert set(table.loc[table["split"] == "test", "image_id"]) == own
    assert result.runs[0].record.split.split_by == "folder"


def test_training_says_which_split_is_kept(dataset: Manifest) -> None:
    """`split_by` of a split wins over that of the scan, and "none" draws one."""
    drawn = manifest.Settings("/x", "/x", "patient")
    plain = Manifest(dataset.folder, drawn, dataset.table)
    kept = SplitOptions(split_by="split").narrow(plain)
    assert kept.own_test == dataset.own_test
    assert SplitOptions().narrow(plain).own_test is None
    assert SplitOptions(split_by="none").narrow(dataset).own_test is None
    split = features.draw_split(kept, SplitOptions(split_by="split"))
    assert split.name == "patient-k5-test-by-split-seed0"
    without = Manifest(dataset.folder, drawn, dataset.table.drop(columns="split"))
    with pytest.raises(DatasetError, match="folders train, val and test"):
        SplitOptions(split_by="folder").narrow(without)


def test_val_is_fold_0_when_asked(dataset: Manifest) -> None:
    """Fold 0 is val, in repeats too; other images are in the other folds."""
    options = SplitOptions(val_part="fold")
    narrowed = options.narrow(dataset)
    ok = narrowed.ok
    val = set(ok.loc[ok["split"] == "val", "image_id"])
    for repeat in (0, 1):
        split = features.draw_split(narrowed, options, repeat=repeat)
        assert {i for i, fold in split.fold_of.items() if fold == 0} == val
        assert {*split.fold_of.values()} == {-1, 0, 1, 2, 3, 4}
    assert features.draw_split(narrowed, options).own_val
    assert split.name == "patient-k5-test-by-folder-val-fold-seed0-r1"
    with pytest.raises(SplitError, match="`folds` of 3 or more"):
        features.draw_split(narrowed, SplitOptions(val_part="fold", folds=2))


def test_images_of_train_whose_group_is_in_a_val_fold_are_left_out(
    dataset: Manifest,
) -> None:
    """No fold may train on the patients of another."""
    row = dataset.table.index[dataset.table["split"] == "val"][0]
    dataset.table.loc[row, "split"] = "train"
    joined = SplitOptions().narrow(dataset).ok
    narrowed = SplitOptions(val_part="fold").narrow(dataset)
    assert {*joined["image_id"]} - {*narrowed.ok["image_id"]} == {
        dataset.table["image_id"][row]
    }
    assert "7 images are left out of training" in straddling(narrowed)[-1]


def test_a_val_fold_that_cannot_be_is_refused(dataset: Manifest) -> None:
    """A val with one class, no val, no test, or a split that is drawn."""
    fold = SplitOptions(val_part="fold")
    is_val = dataset.table["split"] == "val"
    one_class = is_val & (
        dataset.table["label"] == dataset.table["label"][is_val].iloc[0]
    )
    dataset.table.loc[is_val & ~one_class, "split"] = "train"
    with pytest.raises(SplitError, match="every class in the source's val"):
        features.draw_split(fold.narrow(dataset), fold)
    dataset.table.loc[one_class, "split"] = "train"
    with pytest.raises(UsageError, match="val and test, for `val_part='fold'`"):
        fold.narrow(dataset)
    with pytest.raises(UsageError, match="a split that is drawn"):
        SplitOptions(val_part="fold", split_by="none").narrow(dataset)
    with pytest.raises(UsageError, match="`val_part` to be join or fold"):
        SplitOptions(val_part="third")


def test_a_site_is_held_out_even_if_it_lacks_classes(
    dataset: Manifest, tmp_path: Path
) -> None:
    """The run is trained on all other sites and tested on this one, in the end too."""
    table = dataset.table
    table["site"] = np.where(
        (table["label"] == "COVID") & (table["group"] < "p3"), "B", "A"
    )
    result = train_flat(
        dataset, tmp_path / "r", heads=["logreg"], jobs=1, test_where="site=B"
    )
    record = runs.load(result.runs[0].folder).record
    predictions = result.runs[0].table
    tested = predictions.loc[predictions["split"] == "test"]
    assert set(tested["label"]) == {"COVID"}
    assert set(tested["image_id"]) == set(table.loc[table["site"] == "B", "image_id"])
    assert np.isnan(record.scores["test"]["auc"])
    assert record.split.split_by == "site=B"
    assert result.split.name == "patient-k5-test-by-site-B-seed0"


def test_a_site_that_cannot_be_held_out_is_named(dataset: Manifest) -> None:
    """No such value, no value, a class that is nowhere else, and two test sets."""
    dataset.table["site"] = np.where(dataset.table["label"] == "COVID", "B", "A")
    for options, message in [
        ({"test_where": "site=C"}, "whose values are A, B"),
        ({"test_where": "site"}, "COLUMN=VALUE as `test_where`"),
        ({"test_where": "clinic=1"}, "`test_where` to name a column"),
        ({"test_where": "site=B", "split_by": "split"}, "got both"),
    ]:
        with pytest.raises((DatasetError, UsageError), match=message):
            SplitOptions(**options).narrow(dataset)  # type: ignore[arg-type]
    only = SplitOptions(test_where="site=B")
    with pytest.raises(SplitError, match="class 'COVID' not in the rest"):
        features.draw_split(only.narrow(dataset), only)


def test_copies_in_several_parts_count_as_test_images(dataset: Manifest) -> None:
    """Also where a scan kept the copy in train; a line names them."""
    table = dataset.table
    copy = table[table["split"] == "val"].iloc[[0]].assign(
        split="test", path="copy.png", status="duplicate"
    )  # fmt: skip
    both = Manifest(
        dataset.folder, dataset.settings, pd.concat([table, copy], ignore_index=True)
    )
    narrowed = narrow(both)
    assert {*copy["image_id"]} <= (narrowed.own_test or set())
    [line, _] = straddling(narrowed)
    assert "1 image with byte-identical copies in several parts" in line
    assert copy["image_id"].iloc[0] not in line
    assert straddling(narrowed, brief=True) == [
        "Split by folder, as before: 1 image in several parts counted once, 7 images "
        "left out of training."
    ]


def test_what_straddles_a_split_is_listed_once(dataset: Manifest) -> None:
    """The call that draws the split names the images; later ones only count them."""
    lines: list[list[str]] = []
    for _ in range(2):
        heard = Heard()
        train_flat(dataset, dataset.folder.parents[1] / "reports", backbones=["all"],
                   heads=["majority"], jobs=1, reporter=heard)  # fmt: skip
        lines.append(heard.messages)
    assert "6 images are left out of training, because" in lines[0][0]
    assert lines[1] == ["Split by folder, as before: 6 images left out of training."]


def test_a_column_with_a_fourth_value_is_named(dataset: Manifest) -> None:
    """The values that are no part are listed with their counts, and the way out."""
    values = dataset.table["split"].to_numpy().copy()
    values[:3], values[3] = "holdout", ""
    dataset.table["part"] = values
    with pytest.raises(DatasetError) as caught:
        narrow(dataset, split_by="part")
    assert "none for 4 of 90: holdout (3), empty (1)" in str(caught.value)
    assert "`test_where='COLUMN=VALUE'`" in str(caught.value)


def test_errors_of_splits_name_files(dataset: Manifest) -> None:
    """A group of near-duplicates is named by a path and never by an id alone."""
    table = dataset.table
    table["group"] = table["image_id"].where(table.index % 2 == 0, table["image_id"][0])
    with pytest.raises(SplitError) as caught:
        features.draw_split(dataset)
    assert "the group of " in str(caught.value)
    assert not re.search("[0-9a-f]{64}", str(caught.value))


def test_a_test_size_beside_the_own_test_set_is_refused(dataset: Manifest) -> None:
    """It would be ignored."""
    with pytest.raises(UsageError, match="no `test_size`"):
        features.draw_split(narrow(dataset), SplitOptions(test_size=0.3))


def test_a_test_set_without_a_class_is_refused(dataset: Manifest) -> None:
    """The error names the class and the side."""
    in_test = (dataset.table["split"] == "test") & (dataset.table["label"] == "COVID")
    dataset.table.loc[in_test, "split"] = "train"
    with pytest.raises(SplitError, match="class 'COVID' not in the test set"):
        features.draw_split(narrow(dataset))


def test_a_source_whose_test_set_changes_needs_another_split(dataset: Manifest) -> None:
    """A split is drawn once; images that were trained on do not become test images."""
    features.draw_split(narrow(dataset))
    row = dataset.table.index[dataset.table["split"] == "val"][0]
    dataset.table.loc[row, "split"] = "test"
    with pytest.raises(SplitError, match="the source has changed"):
        features.draw_split(narrow(dataset))


def test_a_split_of_its_own_is_no_split_around_a_test_set(dataset: Manifest) -> None:
    """A name stands for one of the two."""
    features.draw_split(narrow(dataset), SplitOptions(split="mine"))
    drawn = Manifest(
        dataset.folder, manifest.Settings("/x", "/x", "patient"), dataset.table
    )
    with pytest.raises(SplitError, match="around the source's test set"):
        features.draw_split(drawn, SplitOptions(split="mine"))
