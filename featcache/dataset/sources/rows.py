"""Images in the rows of Parquet and Arrow files, as Hugging Face writes them.

A column of images is a struct with the fields ``bytes`` and ``path``. What a column
means, and the names behind the numbers of its classes, is JSON in the file's schema.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import pandas as pd

from featcache.core.text import counted, first_line, some
from featcache.dataset.manifest import ODD
from featcache.dataset.sources.base import (
    TAKEN,
    Listing,
    check_labels,
    clean,
    name_of,
    refuse,
)
from featcache.dataset.sources.cells import (
    Rows,
    image_columns,
    open_rows,
    struct_fields,
)
from featcache.dataset.sources.parquet import as_text
from featcache.dataset.sources.parts import with_parts
from featcache.dataset.urls import Location, inside
from featcache.errors import DatasetError

Features = Mapping[str, Mapping[str, Any]]
_LABELS = ("label", "labels")
_MASK = "mask"
_UNKNOWN = ("", "-1")  # numbers of classes of images without a label
_TAKEN = {*TAKEN, "path", _MASK}


def has_images(root: Location, path: str) -> bool:
    """Whether a file has a column of images; a file that is broken has none.

    Raises:
        DatasetError: pyarrow is missing, or a server does not answer.
    """
    with suppress(OSError):
        schema = open_rows(inside(root, path)).schema
        return bool(_image_columns(schema, _features_of(schema, {})))
    return False


def list_rows(
    root: Location,
    files: Sequence[str],
    features: Features | DatasetError,
    *,
    labelled: bool = True,
) -> Listing:
    """Lists the images of files; a path is ``FILE/COLUMN/ROW/NAME``.

    Args:
        root: The folder of the files.
        files: Their paths in it.
        features: What the columns mean, for files that do not say it themselves; or
            why that cannot be read, raised only where a label needs it.
        labelled: Leave out what has no label, and refuse files without any.

    Raises:
        OSError: A file cannot be read, or is not of its kind.
        DatasetError: One has no images or no labels, or pyarrow is missing.
    """
    notes: list[str] = []
    tables = [_list_file(root, file, features, notes, labelled) for file in files]
    table = pd.concat(tables, ignore_index=True).fillna("")
    names = [name for name, rows in zip(files, tables, strict=True) for _ in rows.index]
    table = with_parts(table, names)
    where = str(root)
    if labelled:
        is_known = table["label"].str.strip() != ""
        if missing := int((~is_known).sum()):
            example = table.loc[~is_known, "path"].iloc[0]
            rows = counted(missing, "row has", "rows have")
            notes.append(f"{rows} no label, such as {example}, and is left out")
        table = table[is_known].reset_index(drop=True)
        check_labels(where, table["label"].tolist())
    if table.empty:
        what = "images with a label" if labelled else "images"
        raise DatasetError(f"{what} in {where}", "none", "Scan another file or split.")
    return Listing(root, table, [*dict.fromkeys(notes)])


def _list_file(
    root: Location,
    file: str,
    others: Features | DatasetError,
    notes: list[str],
    labelled: bool,
) -> pd.DataFrame:
    place = inside(root, file)
    rows = open_rows(place)
    where = str(place)
    features = _features_of(rows.schema, others, labelled=labelled)
    image, mask = _columns_of_images(where, rows.schema, features)
    label = _label_column(where, rows.schema, features, required=labelled)
    plain = _plain_columns(rows.schema, {image, mask}, notes)
    table, names = _texts(where, rows, image, plain)
    if label:
        table[label] = _class_names(where, table[label], features.get(label, {}))
        table = clean(table.rename(columns={label: "label"}), _TAKEN)
    else:
        table = clean(table, _TAKEN)
    paths = [f"{file}/{image}/{row}{name}" for row, name in enumerate(names)]
    table.insert(0, "path", paths)
    if mask:
        table[_MASK] = [f"{file}/{mask}/{row}" for row in range(len(table))]
    if rows.broken_at is not None:
        notes.append(f"{file} breaks off after row {rows.broken_at}; the rest is lost")
    return table


def _texts(
    where: str, rows: Rows, image: str, plain: list[str]
) -> tuple[pd.DataFrame, list[str]]:
    """The plain columns as text, and the images' names with a slash before them."""
    import pyarrow as pa

    has_path = "path" in struct_fields(rows.schema.field(image))
    columns = [*([f"{image}.path"] if has_path else []), *plain]
    names, tables = list[str](), list[pd.DataFrame]()
    try:
        for batch in rows.batches(columns) if columns else ():
            tables.append(as_text(batch.select(plain)))
            if has_path:
                paths = batch.column(image).field("path").cast(pa.binary())
                names += map(_spelled, paths.to_pylist())
    except (pa.ArrowException, OSError, UnicodeError) as error:
        rule = f"columns that can be read in {where}"
        raise DatasetError(rule, first_line(error), "Download it again.") from error
    table = pd.DataFrame(index=range(rows.n_rows), columns=plain, dtype=str)
    if plain and tables:
        table = pd.concat(tables, ignore_index=True).set_axis(plain, axis=1)
    return table, names or [""] * rows.n_rows


