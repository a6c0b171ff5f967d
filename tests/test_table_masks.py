"""Masks that a table in a sub-folder names: beside it, or from the source's root."""

import shutil
from pathlib import Path

import pytest
from test_sources import touch

from featcache.dataset.sources import list_source


def source_of(tmp_path: Path, column: str, cells: list[str], *, zipped: bool) -> Path:
    """A folder or zip with a table in ``train`` and masks in two places."""
    root = touch(
        tmp_path / "s", "train/masks/a.png", "train/masks/both.png", "masks/both.png"
    )
    touch(root, "masks/b.png", *(f"train/{i}.png" for i in range(len(cells))))
    lines = [f"{i}.png,{i},{cell}" for i, cell in enumerate(cells)]
    table = "\n".join([f"path,label,{column}", *lines])
    (root / "train" / "metadata.csv").write_text(table)
    touch(root, "test/0.png")
    (root / "test" / "metadata.csv").write_text("path,label\n0.png,0\n")
    return Path(shutil.make_archive(str(root), "zip", root)) if zipped else root


def listed(source: Path, column: str) -> list[str]:
    table = list_source(source).table
    cells: list[str] = table.loc[table["split"] == "train", column].tolist()
    return cells


@pytest.mark.parametrize("zipped", [False, True])
def test_a_mask_may_be_named_from_the_root(tmp_path: Path, zipped: bool) -> None:
    """Where there is none beside the table; an absolute path is not changed."""
    absolute = str(tmp_path / "elsewhere.png")
    cells = [
        "masks/a.png",
        "masks/b.png",
        "train/masks/a.png",
        "masks/both.png",
        absolute,
        "c.png",
    ]
    source = source_of(tmp_path, "mask", cells, zipped=zipped)
    expected = [
        "train/masks/a.png",
        "masks/b.png",
        "train/masks/a.png",
        "train/masks/both.png",
    ]
    assert listed(source, "mask") == [*expected, absolute, "train/c.png"]


@pytest.mark.parametrize("zipped", [False, True])
def test_a_lesion_is_a_mask_beside_the_table_or_text(
    tmp_path: Path, zipped: bool
) -> None:
    """Text, also such as looks like a path or names a folder, stays as it is."""
    cells = [
        "masks/a.png",
        "./masks/a.png",
        "masks/b.png",
        "left // right",
        "masks",
        "",
        "https://h/a",
    ]
    source = source_of(tmp_path, "lesion", cells, zipped=zipped)
    expected = ["train/masks/a.png", "train/masks/a.png", *cells[2:]]
    assert listed(source, "lesion") == expected
