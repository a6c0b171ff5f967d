"""The sheets beside the class folders of the COVID-19 Radiography Database.

Its later releases keep ``COVID.metadata.xlsx`` and so on beside ``COVID/``: a row an
image with FILE NAME, FORMAT, SIZE and URL (where the picture comes from).
"""

import io
import warnings
from importlib.util import find_spec

import pandas as pd

from featcache.core.text import counted, some
from featcache.dataset.manifest import COLUMNS
from featcache.dataset.sources.base import SUFFIXES, Tree, clean, name_of, suffix
from featcache.dataset.sources.reading import read_bytes
from featcache.errors import DatasetError

_ENDING = ".metadata.xlsx"
_KEYS = ("file_name", "filename", "file")
_TAKEN = {*COLUMNS, "mask"} - {"group"}


def add_columns(
    tree: Tree, at: str, table: pd.DataFrame, notes: list[str]
) -> pd.DataFrame:
    """Joins the columns of each class's sheet to its images by the file name.

    The case of a name is ignored: in the database NORMAL-1 is ``Normal-1.png``.

    Args:
        tree: The files.
        at: The folder that holds the class folders.
        table: ``path`` and ``label`` of each image.
        notes: What could not be joined is added here.
    """
    labels = table["label"].str.lower()
    paths = {_class_of(path): path for path in tree.files(at)}
    paths = {label: path for label, path in paths.items() if label in set(labels)}
    if paths and find_spec("openpyxl") is None:
        notes.append(
            f"the columns of {some([name_of(path) for path in paths.values()])} are "
            "left out; to include them: pip install 'featcache[xlsx]'"
        )
        return table
    sheets = {}
    keys = pd.MultiIndex.from_arrays([labels, table["path"].map(_stem)])
    for label, path in paths.items():
        try:
            sheets[label] = _read(tree, path)
        except DatasetError as error:
            notes.append(f"{name_of(path)} is left out: {error.got}")
            continue
        missing = sum(k == label and n not in sheets[label].index for k, n in keys)
        if missing:
            notes.append(
                f"{counted(missing, 'image is', 'images are')} not in {name_of(path)}"
            )
    if not sheets:
        return table
    facts = pd.concat(sheets).reindex(keys).fillna("")
    return table.join(facts.set_index(table.index))


def _class_of(path: str) -> str:
    name = name_of(path).lower()
    return name.removesuffix(_ENDING) if name.endswith(_ENDING) else ""


def _read(tree: Tree, path: str) -> pd.DataFrame:
    """Reads a sheet as text, a row a file name."""
    try:
        data = io.BytesIO(read_bytes(tree.root, path))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and the like
            sheet = pd.read_excel(
                data, dtype=str, keep_default_na=False, engine="openpyxl"
            )
        sheet.columns = ["_".join(str(c).lower().split()) for c in sheet.columns]
        key = next(column for column in sheet.columns if column in _KEYS)
        sheet.index = pd.Index(sheet.pop(key).map(_stem))
    except StopIteration:
        raise DatasetError(
            f"a column FILE NAME in {path}", f"columns {some([*sheet])}", "Rename it."
        ) from None
    except Exception as error:
        raise DatasetError(
            f"an Excel sheet in {path}", f"it cannot be read ({error})", "Replace it."
        ) from error
    return clean(sheet[~sheet.index.duplicated()].fillna(""), _TAKEN)


def _stem(name: str) -> str:
    name = name_of(name.strip()).lower()
    ending = suffix(name)
    return name.removesuffix(ending) if ending in SUFFIXES else name