def _spelled(path: bytes | None) -> str:
    """The name of an image behind a slash; none that no table keeps."""
    name = name_of((path or b"").decode("utf-8", "surrogateescape").replace("\\", "/"))
    return "" if not name or ODD.search(name) else f"/{name}"


def _features_of(
    schema: Any, others: Features | DatasetError, *, labelled: bool = False
) -> Features:
    """What the file's own schema says of its columns, else what is said elsewhere."""
    with suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
        record = json.loads((schema.metadata or {})[b"huggingface"])
        return checked_features(record["info"]["features"])
    if not isinstance(others, DatasetError):
        return others
    if _needs_features(schema, labelled=labelled):
        raise others
    return {}


def _needs_features(schema: Any, *, labelled: bool) -> bool:
    """Whether the labels are numbers, or are needed and in a column of another name."""
    import pyarrow as pa

    label = next((name for name in _LABELS if name in schema.names), None)
    return pa.types.is_integer(schema.field(label).type) if label else labelled


def checked_features(record: Any) -> Features:
    """The features that are records themselves; lists and others are left out."""
    return {name: kind for name, kind in record.items() if isinstance(kind, dict)}


def _image_columns(schema: Any, features: Features) -> list[str]:
    kinds = {name: features.get(name, {}).get("_type") for name in schema.names}
    return [n for n in image_columns(schema) if kinds[n] in (None, "Image")]


def _columns_of_images(where: str, schema: Any, features: Features) -> tuple[str, str]:
    """The column of the images, and that of their masks or an empty text."""
    if len({*schema.names}) < len(schema.names):
        rule = f"columns with different names in {where}"
        raise DatasetError(rule, some(schema.names), "Rename one.")
    names = _image_columns(schema, features)
    images = [name for name in names if name.lower() != _MASK]
    if not images:
        raise DatasetError(
            f"a column of images in {where} (a struct of bytes and path)",
            f"columns {_described(schema) or '(none)'}",
            "Give a file with images, or a table with path,label.",
        )
    image = next((name for name in images if name.lower() == "image"), images[0])
    odd = [
        ascii(name) for name in names if "/" in name or "." in name or ODD.search(name)
    ]
    refuse(where, "columns of images without / or . in their names", "others", odd,
           "Rename them.")  # fmt: skip
    return image, next((name for name in names if name.lower() == _MASK), "")


def _described(schema: Any) -> str:
    return some([f"{field.name} ({str(field.type)[:40]})" for field in schema], 12)


def _label_column(
    where: str, schema: Any, features: Features, *, required: bool
) -> str:
    """``label`` or ``labels``, else the only column of classes."""
    classes = [
        name for name in schema.names
        if features.get(name, {}).get("_type") == "ClassLabel"
    ]  # fmt: skip
    named = [name for name in _LABELS if name in schema.names]
    named = named or (classes if len(classes) == 1 else [])
    if named and _is_plain(schema.field(named[0])):
        return named[0]
    if not required:
        return ""
    if named:
        fix = "Write a copy with one label for each image."
        rule = f"one label in a cell of column {named[0]} of {where}"
        raise DatasetError(rule, f"{schema.field(named[0]).type}", fix)
    several = f"; several columns of classes: {some(classes)}" if classes else ""
    raise DatasetError(
        f"a column label in {where}",
        f"columns {_described(schema)}{several}",
        "Write a copy in which the column of the classes is named label.",
    )


def _plain_columns(schema: Any, images: set[str], notes: list[str]) -> list[str]:
    """The columns that can be text; the others are named in a note."""
    others = [field.name for field in schema if not _is_plain(field)]
    dropped = [ascii(name)[1:-1] for name in others if name not in images]
    if dropped:
        names = some(dropped, 12)
        notes.append(f"columns that are no text, number or date are left out: {names}")
    return [name for name in schema.names if name not in others]


def _is_plain(field: Any) -> bool:
    """Whether a column can be text."""
    import pyarrow as pa

    if pa.types.is_nested(field.type) or "binary" in str(field.type):
        return False
    try:
        pa.nulls(0, field.type).cast(pa.string())
    except pa.ArrowException:
        return False
    return True


def _class_names(
    where: str, labels: "pd.Series[str]", feature: Mapping[str, Any]
) -> "pd.Series[str]":
    """The names of the classes; empty where there is no label.

    Raises:
        DatasetError: A number has no name, so that the names are not those of the file.
    """
    names = feature.get("names")
    if not isinstance(names, list) or not names:
        return labels
    spelled = {str(number): str(name) for number, name in enumerate(names)}
    spelled |= dict.fromkeys(_UNKNOWN, "")
    odd = sorted({*labels} - {*spelled} - {*map(str, names)})
    fix = "Correct them, or the names in the schema, dataset_info.json or README.md."
    rule = f"classes from 0 to {len(names) - 1} ({some([*map(str, names)])})"
    refuse(where, rule, "others", odd, fix)
    return labels.map(lambda label: spelled.get(label, label))
