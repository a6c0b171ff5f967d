"""The small file of a store in parts, which shows keys and matrices of part files."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from featcache.errors import StoreError, StoreUnavailableError
from featcache.features.store.base import NO_MASK, Header, Store
from featcache.features.store.key_columns import (
    COLUMNS,
    combined_key_sums,
    key_mapping,
    virtual_columns,
)
from featcache.features.store.reader import open_store
from featcache.features.store.segments import (
    PARTS,
    Segment,
    combined_checksum,
    dataset_name,
    matrix_mapping,
    parts_text,
    starts,
)
from featcache.features.store.write import (
    describe,
    new_file,
    policy_numbers,
    renumbered,
    write_keys,
)


def write_master(
    path: Path,
    header: Header,
    keys: pd.DataFrame,
    dims: Mapping[str, int],
    segments: Sequence[Segment],
) -> Store:
    """Writes a store whose rows lie in part files, atomically.

    Args:
        path: The store.
        header: As of a store.
        keys: N rows, in the order of the segments'.
        dims: Width of each matrix.
        segments: The part files; rows of a matrix that one lacks are NaN.

    Returns:
        The store.

    Raises:
        StoreError: No room, or a part is damaged.
    """
    segments = [
        _with_keys(segment, keys.iloc[start : start + segment.rows], header)
        for segment, start in zip(segments, starts(segments), strict=True)
    ]
    virtual = virtual_columns(segments)
    with new_file(path) as file:
        sealed = {
            name: _map_matrix(file, name, len(keys), dim, header.dtype, segments)
            for name, dim in dims.items()
        }
        for name in virtual:
            _map_keys(file, name, keys, segments)
        write_keys(file, keys, {*COLUMNS} - virtual)
        text = parts_text(segments)
        file.create_dataset(PARTS, data=text, dtype=h5py.string_dtype("utf-8"))
        sums = combined_key_sums(segments)
        created = describe(file, header, len(keys), sums, sealed, {PARTS: text})
    return Store(
        path,
        header,
        dims=dict(dims),
        filled={name: int(values["filled"]) for name, values in sealed.items()},
        checksums={name: str(values["sha256"]) for name, values in sealed.items()},
        segments=tuple(segments),
        keys=keys.reset_index(drop=True),
        created=created,
    )


def _with_keys(segment: Segment, keys: pd.DataFrame, header: Header) -> Segment:
    """A segment whose first file has the checksums of its keys.

    A store of an earlier version has them not.

    Raises:
        StoreError: The file has other keys than the store.
    """
    first, *others = segment.files
    if first.keys_sha256:
        return segment
    try:
        part = open_store(first.path)
    except StoreUnavailableError:
        raise
    except StoreError as error:
        raise first.damaged(error.got) from error
    (own,) = part.segments
    number_of = policy_numbers(part.header, header)
    own_file = own.files[0].renumbered(number_of)
    if not renumbered(part, header).equals(keys.reset_index(drop=True)):
        raise first.damaged("keys of other rows")
    sums = {name: getattr(own_file, name) for name in ("keys_sha256", "paths_sha256")}
    first = replace(first, **sums, policies=own_file.policies)
    return replace(segment, files=(first, *others))


def _map_matrix(
    file: h5py.File,
    name: str,
    rows: int,
    dim: int,
    dtype: "np.dtype[Any]",
    segments: Sequence[Segment],
) -> dict[str, str | int]:
    pieces = matrix_mapping(name, segments, dim)
    target = _map(file, dataset_name(name), (rows, dim), dtype, pieces, np.nan)
    sealed: dict[str, str | int] = {
        "filled": sum(segment.filled.get(name, 0) for segment in segments),
        "sha256": combined_checksum(name, segments),
    }
    target.attrs.update(sealed)
    return sealed


def _map_keys(
    file: h5py.File, name: str, keys: pd.DataFrame, segments: Sequence[Segment]
) -> None:
    pieces = key_mapping(name, segments, keys)
    if name != "mask_id" or (keys[name] != NO_MASK).any():
        _map(file, name, (len(keys),), COLUMNS[name], pieces, None)


def _map(
    file: h5py.File,
    name: str,
    shape: tuple[int, ...],
    dtype: "np.dtype[Any]",
    pieces: Sequence[tuple[Any, str, str]],
    fill: float | None,
) -> h5py.Dataset:
    layout = h5py.VirtualLayout(shape, dtype)
    for ((low, *_), (high, *_)), part, dataset in pieces:
        own = (high + 1 - low, *shape[1:])
        layout[low : high + 1] = h5py.VirtualSource(part, dataset, own, dtype)
    return file.create_virtual_dataset(name, layout, fillvalue=fill)
