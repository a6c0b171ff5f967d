"""The columns that identify rows: in a store's own file, or in its part files.

In a store in parts each column is an HDF5 virtual dataset over the part files, so that
a publication writes the keys of new rows alone. featcache reads the part files
themselves, and compares the keys of each with the checksum that the store has for it.
"""

import os
from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np
import pandas as pd

from featcache.core.io import digest
from featcache.errors import StoreError, StoreUnavailableError
from featcache.features.store.base import (
    NO_MASK,
    NO_POLICY,
    keys_sha256,
    paths_sha256,
)
from featcache.features.store.segments import (
    RowFile,
    Segment,
    mapping,
    virtual_pieces,
)

# As a store has them; "mask_id" only where a row has a mask.
COLUMNS = {
    "image_id": h5py.string_dtype("ascii", 64),
    "view": np.dtype(np.uint16),
    "policy": np.dtype(np.int16),
    "mask_id": h5py.string_dtype("ascii", 64),
    "path": h5py.string_dtype("utf-8"),
}
# Bytes that a file may hold for each of its own: compression goes no further.
_EXPANSION = 1100


def read_keys(file: h5py.File, policies: int) -> pd.DataFrame:
    """The keys and paths of the rows of one file.

    Args:
        file: Open for reading.
        policies: How many its header has.

    Raises:
        ValueError: A column is missing, in another file, or of another type or length.
    """
    return pd.DataFrame(  # columns of other lengths are a ValueError
        {
            "image_id": _texts(file, "image_id"),
            "view": _numbers(file, "view", 0, 2**16 - 1),
            "policy": _numbers(file, "policy", NO_POLICY, policies - 1),
            "mask_id": _texts(file, "mask_id") if "mask_id" in file else NO_MASK,
            "path": _texts(file, "path"),
        }
    )


def key_sums(keys: pd.DataFrame) -> dict[str, str]:
    """The checksums that a file has of its keys and paths."""
    return {"keys_sha256": keys_sha256(keys), "paths_sha256": paths_sha256(keys)}


def combined_key_sums(segments: Sequence[Segment]) -> dict[str, str]:
    """The same of a store whose keys are in its part files."""
    firsts = [(one.rows, one.files[0]) for one in segments]
    return {
        "keys_sha256": digest([[rows, file.keys_sha256] for rows, file in firsts]),
        "paths_sha256": digest([[rows, file.paths_sha256] for rows, file in firsts]),
    }


def read_keys_of_parts(
    segments: Sequence[Segment], policies: int, *, all_parts: bool
) -> pd.DataFrame:
    """The keys and paths of the rows of part files, each file's checked.

    Args:
        segments: The part files.
        policies: How many the store's header has.
        all_parts: Refuse a part that is damaged; else its rows have an empty image_id.

    Raises:
        StoreError: A part is missing or damaged.
        StoreUnavailableError: A part cannot be opened now.
    """
    pieces = []
    for segment in segments:
        try:
            pieces.append(_keys_of_part(segment, policies))
        except StoreUnavailableError:
            raise
        except StoreError:
            if all_parts:
                raise
            lost = {
                name: [""] * segment.rows for name in ("image_id", "mask_id", "path")
            }
            pieces.append(pd.DataFrame(lost | {"view": 0, "policy": NO_POLICY}))
    return pd.concat(pieces, ignore_index=True)


def _keys_of_part(segment: Segment, policies: int) -> pd.DataFrame:
    part = segment.files[0]
    if not all(NO_POLICY <= number < policies for number in part.policies):
        raise ValueError(f"policies {part.policies} of {part.name}")
    with part.opened() as file:
        keys = read_keys(file, len(part.policies) or policies)
    if len(keys) != segment.rows:
        raise part.damaged(f"{len(keys)} keys")
    for name, checksum in key_sums(keys).items():
        if checksum != getattr(part, name):
            raise part.damaged(f"{name.split('_')[0]} with another checksum")
    if part.policies:
        numbers = np.array([*part.policies, NO_POLICY])  # the last one is that of -1
        keys["policy"] = numbers[keys["policy"]]
    return keys


