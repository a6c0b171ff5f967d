"""Rules of manifests: what is saved is loaded, and what is damaged is told."""

import os
from pathlib import Path

import pandas as pd
import pytest
from test_sources import touch

from featcache.dataset import manifest
from featcache.dataset.manifest import COLUMNS, Manifest, Settings
from featcache.errors import DatasetError


def made(folder: Path, **columns: list[str]) -> Manifest:
    """A manifest of two images."""
    values: dict[str, list[object]] = {
        name: [f"{name}1", f"{name}2"] for name in COLUMNS
    }
    values["image_id"] = ["1" * 64, "2" * 64]
    values |= {"width": [4, 5], "height": [6, 7], "bytes": [8, 9]}
    values |= {"status": ["ok", "unreadable"], "reason": ["", "cut short"], **columns}
    return Manifest(folder, Settings("/src", "/src", "image"), pd.DataFrame(values))


@pytest.mark.parametrize(
    "texts",
    [
        ["NA", "null"], ["1", "1.0"], ["", " "], ["True", "nan"], ["a,b", 'say "x"'],
        ["Neumonía viral", "肺炎.png"], [" leading", "two\nlines"], ["#", "'"],
    ],
    ids=str,
)  # fmt: skip
def test_a_manifest_survives_its_csv(tmp_path: Path, texts: list[str]) -> None:
    """Whatever the text, what is loaded equals what was saved, types included."""
    longer = [f"x{text}" for text in texts]
    saved = made(tmp_path / "d", path=longer, label=longer, group=longer, note=texts)
    manifest.save(saved)
    loaded = manifest.load(tmp_path / "d")
    assert loaded.settings == saved.settings
    assert loaded.table.equals(saved.table)
    assert loaded.dataset == "d"


def test_the_order_of_classes_is_sorted_and_of_usable_images(tmp_path: Path) -> None:
    """Class 0 is the first in the alphabet; an unreadable class is none."""
    both = made(tmp_path, label=["b", "a"], status=["ok", "ok"])
    assert both.classes == ["a", "b"]
    assert made(tmp_path, label=["b", "a"]).classes == ["b"]


def damage(folder: Path, how: str) -> None:
    table, record = folder / "manifest.csv", folder / "dataset.json"
    text = table.read_text()
    {
        "no table": table.unlink,
        "no settings": record.unlink,
        "empty table": lambda: table.write_text(""),
        "cut table": lambda: table.write_text(text[: len(text) - 14]),
        "cut in numbers": lambda: table.write_text(text[: text.index(",4,") + 3]),
        "another table": lambda: table.write_text("a,b\n1,2\n"),
        "columns moved": lambda: table.write_text(text.replace("label,", "tag,", 1)),
        "binary table": lambda: table.write_bytes(bytes(range(256))),
        "a status of old": lambda: table.write_text(text.replace(",ok,", ",fine,")),
        "cut settings": lambda: record.write_text(record.read_text()[:20]),
        "other settings": lambda: record.write_text('{"schema": 1, "settings": {}}'),
        "a list": lambda: record.write_text("[]"),
        "binary settings": lambda: record.write_bytes(b"\xff\xfe\0"),
        "a later schema": lambda: record.write_text(
            record.read_text().replace('"schema": 1', '"schema": 2')
        ),
    }[how]()


# Damages that leave the settings, which the command in the error repeats.
WITH_SETTINGS = (
    "empty table", "cut table", "cut in numbers", "another table", "columns moved",
    "binary table", "a status of old",
)  # fmt: skip


@pytest.mark.parametrize(
    "how",
    ["no table", "no settings", "empty table", "cut table", "cut in numbers",
     "another table", "columns moved", "binary table", "a status of old",
     "cut settings", "other settings", "a list", "binary settings", "a later schema"],
)  # fmt: skip
def test_a_damaged_manifest_is_told(tmp_path: Path, how: str) -> None:
    """Every damage is a DatasetError that says how to scan again."""
    manifest.save(made(tmp_path / "d"))
    damage(tmp_path / "d", how)
    with pytest.raises(DatasetError) as caught:
        manifest.load(tmp_path / "d")
    is_known = how in WITH_SETTINGS
    again = "/src --dataset d --group-by image" if is_known else "SOURCE --dataset d"
    assert f"featcache scan {again}" in caught.value.hint


def test_a_table_never_stands_beside_the_settings_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash between the two files leaves a dataset that is not scanned."""
    manifest.save(made(tmp_path / "d"))

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(manifest, "write_json", crash)
    with pytest.raises(KeyboardInterrupt):
        manifest.save(made(tmp_path / "d", label=["x", "y"]))
    with pytest.raises(DatasetError, match="got none"):
        manifest.load(tmp_path / "d")
    assert os.listdir(tmp_path / "d") == ["manifest.csv"]


def test_a_dataset_is_found_by_name_or_alone(tmp_path: Path) -> None:
    """One dataset needs no name; of several, or of none, the error lists them."""
    with pytest.raises(DatasetError, match="Run: featcache scan SOURCE"):
        manifest.find(tmp_path, None)
    manifest.save(made(tmp_path / "one"))
    assert manifest.find(tmp_path, None) == tmp_path / "one"
    manifest.save(made(tmp_path / "two"))
    assert manifest.find(tmp_path, "two") == tmp_path / "two"
    with pytest.raises(DatasetError, match=r"has several datasets: one, two\. Choose"):
        manifest.find(tmp_path, None)
    for name in ("three", "../one"):
        with pytest.raises(DatasetError, match="of: one, two"):
            manifest.find(tmp_path, name)


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("chest", "chest"),
        ("My chest (2)", "My-chest-2"),
        (".hidden", "hidden"),
        ("Tórax", "Tórax"),
        ("---", "data"),
    ],
)
def test_a_dataset_is_named_like_its_folder(
    tmp_path: Path, folder: str, name: str
) -> None:
    """A CSV is named like the folder it lies in; odd signs become dashes."""
    touch(tmp_path / folder, "t.csv")
    assert manifest.default_name(tmp_path / folder) == name
    assert manifest.default_name(tmp_path / folder / "t.csv") == name
