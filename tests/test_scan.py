"""Rules of scan: duplicates, conflicts, unreadable files, and scanning again."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from toys import Heard, picture

from featcache.commands.scan import journal, scan
from featcache.dataset import images, manifest
from featcache.dataset.sources import reading
from featcache.errors import DatasetError, UsageError

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def column(result: Any, name: str) -> dict[str, Any]:
    """One column of the manifest, by path."""
    table = result.manifest.table
    return dict(zip(table["path"], table[name], strict=True))


def save(root: Path, **seeds: int | Image.Image) -> Path:
    """Writes PNGs; ``A_x=3`` is A/x.png with the picture of seed 3."""
    for name, image in seeds.items():
        path = root / (name.replace("_", "/", 1) + ".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(image, int):
            image = picture(image, 120)
        image.save(path)
    return root


def groups(result: Any) -> list[set[str]]:
    """The groups as sets of paths, in the order of the manifest."""
    found: dict[str, set[str]] = {}
    for path, group in column(result, "group").items():
        found.setdefault(group, set()).add(path)
    return list(found.values())


# What a scan finds


def test_a_scan_writes_what_it_measured(image_folder: Path, cache: Path) -> None:
    """36 images in 3 classes: sizes, bytes, ids and hashes, on disk as returned."""
    result = scan(image_folder, cache)
    assert result.counts == {"COVID": 12, "NORMAL": 12, "Viral Pneumonia": 12}
    assert (result.n_groups, result.duplicates, result.unreadable) == (36, 0, [])
    assert result.warnings == []
    table = result.manifest.table
    assert table["path"].iloc[1] == "COVID/p000_COVID (2).png"
    assert set(zip(table["width"], table["height"], table["mode"], strict=True)) == {
        (40, 32, "L")
    }
    for row in table.itertuples():
        data = (image_folder / row.path).read_bytes()
        assert (row.image_id, row.bytes) == (images.content_id(data), len(data))
    loaded = manifest.load(cache / "chest")
    assert loaded.table.equals(table)
    assert loaded.settings == result.manifest.settings


def test_copies_are_left_out_and_counted(tmp_path: Path, cache: Path) -> None:
    """The first of three same files is kept; the others say of what they are copies."""
    result = scan(save(tmp_path / "s", A_x=1, A_y=1, A_z=1, B_x=2), cache)
    assert column(result, "status") == {
        "A/x.png": "ok",
        "A/y.png": "duplicate",
        "A/z.png": "duplicate",
        "B/x.png": "ok",
    }
    assert column(result, "reason")["A/z.png"] == "same bytes as A/x.png"
    assert result.duplicates == 2
    assert result.counts == {"A": 1, "B": 1}


def test_one_picture_under_two_labels_is_a_conflict(
    tmp_path: Path, cache: Path
) -> None:
    """The error lists the files with their labels; dropping leaves all copies out."""
    source = save(tmp_path / "s", A_x=1, A_y=2, B_z=1, B_w=3, B_v=1)
    with pytest.raises(DatasetError) as caught:
        scan(source, cache)
    assert caught.value.got == (
        "1 image with two labels: A/x.png (A), B/v.png (B), B/z.png (B)"
    )
    assert [path.name for path in (cache / "s").iterdir()] == [journal.FILE]
    result = scan(source, cache, on_conflict="drop")
    assert result.counts == {"A": 1, "B": 1}
    assert result.duplicates == 3
    assert column(result, "reason")["B/v.png"] == "same bytes under two labels"


def test_unreadable_files_get_a_status_and_a_reason(
    tmp_path: Path, cache: Path
) -> None:
    """They stop nothing, count apart, and are no copies of one another."""
    source = save(tmp_path / "s", A_x=1, B_y=2)
    (source / "A" / "empty.png").touch()
    (source / "B" / "empty.png").touch()
    (source / "B" / "text.jpg").write_text("no picture")
    (source / "B" / "cut.png").write_bytes((source / "B/y.png").read_bytes()[:300])
    (source / "B" / "gone.png").symlink_to("nowhere.png")
    result = scan(source, cache)
    found = dict(result.unreadable)
    assert found["A/empty.png"] == found["B/empty.png"] == "an empty file"
    assert found["B/text.jpg"].startswith("none of AVIF")
    assert "truncated" in found["B/cut.png"]
    assert found["B/gone.png"] == "cannot be read: No such file or directory"
    assert result.counts == {"A": 1, "B": 1}
    assert result.duplicates == 0
    assert column(result, "reason") == {"A/x.png": "", "B/y.png": "", **found}


def test_a_file_one_may_not_read_is_unreadable(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing permission (root has all, so it is played) is a reason like another."""
    source = save(tmp_path / "s", A_x=1, A_z=3, B_y=2)

    read = reading.read_bytes

    def refusing(root: Path, path: str) -> bytes:
        if path == "A/z.png":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return read(root, path)

    monkeypatch.setattr(reading, "read_bytes", refusing)
    for _ in range(2):
        result = scan(source, cache)
        assert result.unreadable == [("A/z.png", "cannot be read: Permission denied")]
        assert result.counts == {"A": 1, "B": 1}


