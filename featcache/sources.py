"""Sources: which files a folder or a CSV names, before any is opened."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from os.path import isfile
from pathlib import Path

import pandas as pd

from featcache._io import natural_key
from featcache.errors import DatasetError
from featcache.manifest import COLUMNS, some

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff"}
    | {".gif", ".webp", ".pgm", ".ppm", ".pnm"}
)
_MASK_FOLDERS = ("masks", "mask")
_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
_GIVEN = ("path", "label", "group")
# Control characters, and the surrogates that stand for bytes that are no UTF-8:
# no CSV keeps them.
_ODD = re.compile(r"[\x00-\x1f\ud800-\udfff]")


@dataclass(frozen=True)
class Listing:
    """The files of a source, before any is opened.

    Attributes:
        root: The folder that paths are relative to.
        table: ``path``, ``label``, perhaps ``mask`` and further columns.
        warnings: What the user should know.
    """

    root: Path
    table: pd.DataFrame
    warnings: list[str]


def list_source(source: Path, *, per_class: int | None = None) -> Listing:
    """Lists the images of a folder-per-class or of a CSV with path and label.

    Args:
        source: The folder or the CSV.
        per_class: Keep only the first so many of each class in natural order.

    Raises:
        DatasetError: The source is missing, empty, or not of either form.
    """
    if not source.exists():
        raise DatasetError(
            "a folder with one sub-folder a class, or a CSV",
            f"no such path: {source}",
            "Check the path.",
        )
    listing = _list_folder(source) if source.is_dir() else _list_csv(source)
    if listing.table["label"].nunique() < 2:
        raise DatasetError(
            f"at least two classes in {source}",
            f"one: {listing.table['label'].iloc[0]}",
            "Point to the folder that holds one sub-folder a class, or to a CSV that "
            "lists all classes.",
        )
    names = [*listing.table["path"], *listing.table["label"].unique()]
    _refuse(
        source,
        "names in UTF-8 without control characters",
        "others",
        [ascii(name) for name in names if _ODD.search(name)],
        "Rename them.",
    )
    return _first_of_each(listing, per_class) if per_class else listing


def _first_of_each(listing: Listing, per_class: int) -> Listing:
    counts = Counter(listing.table["label"])
    fewer = [
        f"class {label} has {counts[label]} images, fewer than --per-class {per_class}"
        for label in sorted(counts)
        if counts[label] < per_class
    ]
    table = listing.table.groupby("label", sort=False).head(per_class)
    return Listing(listing.root, table.reset_index(drop=True), listing.warnings + fewer)


def _list_folder(root: Path) -> Listing:
    rows: list[dict[str, str]] = []
    skipped: Counter[str] = Counter()
    notes = []
    for folder in _image_folders(root):
        before = len(rows)
        for path in _images_under(folder, skipped):
            row = {"path": path.relative_to(root).as_posix(), "label": folder.name}
            mask = _mask_of(path)
            rows.append(
                row | {"mask": mask.relative_to(root).as_posix() if mask else ""}
            )
        if len(rows) == before:
            notes.append(f"folder {folder.name} holds no images; it is no class")
    if not rows:
        raise DatasetError(
            f"images in one sub-folder a class under {root}",
            _what_is_there(root, skipped),
            "Sort the images into one sub-folder a class, or give a CSV with columns "
            f"path,label. Images end in {', '.join(sorted(SUFFIXES))}.",
        )
    if loose := _loose(root):
        notes.append(f"left out, for they lie in no class folder: {loose} images")
    if skipped:
        notes.append(f"left out, for they are no images: {_kinds(skipped)}")
    table = pd.DataFrame(rows)
    if not table["mask"].any():
        table = table.drop(columns="mask")
    return Listing(root, table, notes)


def _what_is_there(root: Path, skipped: Counter[str]) -> str:
    if loose := _loose(root):
        return f"{loose} images directly in the folder and none in sub-folders"
    return f"{_kinds(skipped)} files" if skipped else "no files in sub-folders"


def _loose(folder: Path) -> int:
    """Counts the images directly in a folder."""
    return sum(p.suffix.lower() in SUFFIXES for p in _visible(folder, folders=False))


def _kinds(skipped: Counter[str]) -> str:
    return ", ".join(f"{n} {kind}" for kind, n in sorted(skipped.items()))


def _visible(folder: Path, *, folders: bool) -> list[Path]:
    found = [
        p
        for p in folder.iterdir()
        if not p.name.startswith(".")
        and p.name.lower() not in _SYSTEM_FILES
        and p.is_dir() == folders
    ]
    return sorted(found, key=lambda p: natural_key(p.name))


def _image_folders(folder: Path) -> list[Path]:
    """Sub-folders that may hold images; masks do not, nor links to a parent."""
    here = folder.resolve()
    return [
        p
        for p in _visible(folder, folders=True)
        if p.name.lower() not in _MASK_FOLDERS and not here.is_relative_to(p.resolve())
    ]


def _images_under(folder: Path, skipped: Counter[str]) -> Iterator[Path]:
    # The later release of the radiography database keeps images/ and masks/ in
    # each class folder; where there is an images/, only that holds images.
    if (folder / "images").is_dir():
        if loose := _loose(folder):
            skipped["beside images/"] += loose
        folder = folder / "images"
    for path in _visible(folder, folders=False):
        if path.suffix.lower() in SUFFIXES:
            yield path
        else:
            skipped[path.suffix.lower() or "(no suffix)"] += 1
    for inner in _image_folders(folder):
        yield from _images_under(inner, skipped)


def _mask_of(path: Path) -> Path | None:
    home = path.parent.parent if path.parent.name == "images" else path.parent
    for folder in _MASK_FOLDERS:
        if (mask := home / folder / path.name).is_file():
            return mask
    return None


def _list_csv(source: Path) -> Listing:
    table = _read_csv(source)
    missing = [column for column in ("path", "label") if column not in table.columns]
    if missing:
        raise DatasetError(
            f"columns path and label in {source}",
            f"columns {some([ascii(c[:40]) for c in table.columns]) or '(none)'}",
            f"Add or rename: {', '.join(missing)}. Commas part the columns.",
        )
    table["label"] = table["label"].str.strip()
    table["path"] = [_here(source.parent, path) for path in table["path"]]
    _check_rows(source, table)
    # Columns of the file that would shadow what we measure keep their content.
    clash = [c for c in COLUMNS if c in table.columns and c not in _GIVEN]
    return Listing(
        source.parent, table.rename(columns={c: f"given_{c}" for c in clash}), []
    )


def _here(root: Path, path: str) -> str:
    """Reads a path that was written on Windows, where there is no such file."""
    if "\\" in path and not isfile(root / path):
        return path.replace("\\", "/")
    return path


def _read_csv(source: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(
            source,
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
            skipinitialspace=True,
        )
        if not isinstance(table.index, pd.RangeIndex):
            raise ValueError("rows with more fields than the header")
        # A lone carriage return would end a row of the manifest.
        table = table.rename(columns=str.strip).replace(r"\r\n?", "\n", regex=True)
        if not table.columns.is_unique:
            raise ValueError("two columns of one name")
    except (ValueError, OSError) as error:  # pandas' parser errors are ValueErrors
        raise DatasetError(
            f"a CSV (UTF-8, commas) in {source}",
            str(error).strip().splitlines()[0],
            "Give a CSV with columns path,label, or a folder with one sub-folder a "
            "class.",
        ) from error
    return table


def _check_rows(source: Path, table: pd.DataFrame) -> None:
    if table.empty:
        raise DatasetError(f"rows in {source}", "none", "Add one row an image.")
    nameless = [f"row {i + 2}" for i in table.index[table["path"] == ""]]
    _refuse(source, "a path in every row", "none in", nameless, "Fill them in.")
    repeated = sorted(table.loc[table["path"].duplicated(), "path"].unique())
    _refuse(source, "each path once", "repeated", repeated, "Remove the repeats.")
    blank = table.loc[table["label"] == "", "path"].tolist()
    _refuse(source, "a label in every row", "without one", blank, "Fill them in.")
    absent = [p for p in table["path"] if not isfile(source.parent / p)]
    _refuse(
        source,
        "paths relative to the CSV that exist",
        "missing",
        absent,
        "Correct the paths or move the CSV beside the images.",
    )


def _refuse(source: Path, rule: str, what: str, paths: list[str], fix: str) -> None:
    if paths:
        raise DatasetError(f"{rule} in {source}", f"{what}: {some(paths)}", fix)
