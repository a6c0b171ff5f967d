"""Sources: which files a folder or a CSV names, before any is opened."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
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
            "Point to the folder that holds one sub-folder a class.",
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
    for folder in _visible(root, folders=True):
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
            f"Images end in {', '.join(sorted(SUFFIXES))}.",
        )
    if skipped:
        kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(skipped.items()))
        notes.append(f"not images, left out: {kinds}")
    table = pd.DataFrame(rows)
    if not table["mask"].any():
        table = table.drop(columns="mask")
    return Listing(root, table, notes)


def _what_is_there(root: Path, skipped: Counter[str]) -> str:
    loose = sum(p.suffix.lower() in SUFFIXES for p in _visible(root, folders=False))
    if loose:
        return f"{loose} images directly in the folder and none in sub-folders"
    if skipped:
        return (
            ", ".join(f"{n} {kind}" for kind, n in sorted(skipped.items())) + " files"
        )
    return "an empty folder"


def _visible(folder: Path, *, folders: bool) -> list[Path]:
    found = [
        p
        for p in folder.iterdir()
        if not p.name.startswith(".")
        and p.name.lower() not in _SYSTEM_FILES
        and p.is_dir() == folders
    ]
    return sorted(found, key=lambda p: natural_key(p.name))


def _images_under(folder: Path, skipped: Counter[str]) -> Iterator[Path]:
    # The later release of the radiography database keeps images/ and masks/ in
    # each class folder; where there is an images/, only that holds images.
    if (folder / "images").is_dir():
        folder = folder / "images"
    for path in _visible(folder, folders=False):
        if path.suffix.lower() in SUFFIXES:
            yield path
        else:
            skipped[path.suffix.lower() or "(no suffix)"] += 1
    for inner in _visible(folder, folders=True):
        if inner.name.lower() not in _MASK_FOLDERS:
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
            f"columns {', '.join(table.columns) or '(none)'}",
            f"Add or rename: {', '.join(missing)}.",
        )
    _check_rows(source, table)
    # Columns of the file that would shadow what we measure keep their content.
    clash = [c for c in COLUMNS if c in table.columns and c not in _GIVEN]
    return Listing(
        source.parent, table.rename(columns={c: f"given_{c}" for c in clash}), []
    )


def _read_csv(source: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(
            source, dtype=str, keep_default_na=False, encoding="utf-8-sig"
        )
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
    repeated = sorted(table.loc[table["path"].duplicated(), "path"].unique())
    _refuse(source, "each path once", "repeated", repeated, "Remove the repeats.")
    blank = table.loc[table["label"].str.strip() == "", "path"].tolist()
    _refuse(source, "a label in every row", "without one", blank, "Fill them in.")
    absent = [p for p in table["path"] if not (source.parent / p).is_file()]
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
