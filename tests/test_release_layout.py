"""Rules of the COVID-19 Radiography Database as its later releases are laid out."""

import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from test_scan import column
from toys import picture

from featcache.commands.scan import scan
from featcache.dataset.sources import list_source

NOTE = "to include them: pip install 'featcache[xlsx]'"
CLASSES = ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Four classes of three images of 299 px, each with a mask of 256 px."""
    root = tmp_path / "COVID-19_Radiography_Dataset"
    for number, label in enumerate(CLASSES):
        for i in range(1, 4):
            name = f"{label}-{i}.png"
            for folder, image in (
                ("images", picture(10 * number + i, 120, (299, 299))),
                ("masks", Image.new("L", (256, 256), 255)),
            ):
                (root / label / folder).mkdir(parents=True, exist_ok=True)
                image.save(root / label / folder / name)
        (root / f"{label}.metadata.xlsx").write_bytes(b"no sheet")
    (root / "README.md.txt").write_text("COVID-19 CHEST X-RAY DATABASE")
    return root


@pytest.fixture
def sheets(release: Path) -> Path:
    """The release with its sheets; that of Normal writes its names in capitals."""
    pytest.importorskip("openpyxl")
    for label in CLASSES:
        written = label.upper() if label == "Normal" else label
        table = pd.DataFrame(
            {
                "FILE NAME": [f"{written}-{i}" for i in (3, 1, 2)],
                "FORMAT": "PNG",
                "SIZE": "256*256",
                "URL": [f"https://{label.lower()}.org/{i % 2}" for i in (3, 1, 2)],
            }
        )
        table.to_excel(release / f"{label}.metadata.xlsx", index=False)
    return release


def change(sheet: Path, how: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    how(pd.read_excel(sheet, dtype=str)).to_excel(sheet, index=False)


def test_images_and_masks_are_found(release: Path, tmp_path: Path) -> None:
    """Twelve images of four classes; masks are a column, whatever their size."""
    result = scan(release, tmp_path / "cache")
    assert result.counts == dict.fromkeys(CLASSES, 3)
    assert column(result, "mask")["Normal/images/Normal-2.png"] == (
        "Normal/masks/Normal-2.png"
    )
    assert set(column(result, "width").values()) == {299}
    assert (result.unreadable, result.duplicates) == ([], 0)


def test_sheets_and_readme_are_no_classes_and_no_noise(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without openpyxl a single note says how to get the columns of the sheets."""
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    listing = list_source(release)
    [note] = listing.warnings
    assert note.endswith(NOTE)
    assert "COVID.metadata.xlsx, Lung_Opacity.metadata.xlsx" in note
    assert list(listing.table.columns) == ["path", "label", "mask"]


def test_columns_of_the_sheets_are_joined_by_the_file_name(sheets: Path) -> None:
    """NORMAL-1 is Normal-1.png; the order of a sheet does not matter."""
    listing = list_source(sheets)
    assert listing.warnings == []
    table = listing.table.set_index("path")
    assert list(table.columns) == ["label", "mask", "format", "size", "url"]
    assert table.loc["COVID/images/COVID-1.png", "url"] == "https://covid.org/1"
    assert table.loc["Normal/images/Normal-2.png", "url"] == "https://normal.org/0"
    assert set(table["size"]) == {"256*256"}


def test_images_are_grouped_by_a_column_of_the_sheets(
    sheets: Path, tmp_path: Path
) -> None:
    """Two addresses in each of four classes are eight groups."""
    result = scan(sheets, tmp_path / "cache", group_by="url")
    assert result.n_groups == 8
    assert column(result, "group")["COVID/images/COVID-3.png"] == "https://covid.org/1"


def test_the_zip_of_the_release_is_read_alike(sheets: Path, tmp_path: Path) -> None:
    """Kaggle packs the folder into one zip; the columns come along."""
    path = tmp_path / "archive.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(sheets.rglob("*")):
            archive.write(file, file.relative_to(tmp_path))
    listing, folder = list_source(path), list_source(sheets)
    assert listing.warnings == []
    assert listing.table["url"].tolist() == folder.table["url"].tolist()
    first = listing.table.loc[0]
    assert first["path"] == f"{sheets.name}/COVID/images/COVID-1.png"
    assert first["mask"] == f"{sheets.name}/COVID/masks/COVID-1.png"


@pytest.mark.parametrize(
    ("how", "note"),
    [
        (lambda t: t.rename(columns={"FILE NAME": "ID"}), "left out: columns id, form"),
        (lambda t: t[t["FILE NAME"] != "COVID-2"], "1 image is not in COVID.meta"),
        (lambda t: t.rename(columns={"FORMAT": "label"}), None),
        (lambda t: t.assign(**{"FILE NAME": t["FILE NAME"] + ".PNG "}), None),
        (lambda t: pd.concat([t, t]), None),
        (lambda t: t.assign(URL="a\rb"), None),
    ],
    ids=["no names", "a row missing", "our column", "suffixes", "twice", "return"],
)
def test_a_sheet_that_is_otherwise(
    sheets: Path,
    tmp_path: Path,
    how: Callable[[pd.DataFrame], pd.DataFrame],
    note: str | None,
) -> None:
    """What cannot be joined is told, and never stops the scan."""
    change(sheets / "COVID.metadata.xlsx", how)
    for _ in range(2):
        result = scan(sheets, tmp_path / "cache")
        assert result.counts == dict.fromkeys(CLASSES, 3)
        assert len(result.warnings) == (note is not None)
        assert all(note in warning for warning in result.warnings if note)
    assert {"COVID", "Normal"} < set(column(result, "label").values())


@pytest.mark.parametrize("data", [b"", b"no sheet", b"PK\x05\x06" + bytes(18)])
def test_a_broken_sheet_is_left_out(sheets: Path, data: bytes) -> None:
    """Its images are listed without its columns, and a note says so."""
    (sheets / "COVID.metadata.xlsx").write_bytes(data)
    listing = list_source(sheets)
    [note] = listing.warnings
    assert note.startswith("COVID.metadata.xlsx is left out: it cannot be read")
    found = listing.table.groupby("label")["url"].nunique().to_dict()
    assert found == dict.fromkeys(CLASSES, 2) | {"COVID": 1}