def test_a_class_without_a_usable_image_is_told(tmp_path: Path, cache: Path) -> None:
    """It is no class any more, and a warning says so."""
    source = save(tmp_path / "s", A_x=1, A_z=3, B_y=2, B_z=4)
    (source / "C").mkdir()
    (source / "C" / "bad.png").touch()
    result = scan(source, cache)
    assert result.warnings == ["class C has no usable image"]
    assert result.manifest.classes == ["A", "B"]


def test_nothing_readable_is_an_error(tmp_path: Path, cache: Path) -> None:
    """The error gives the first reason, and no manifest is left behind."""
    for name in ("A/x.png", "B/y.png"):
        (tmp_path / "s" / name).parent.mkdir(parents=True)
        (tmp_path / "s" / name).touch()
    with pytest.raises(DatasetError, match=r"2 files, none readable \(an empty file\)"):
        scan(tmp_path / "s", cache)
    assert not cache.joinpath("s").exists()


def test_progress_counts_to_the_end(image_folder: Path, cache: Path) -> None:
    """The reporter hears how many of 36 are read, be they new or known."""
    for _ in range(2):
        heard: list[tuple[str, int, int]] = []
        scan(image_folder, cache, reporter=Heard(ticks=heard))
        assert {(name, total) for name, _, total in heard} == {("scan", 36)}
        counts = [done for _, done, _ in heard]
        assert counts == sorted({*counts})
        assert counts[-1] == 36


# Scanning again


def test_nothing_is_decoded_twice(
    image_folder: Path, cache: Path, decoded: list[str]
) -> None:
    """A second scan reads no picture and rewrites no file."""
    first = scan(image_folder, cache)
    assert len(decoded) == len(set(decoded)) == first.n_new == 36
    before = (cache / "chest" / "manifest.csv").stat().st_mtime_ns
    again = scan(image_folder, cache)
    assert again.manifest.table.equals(first.manifest.table)
    assert (len(decoded), again.n_new) == (36, 0)
    assert (cache / "chest" / "manifest.csv").stat().st_mtime_ns == before


def test_only_new_images_are_decoded(
    image_folder: Path, cache: Path, decoded: list[str]
) -> None:
    """One more file, and one that could not be read before, cost two decodings."""
    bad = image_folder / "COVID" / "bad.png"
    bad.touch()
    scan(image_folder, cache, group_by="image")
    decoded.clear()
    picture(77, 100).save(bad)
    picture(78, 100).save(image_folder / "COVID" / "new.png")
    result = scan(image_folder, cache)
    assert result.n_new == len(decoded) == 2
    assert result.counts["COVID"] == 14


def test_copies_are_decoded_once(
    image_folder: Path, cache: Path, decoded: list[str]
) -> None:
    """Of two same files that are new in a dataset one is decoded."""
    scan(image_folder, cache)
    decoded.clear()
    save(image_folder, COVID_x=1, COVID_y=1, NORMAL_z=2)
    assert scan(image_folder, cache).n_new == len(decoded) == 2


def test_a_new_twin_joins_its_group_later(
    tmp_path: Path, cache: Path, decoded: list[str]
) -> None:
    """Near-duplicates are sought among old and new; only the new are decoded."""
    source = save(tmp_path / "s", A_x=1, B_y=2, B_z=1)
    (source / "B" / "bad.png").touch()
    assert scan(source, cache, on_conflict="drop").n_groups == 1
    (source / "B" / "z.png").unlink()
    picture(1, 120).resize((20, 16)).save(source / "A" / "w.png")
    decoded.clear()
    result = scan(source, cache)
    assert {"A/w.png", "A/x.png"} in groups(result)
    assert column(result, "group")["A/x.png"] == column(result, "image_id")["A/w.png"]
    assert len(decoded) == len(set(decoded)) == result.n_new == 2  # and the bad one
    assert scan(source, cache).n_new == 1  # what cannot be read is tried again


def test_a_moved_or_renamed_file_keeps_its_id(
    image_folder: Path, cache: Path, decoded: list[str]
) -> None:
    """The id is the content's; nothing is decoded for a new name or place."""
    before = column(scan(image_folder, cache), "image_id")
    decoded.clear()
    image_folder.joinpath("COVID", "deep").mkdir()
    old, new = "COVID/p000_COVID (1).png", "COVID/deep/0.png"
    (image_folder / old).rename(image_folder / new)
    after = column(scan(image_folder, cache), "image_id")
    assert after[new] == before[old]
    assert old not in after
    assert decoded == []


