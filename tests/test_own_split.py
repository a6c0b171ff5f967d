"""A split that a source brings: recognised, kept when asked, and never trained on."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from toys import picture

from featcache.commands.scan import ScanResult, scan
from featcache.dataset.narrowing import narrow
from featcache.dataset.sources import list_source
from featcache.errors import DatasetError, UsageError

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
    """Of folders train and test, the classes below are read; a line says so."""
    source = write(tmp_path / "x", dict.fromkeys(names, 4))
    if zipped:
        source = Path(shutil.make_archive(str(source), "zip", tmp_path, "x"))
    read = scan(source, tmp_path / "c")
    assert read.counts == {"A": 2 * len(names), "B": 2 * len(names)}
    assert read.manifest.own_test is None
    assert set(parts_of(read).values()) == {4}
    [line] = read.warnings
    assert "the parts of a split, now column split (train 4, " in line
    assert "`split_by='folder'`" in line
    assert "`pool=True`" in line
    kept = scan(source, tmp_path / "c", split_by="folder")
    assert kept.counts == {"A": 2 * len(names), "B": 2 * len(names)}
    assert set(parts_of(kept).values()) == {4}
    assert kept.warnings == []


def test_pooled_parts_are_one_dataset(tmp_path: Path) -> None:
    """Classes are those below, no test set is kept; later scans do the same."""
    source = write(tmp_path / "x")
    pooled = scan(source, tmp_path / "c", pool=True)
    assert pooled.counts == {"A": 8, "B": 8}
    assert (pooled.manifest.own_test, pooled.warnings) == (None, [])
    assert parts_of(pooled) == PARTS
    assert scan(source, tmp_path / "c").manifest.settings.pool
    kept = scan(source, tmp_path / "c", split_by="folder")
    assert parts_of(kept) == PARTS == kept.parts
    assert not kept.manifest.settings.pool


def test_parts_below_the_classes_are_told_and_kept(tmp_path: Path) -> None:
    """A/train, A/test: the classes are right, and the split is kept when asked."""
    source = write(tmp_path / "x", form="{label}/{part}")
    [warning] = scan(source, tmp_path / "c").warnings
    assert "the folders are the parts of a split" in warning
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
    assert warning.startswith("column split names the parts of a split (train 2, ")
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
    assert (
        "1 image with the same bytes in several parts of the source's split, such as "
        "test/A/p20_0.png and train/A/copy.png"
    ) in result.warnings[0]
    assert result.manifest.table.set_index("path")["status"][
        "train/A/copy.png"
    ] == "duplicate"  # fmt: skip


def test_a_scan_names_the_groups_on_both_sides(tmp_path: Path) -> None:
    """By name and number, with what becomes of them."""
    source = write(tmp_path / "x")
    shutil.copy(source / "test/A/p20_0.png", source / "train/A/p99.png")
    picture(999, 100).save(source / "train/A/p20_9.png")
    result = scan(source, tmp_path / "c", split_by="folder", group_by=r"(p\d\d)")
    assert any(
        r"1 group (by (p\d\d)) in the source's test set and in its other parts (p20): "
        "1 image outside the test set left out of training: train/A/p20_9.png"
        in warning
        for warning in result.warnings
    )


def test_sites_as_outer_folders_become_a_column_with_pool(tmp_path: Path) -> None:
    """Folders that are no parts of a split are taken as a column only when asked."""
    source = write(tmp_path / "x", {"siteA": 4, "siteB": 4})
    result = scan(source, tmp_path / "c", pool=True)
    assert result.counts == {"A": 4, "B": 4}
    assert parts_of(result) == {"siteA": 4, "siteB": 4}
    held = narrow(result.manifest, test_where="split=siteB")
    assert len(held.own_test or ()) == 4


def test_parts_with_different_classes_are_told(tmp_path: Path) -> None:
    """The class that only one part has is named."""
    source = write(tmp_path / "x")
    shutil.rmtree(source / "test/B")
    warnings = scan(source, tmp_path / "c").warnings
    assert "parts of the split differ: test has no B" in warnings[0]


Run = Callable[..., tuple[int, str, str]]


def test_the_command_line_shows_the_parts(tmp_path: Path, run: Run) -> None:
    """The line spells its options as words of a command, and these work."""
    source = write(tmp_path / "x")
    code, _, err = run("scan", source)
    assert code == 0
    assert "keep it with --split-by folder, here or in training, or join" in err
    code, out, _ = run("scan", source, "--split-by", "folder")
    assert code == 0
    assert "Split (by folder): train 8, val 4, test 4 images." in out
    code, out, _ = run("scan", source, "--pool")
    assert (code, "Split" in out) == (0, False)
