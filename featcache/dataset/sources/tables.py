"""A table with path and label, beside its images or in a zip with them."""

import io
import posixpath

import pandas as pd

from featcache.core.text import first_line, some
from featcache.dataset.manifest import ODD
from featcache.dataset.sources.base import (
    TAKEN,
    Listing,
    TableFile,
    Tree,
    check_labels,
    clean,
    refuse,
)
from featcache.dataset.sources.cells import PARQUET
from featcache.dataset.sources.json_lines import JSON_LINES, read_json_lines
from featcache.dataset.sources.parquet import read_parquet
from featcache.dataset.sources.reading import read_bytes
from featcache.dataset.urls import Url, is_url
from featcache.errors import DatasetError

TABLES = (".csv", PARQUET, JSON_LINES)
_COMMAS = " Columns must be separated by commas."
STRIPPED = (
    "user names, passwords and query strings in URLs are left out, and not used to "
    "read; credentials come from the configuration of fsspec"
)
_FORMS = (
    "Give a CSV with columns path,label, or a folder with one sub-folder per class."
)


def list_table(tree: Tree, file: TableFile) -> Listing:
    """Lists the images that a table names.

    Raises:
        DatasetError: It is no such table, or it names what is not there.
    """
    where = f"{tree.root}/{file.path}"
    table = read_table(tree, file.path, where, _FORMS)
    _check_columns(where, table)
    if table.empty:
        raise DatasetError(f"rows in {where}", "none", "Add one row per image.")
    nameless = [f"row {i + 2}" for i in table.index[table["path"] == ""]]
    refuse(where, "a path in every row", "none in", nameless, "Fill them in.")
    table["label"] = table["label"].str.strip()
    cut = any(is_url(path) and Url.of(path).stripped for path in table["path"])
    table["path"] = [_from_table(tree, file, path) for path in table["path"]]
    if "mask" in table.columns:
        masks = table["mask"].str.strip()
        table["mask"] = [mask and _mask_here(tree, file, mask) for mask in masks]
    if "lesion" in table.columns and file.folder:
        cells = table["lesion"]
        known = {cell: _lesion_here(tree, file, cell) for cell in cells.unique()}
        table["lesion"] = cells.map(known)
    _check_rows(tree, where, table)
    notes = [STRIPPED] if cut else []
    return Listing(tree.root, clean(table, TAKEN), notes, stamps=tree.stamps)


def _check_columns(where: str, table: pd.DataFrame) -> None:
    missing = [column for column in ("path", "label") if column not in table.columns]
    if missing:
        raise DatasetError(
            f"columns path and label in {where}",
            f"columns {some([ascii(c[:40]) for c in table.columns]) or '(none)'}",
            f"Add or rename: {', '.join(missing)}."
            + (_COMMAS if where.lower().endswith(".csv") else ""),
        )


def _from_table(tree: Tree, file: TableFile, path: str) -> str:
    """The path here of a file that a table names relative to itself."""
    return path_here(tree, path if is_url(path) else file.beside(path))


def _mask_here(tree: Tree, file: TableFile, mask: str) -> str:
    """The path here of a mask beside the table, or else below the source's root."""
    beside, below = _from_table(tree, file, mask), path_here(tree, mask)
    is_below = mask.startswith("/") or tree.has(below)
    return below if is_below and not tree.has(beside) else beside


def _lesion_here(tree: Tree, file: TableFile, cell: str) -> str:
    """The path here of a mask beside the table; other cells may be clinical text."""
    if not cell.strip() or is_url(cell.strip()):
        return cell
    beside = _from_table(tree, file, cell.strip())
    return beside if tree.has(beside) else cell


def path_here(tree: Tree, path: str) -> str:
    """The path of a file here, which may be written otherwise in the table.

    With the separators of Windows, with ``./`` or ``//``, or in another Unicode form;
    of a URL without secrets.
    """
    if is_url(path):
        return str(Url.of(path))
    if "\\" in path and not tree.has(path):
        path = path.replace("\\", "/")
    if {"", ".", ".."} & {*path.removeprefix("/").split("/")}:
        plain = posixpath.normpath(path)
        path = plain if tree.has(plain) or not tree.has(path) else path
    return path if tree.has(path) else tree.spelled_as(path) or path


def read_table(tree: Tree, path: str, where: str, hint: str) -> pd.DataFrame:
    """Reads a CSV, a Parquet file or JSON lines as text.

    Args:
        tree: The files.
        path: The table's.
        where: Its name in errors.
        hint: What to give instead.

    Raises:
        DatasetError: It is no such file, or one with two columns of the same name.
    """
    if path.lower().endswith(PARQUET):
        return _with_path(read_parquet(tree.root, path, where, hint))
    if path.lower().endswith(JSON_LINES):
        return _with_path(read_json_lines(tree.root, path, where, hint))
    try:
        table = pd.read_csv(
            io.BytesIO(read_bytes(tree.root, path)),
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
            skipinitialspace=True,
        )
        if not isinstance(table.index, pd.RangeIndex):
            raise ValueError("rows with more fields than the header")
        table = table.rename(columns=str.strip)
        if not table.columns.is_unique:
            raise ValueError("two columns with the same name")
    except (ValueError, OSError) as error:  # pandas' parser errors are ValueErrors
        raise DatasetError(
            f"a CSV (UTF-8, commas) in {where}",
            first_line(error),
            hint,
        ) from error
    return _with_path(table)


def _with_path(table: pd.DataFrame) -> pd.DataFrame:
    """The table with a column ``path``, which Hugging Face calls ``file_name``."""
    if "path" in table.columns:
        return table
    return table.rename(columns={"file_name": "path"})


def _check_rows(tree: Tree, where: str, table: pd.DataFrame) -> None:
    repeated = sorted(table.loc[table["path"].duplicated(), "path"].unique())
    refuse(where, "each path once", "repeated", repeated, "Remove the repeats.")
    blank = table.loc[table["label"] == "", "path"].tolist()
    refuse(where, "a label in every row", "missing in", blank, "Fill them in.")
    check_labels(where, table["label"].tolist())
    refuse(
        where,
        "paths relative to the CSV that exist",
        "missing",
        [path for path in table["path"] if not tree.has(path)],
        "Correct the paths, or move the CSV next to the images.",
    )
    odd = [ascii(path) for path in table["path"] if ODD.search(path)]
    refuse(where, "names without control characters", "others", odd, "Rename them.")