def test_relabelling_changes_the_label_alone(
    tmp_path: Path, cache: Path, decoded: list[str]
) -> None:
    """A corrected label in the CSV costs no decoding and no other column."""
    source = save(tmp_path / "s", A_a=1, A_b=2, B_c=3) / "table.csv"
    source.write_text("path,label\nA/a.png,A\nA/b.png,A\nB/c.png,B\n")
    before = scan(source, cache).manifest.table
    decoded.clear()
    source.write_text(source.read_text().replace("A/a.png,A", "A/a.png,B"))
    after = scan(source, cache).manifest.table
    assert after["label"].tolist() == ["B", *before["label"][1:]]
    assert after.drop(columns="label").equals(before.drop(columns="label"))
    assert decoded == []


def test_settings_last_until_told_otherwise(image_folder: Path, cache: Path) -> None:
    """A plain second scan groups, takes and drops as the first did."""
    asked = {"group_by": r"(p\d+)", "per_class": 5, "on_conflict": "drop"}
    first = scan(image_folder, cache, **asked)  # type: ignore[arg-type]
    again = scan(image_folder, cache)
    assert again.manifest.settings == first.manifest.settings
    assert again.manifest.table.equals(first.manifest.table)
    [warning] = again.warnings
    assert "the first 5 images of each class, as in the last scan" in warning
    other = scan(image_folder, cache, group_by="image", per_class=0)
    assert sum(other.counts.values()) == other.n_groups == 36
    assert other.manifest.settings.on_conflict == "drop"
    assert scan(image_folder, cache).warnings == []


@pytest.mark.parametrize("spelling", ["chest/", "./chest", "chest/COVID/.."])
def test_one_source_has_many_spellings(
    image_folder: Path, cache: Path, spelling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the path is written, it is the same source."""
    first = scan(image_folder, cache)
    monkeypatch.chdir(image_folder.parent)
    assert scan(Path(spelling), cache).manifest.settings == first.manifest.settings


def test_another_source_needs_a_name(
    image_folder: Path, tmp_path: Path, cache: Path
) -> None:
    """Two folders called chest are not mixed up, unless one is said to be the other."""
    scan(image_folder, cache, group_by=r"(p\d+)")
    other = tmp_path / "elsewhere" / "chest"
    shutil.copytree(image_folder, other)
    with pytest.raises(DatasetError, match="`dataset`"):
        scan(other, cache)
    assert scan(other, cache, dataset="second").manifest.folder == cache / "second"
    moved = scan(other, cache, dataset="chest")
    assert moved.manifest.root == other
    assert moved.warnings == [r"grouped by near-duplicate instead of (p\d+)"]


def test_a_damaged_manifest_can_be_made_anew(image_folder: Path, cache: Path) -> None:
    """The error's way out works: named, the dataset is scanned again, and told."""
    first = scan(image_folder, cache)
    (cache / "chest" / "dataset.json").write_text("junk")
    with pytest.raises(DatasetError, match="featcache scan SOURCE --dataset chest"):
        scan(image_folder, cache)
    again = scan(image_folder, cache, dataset="chest")
    assert again.manifest.table.equals(first.manifest.table)
    assert "the manifest of chest is made again" in again.warnings[0]


def test_a_damaged_table_is_made_anew_in_the_same_way(
    image_folder: Path, cache: Path
) -> None:
    """The settings that are still there decide: a plain scan heals, groups included."""
    first = scan(image_folder, cache, group_by=r"(p\d+)", per_class=4)
    (cache / "chest" / "manifest.csv").write_text("junk")
    with pytest.raises(DatasetError, match=r"--group-by '\(p.*' --per-class 4$"):
        manifest.load(cache / "chest")
    again = scan(image_folder, cache)
    assert again.manifest.table.equals(first.manifest.table)
    assert again.manifest.settings == first.manifest.settings


def test_a_scan_that_was_cut_short_is_run_again(
    image_folder: Path, cache: Path
) -> None:
    """A table without its settings is no scan; the same command mends it."""
    first = scan(image_folder, cache)
    (cache / "chest" / "dataset.json").unlink()
    again = scan(image_folder, cache)
    assert again.manifest.table.equals(first.manifest.table)
    assert len(again.warnings) == 1


@pytest.mark.parametrize("name", ["../x", "a/b", "..", ".", ".hidden", "/tmp/x"])
def test_a_dataset_is_named_plainly(image_folder: Path, cache: Path, name: str) -> None:
    """No name leads out of the cache or hides in it."""
    with pytest.raises(UsageError, match="plain name"):
        scan(image_folder, cache, dataset=name)
    assert not cache.exists()