def virtual_columns(segments: Sequence[Segment]) -> set[str]:
    """Columns that can be shown from part files as these have them."""
    columns = {*COLUMNS}
    for part in (segment.files[0] for segment in segments):
        if part.policies:
            columns.discard("policy")
        with part.opened() as file:
            columns -= {n for n in columns if n in file and not _is_usual(file, n)}
    return columns


def _is_usual(file: h5py.File, name: str) -> bool:
    have, usual = file[name].dtype, COLUMNS[name]
    texts = [h5py.check_string_dtype(dtype) for dtype in (have, usual)]
    return bool(have == usual) and texts[0] == texts[1]


def key_mapping(
    name: str, segments: Sequence[Segment], keys: pd.DataFrame
) -> list[tuple[Any, str, str]]:
    """The pieces of a virtual column; as for ``mapping``."""
    files: list[RowFile | None] = [segment.files[0] for segment in segments]
    if name == "mask_id":  # which files without any mask do not have
        ends = np.cumsum([segment.rows for segment in segments])
        masked = np.flatnonzero((keys["mask_id"] != NO_MASK).to_numpy())
        having = {*np.searchsorted(ends, masked, "right").tolist()}
        files = [file if n in having else None for n, file in enumerate(files)]
    return mapping(name, segments, files, ())


def check_key_columns(
    file: h5py.File, segments: Sequence[Segment], keys: pd.DataFrame
) -> None:
    """Compares what other programs see of the keys with the part files.

    Args:
        file: The store's own file.
        segments: The part files.
        keys: Of their rows.

    Raises:
        ValueError: They differ.
    """
    masked = (keys["mask_id"] != NO_MASK).any()
    for name in COLUMNS:
        if name == "mask_id" and not masked and name not in file:
            continue
        column = dataset(file, name, 1, None)
        if column.is_virtual:
            agrees = virtual_pieces(column) == key_mapping(name, segments, keys)
            agrees &= len(column) == len(keys)
        else:
            is_text = COLUMNS[name].kind in "SO"
            values = _texts(file, name) if is_text else column[:]
            agrees = np.array_equal(values, keys[name].to_numpy())
        if not agrees:
            raise ValueError(f"{name} of other rows than the parts'")


def _texts(file: h5py.File, name: str) -> np.ndarray:
    column = dataset(file, name, 1)
    if h5py.check_string_dtype(column.dtype) is None:
        raise ValueError(f"{name} no text")
    return np.asarray(column.asstr()[:])


def _numbers(file: h5py.File, name: str, least: int, most: int) -> np.ndarray:
    column = dataset(file, name, 1)
    values = column[:] if column.dtype.kind in "iu" else np.array(["text"])
    if values.dtype.kind not in "iu" or ((values < least) | (values > most)).any():
        raise ValueError(f"{name} no numbers from {least} to {most}")
    return values.astype(int)


def dataset(
    file: h5py.File, name: str, dimensions: int, is_virtual: bool | None = False
) -> h5py.Dataset:
    """A dataset whose bytes are in this file, and that they suffice for.

    With ``is_virtual`` one whose bytes are all in other files; with None either.

    Raises:
        ValueError: There is none of that name and so many dimensions.
    """
    dataset = linked(file, name)
    if not isinstance(dataset, h5py.Dataset) or dataset.ndim != dimensions:
        raise ValueError(f"{name} no dataset of {dimensions} dimensions")
    if dataset.external or is_virtual not in (None, dataset.is_virtual):
        raise ValueError(f"{name} with its bytes in another file")
    room = _EXPANSION * os.path.getsize(file.filename)
    if not dataset.is_virtual and dataset.nbytes > room:
        raise ValueError(f"{name} larger than its file can hold")
    return dataset


def linked(file: h5py.File, name: str) -> Any:
    """What lies under a name in this file itself, and not behind a link."""
    link = file.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise ValueError(f"{name} is missing" if link is None else f"{name} a link")
    return file[name]
