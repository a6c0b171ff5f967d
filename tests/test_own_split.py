"""A split that a source brings: recognised, kept when asked, and never trained on."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toys import header, make_dataset, picture, train_flat, write_store

from featcache import features
from featcache.commands.scan import ScanResult, scan
from featcache.dataset import manifest
from featcache.dataset.manifest import Manifest, narrow
from featcache.dataset.sources import list_source
from featcache.dataset.splits import TEST, SplitOptions
from featcache.errors import DatasetError, SplitError, UsageError
from featcache.evaluation import fitting

PARTS = {"train": 8, "val": 4, "test": 4}


def write(
    root: Path, parts: dict[str, int] = PARTS, form: str = "{part}/{label}"
) -> Path:
    """Images in folders of parts and classes; no two alike."""
    for p, (part, count) in enumerate(parts.items()):
        for i in range(count):
            folder = root / form.format(part=part, label="AB"[i % 2])
            folder.mkdir(parents=True, exist_ok=True)
            picture(100 * p + i, 100).save(folder / f"p{p}{i // 2}_{i}.png")
    return root


def parts_of(result: ScanResult) -> dict[str, int]:
    return result.manifest.ok["split"].value_counts().to_dict()


@pytest.mark.parametrize(
    "names",
    [
        ("train", "test"), ("train", "val", "test"), ("Training", "Testing"),
        ("TRAIN", "valid"), ("train", "validation", "test"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("zipped", [False, True])
def test_parts_are_not_taken_for_classes(
    tmp_path: Path, names: tuple[str, ...], zipped: bool
) -> None:
    """Folders train and test with classes below are refused, with both ways out."""
    source = write(tmp_path / "x", dict.fromkeys(names, 4))
    if zipped:
        source = Path(shutil.make_archive(str(source), "zip", tmp_path, "x"))
    with pytest.raises(DatasetError) as caught:
        scan(source, tmp_path / "c")
    for text in ("`split_by='folder'`", "`pool=True`", "folders A, B", names[0]):
        assert text in str(caught.value)
    kept = scan(source, tmp_path / "c", split_by="folder")
    assert kept.counts == {"A": 2 * len(names), "B": 2 * len(names)}
    assert set(parts_of(kept).values()) == {4}
    assert kept.warnings == []


def test_pooled_parts_are_one_dataset(tmp_path: Path) -> None:
    """Classes are those below, there is no column split; later scans do the same."""
    source = write(tmp_path / "x")
    pooled = scan(source, tmp_path / "c", pool=True)
    assert pooled.counts == {"A": 8, "B": 8}
    assert "split" not in pooled.manifest.table
    assert scan(source, tmp_path / "c").manifest.settings.pool
    kept = scan(source, tmp_path / "c", split_by="folder")
    assert parts_of(kept) == PARTS == kept.parts
    assert not kept.manifest.settings.pool


def test_parts_below_the_classes_are_told_and_kept(tmp_path: Path) -> None:
    """A/train, A/test: the classes are right, and the split is kept when asked."""
    source = write(tmp_path / "x", form="{label}/{part}")
    [warning] = scan(source, tmp_path / "c").warnings
    assert "the folders name the parts of a split" in warning
    assert parts_of(scan(source, tmp_path / "c", split_by="folder")) == PARTS


def test_other_folders_beside_the_parts_are_left_out(tmp_path: Path) -> None:
    """The best-known download holds a second copy of itself beside its parts."""
    source = write(write(tmp_path / "x") / "x", {"train": 2}).parent
    result = scan(source, tmp_path / "c", split_by="folder")
    assert sum(result.counts.values()) == 16
    assert "left out because they are no part of the split: x" in result.warnings[0]


def test_a_column_is_kept_as_the_split(tmp_path: Path) -> None:
    """Its values are spelled as people do; without the option a warning offers it."""
    root = write(tmp_path / "x", {"all": 6}, "{part}")
    names = sorted(p.relative_to(root).as_posix() for p in root.glob("*/*.png"))
    table = pd.DataFrame({"path": names, "label": list("ABABAB")})
    table["split"] = ["Train", "training", " val", "VALID", "test", "Testing"]
    table.to_csv(root / "t.csv", index=False)
    [warning] = scan(root / "t.csv", tmp_path / "c").warnings
    assert warning.startswith("column split name")
    assert "`split_by='split'`" in warning
    result = scan(root / "t.csv", tmp_path / "c", split_by="split")
    assert parts_of(result) == {"train": 2, "val": 2, "test": 2}
    assert result.warnings == []
    table.rename(columns={"split": "part"}).assign(split="x").to_csv(root / "t.csv")
    again = scan(root / "t.csv", tmp_path / "c", split_by="part")
    assert parts_of(again) == {"train": 2, "val": 2, "test": 2}
    assert set(again.manifest.table["given_split"]) == {"x"}


def test_what_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    """No such column, images in no part, nothing but train, nothing to join, both."""
    source = write(tmp_path / "x", {"A": 4}, "{label}")
    for options, message in [
        ({"split_by": "ward"}, "`split_by` with folder or a column"),
        ({"split_by": "folder"}, "none for 4 of 4"),
        ({"split_by": "label"}, "none for 4 of 4"),
        ({"pool": True}, "no folders and no column split"),
        ({"pool": True, "split_by": "folder"}, "got both"),
    ]:
        with pytest.raises((DatasetError, UsageError), match=message):
            scan(source, tmp_path / "c", **options)  # type: ignore[arg-type]
    assert scan(source, tmp_path / "c", split_by="none").parts == {}
    rows = "path,label,split\nA/p00_0.png,A,train\nB/p00_1.png,B,train\n"
    (source / "t.csv").write_text(rows)
    with pytest.raises(DatasetError, match="got train alone"):
        scan(source / "t.csv", tmp_path / "c2", split_by="split")


def test_folds_that_all_classes_share_are_told(tmp_path: Path) -> None:
    """The same folders below every class may be the classes."""
    source = write(tmp_path / "x", {"siteA": 4, "siteB": 4})
    assert (
        "contains the same folders (A, B)" in scan(source, tmp_path / "c").warnings[0]
    )


def test_the_first_of_each_class_are_taken_of_each_part(tmp_path: Path) -> None:
    """A small trial has a test set as well."""
    source = write(tmp_path / "x")
    listing = list_source(source, per_class=1, split_by="folder")
    assert "".join(part[0] for part in listing.table["split"]) == "ttvvtt"
    pooled = list_source(source, per_class=1, pool=True).table["path"]
    assert pooled.tolist() == ["train/A/p00_0.png", "train/B/p00_1.png"]


def test_of_copies_in_two_parts_the_test_images_stay(tmp_path: Path) -> None:
    """The same bytes in train and test are tested on, and told."""
    source = write(tmp_path / "x")
    shutil.copy(source / "test/A/p20_0.png", source / "train/A/copy.png")
    result = scan(source, tmp_path / "c", split_by="folder")
    assert parts_of(result) == PARTS
    assert "1 image has the same bytes in two parts" in result.warnings[0]
    assert result.manifest.table.set_index("path")["status"][
        "train/A/copy.png"
    ] == "duplicate"  # fmt: skip


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


def test_a_scan_names_the_groups_on_both_sides(tmp_path: Path) -> None:
    """By name and number, with what becomes of them."""
    source = write(tmp_path / "x")
    shutil.copy(source / "test/A/p20_0.png", source / "train/A/p99.png")
    picture(999, 100).save(source / "train/A/p20_9.png")
    result = scan(source, tmp_path / "c", split_by="folder", group_by=r"(p\d\d)")
    assert any(
        "1 group is in the source's test set and in its other parts: p20; their 1 "
        "image outside the test set is left out" in warning
        for warning in result.warnings
    )


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


Run = Callable[..., tuple[int, str, str]]


def test_the_command_line_shows_the_parts(tmp_path: Path, run: Run) -> None:
    """The error spells its options as words of a command, and these work."""
    source = write(tmp_path / "x")
    code, _, err = run("scan", source)
    assert code == 1
    assert "--split-by folder keeps this split, --pool joins its parts." in err
    code, out, _ = run("scan", source, "--split-by", "folder")
    assert code == 0
    assert "Split (by folder): train 8, val 4, test 4 images." in out
    code, out, _ = run("scan", source, "--pool")
    assert (code, "Split" in out) == (0, False)
