"""Writing a feature store: sealed parts, and publishing by merging them."""

import contextlib
import hashlib
import io
import re
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from featcache.core.io import ForgivingFile, atomic_path, canonical_json, lock
from featcache.errors import StoreError
from featcache.features.store.base import (
    KEY,
    NO_MASK,
    NO_POLICY,
    SCHEMA,
    Header,
    Store,
    check_contract,
    header_sha256,
)
from featcache.features.store.key_columns import COLUMNS, key_sums
from featcache.features.store.segments import dataset_name, slab_rows

_CHUNK_BYTES = 512 * 2**10
_SPARE_BYTES = 16 * 2**20
_PART = re.compile(r"[0-9]{6,}\.h5")


def writing(
    path: Path, on_takeover: Callable[[str], None] | None = None
) -> AbstractContextManager[None]:
    """Makes the caller the only writer of a store; see ``featcache.core.io.lock``."""
    return lock(path.with_suffix(".lock"), path.name, on_takeover=on_takeover)


def parts_folder(path: Path) -> Path:
    """The folder of a store's sealed parts."""
    return path.with_suffix(".parts")


def part_files(path: Path) -> list[Path]:
    """The sealed parts of a store, the oldest first."""
    files = parts_folder(path).glob("*.h5")
    return sorted(file for file in files if _PART.fullmatch(file.name))


def seal(
    path: Path, header: Header, outputs: Mapping[str, np.ndarray], keys: pd.DataFrame
) -> Path:
    """Seals computed rows as the next part of a store.

    Args:
        path: The store they belong to.
        header: Its header.
        outputs: (N, D) matrices by name: "features" and any taps.
        keys: N rows of image_id, view, policy, path and, where masks were used,
            mask_id.
    """
    number = 1 + max((int(part.stem) for part in part_files(path)), default=-1)
    part = parts_folder(path) / f"{number:06d}.h5"
    write_rows(part, header, outputs, keys)
    return part


def write_rows(
    path: Path, header: Header, outputs: Mapping[str, np.ndarray], keys: pd.DataFrame
) -> None:
    """Writes a store of rows that are in memory, atomically; as for ``seal``."""
    keys = keys if "mask_id" in keys else keys.assign(mask_id=NO_MASK)
    # Written in memory first: HDF5 and a full disk do not get on.
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        _fill(file, header, keys, {name: _Given(m) for name, m in outputs.items()})
    with atomic_path(path) as temp:
        temp.write_bytes(buffer.getbuffer())


def merge(
    path: Path,
    header: Header,
    sources: list[Store],
    *,
    keep: Callable[[pd.DataFrame], np.ndarray] | None = None,
) -> None:
    """Writes a new store from others, each key once, atomically.

    Args:
        path: The new store.
        header: Its contract and policies; the sources' policies come first.
        sources: In order; of a row that several have, the first one's counts.
        keep: From the merged keys to which of them to keep, (N,) bool.

    Raises:
        ContractError: A source was made under another contract.
        StoreError: No room, or a source is damaged: what has rotted must not get a
            fresh checksum.
    """
    for source in sources:
        check_contract(source, header)
        source.verify()
    header = joint_header(sources, header)
    rows = [
        renumbered(source, header).assign(source=n, row=np.arange(len(source.keys)))
        for n, source in enumerate(sources)
    ]
    rows_of = pd.concat(rows, ignore_index=True)
    keys = rows_of.drop_duplicates(KEY)
    if keep:
        keys = keys[keep(keys)]
    names = list(dict.fromkeys(name for source in sources for name in source.dims))
    gathered = {name: _Gathered(name, sources, rows_of, keys) for name in names}
    width = sum(matrix.dim for matrix in gathered.values())
    _check_room(path, len(keys) * width * header.dtype.itemsize)
    with new_file(path) as file:
        _fill(file, header, keys, gathered)


def joint_header(sources: Sequence[Store], header: Header) -> Header:
    """The header of the rows of all sources: the newest's, with everyone's policies."""
    joint = replace(sources[-1].header, policies=[])
    for one in (*(source.header for source in sources), header):
        for policy in one.policies:
            joint, _ = joint.with_policy(policy)
    return joint


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file that appears under its name when it is complete."""
    with atomic_path(path) as temp:
        try:
            with ForgivingFile(temp) as raw:
                with h5py.File(raw, "w") as file:
                    yield file
                raw.raise_first_error()
        except OSError as error:
            raise StoreError(
                f"to write {path}",
                str(error),
                "Finished work is kept: free some space and run the command again.",
            ) from error


def renumbered(store: Store, header: Header) -> pd.DataFrame:
    """A store's keys, with policies numbered as in a header that has all of them."""
    index = policy_numbers(store.header, header) | {NO_POLICY: NO_POLICY}
    return store.keys.assign(policy=store.keys["policy"].map(index))


def policy_numbers(old: Header, new: Header) -> dict[int, int]:
    """By the number of each policy of a header, another's; those that it has."""
    pairs = [(number, policy) for number, policy in enumerate(old.policies)]
    return {n: new.policies.index(p) for n, p in pairs if p in new.policies}


def rows_in(stored: pd.DataFrame, keys: pd.DataFrame) -> np.ndarray:
    """The row of each key among stored ones, (n,); -1 for none."""
    near = np.flatnonzero(stored["image_id"].isin(keys["image_id"]))
    rows = _index(stored.iloc[near]).get_indexer(_index(keys))
    return np.asarray(np.append(near, -1)[rows])


def _index(keys: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(keys[KEY])


@dataclass
class _Given:
    """A matrix in memory."""

    matrix: np.ndarray

    @property
    def dim(self) -> int:
        return int(self.matrix.shape[1])

    def blocks(self) -> Iterator[np.ndarray]:
        yield self.matrix


class _Gathered:
    """A matrix whose rows lie in several stores; read in bounded blocks."""

    def __init__(
        self, name: str, sources: list[Store], rows_of: pd.DataFrame, keys: pd.DataFrame
    ) -> None:
        self.name = name
        self.sources = sources
        self.dim = next(s.dims[name] for s in sources if name in s.dims)
        have = np.concatenate([s.has(name) for s in sources])
        first = rows_of[have].drop_duplicates(KEY).set_index(KEY)[["source", "row"]]
        origin = first.reindex(pd.MultiIndex.from_frame(keys[KEY])).fillna(-1)
        self.source = origin["source"].to_numpy(int)
        self.row = origin["row"].to_numpy(int)

    def blocks(self) -> Iterator[np.ndarray]:
        step = slab_rows(self.dim)
        for start in range(0, len(self.row), step):
            source, row = (a[start : start + step] for a in (self.source, self.row))
            block = np.full((len(row), self.dim), np.nan, np.float32)
            for number in np.unique(source[source >= 0]):
                mine = source == number
                block[mine] = self._rows(self.sources[number], row[mine])
            yield block

    def _rows(self, store: Store, rows: np.ndarray) -> np.ndarray:
        # One contiguous read: rows that land in one block lie close together.
        low, high = rows.min(), rows.max() + 1
        return np.asarray(store.span(self.name, low, high)[rows - low])


def _check_room(path: Path, need: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if free < need + _SPARE_BYTES:
        raise StoreError(
            f"{(need + _SPARE_BYTES) / 2**20:.0f} MiB free for {path}",
            f"{free / 2**20:.0f} MiB",
            "Finished work is kept: free some space and run the command again.",
        )


def _fill(
    file: h5py.File,
    header: Header,
    keys: pd.DataFrame,
    matrices: Mapping[str, _Given | _Gathered],
) -> None:
    sealed = {
        name: _write_matrix(file, name, matrix, len(keys), header.dtype)
        for name, matrix in matrices.items()
    }
    write_keys(file, keys, COLUMNS)
    describe(file, header, len(keys), key_sums(keys), sealed, {})


def write_keys(file: h5py.File, keys: pd.DataFrame, names: Collection[str]) -> None:
    """Writes columns of keys into a file itself."""
    for name in names:
        values = keys[name].to_numpy()
        if name in ("image_id", "mask_id"):
            values = values.astype("S64")
        if name != "mask_id" or (keys[name] != NO_MASK).any():
            file.create_dataset(name, data=values, dtype=COLUMNS[name])


def describe(
    file: h5py.File,
    header: Header,
    rows: int,
    sums: Mapping[str, str],
    sealed: Mapping[str, Mapping[str, str | int]],
    texts: Mapping[str, str],
) -> str:
    """Writes the attributes, the mark of a complete file last.

    Args:
        file: With all else in it.
        header: Of the store.
        rows: Their number.
        sums: Checksums of keys and paths.
        sealed: By matrix, its attributes.
        texts: Further texts that the header's checksum is of.

    Returns:
        When it was written, as the file has it.
    """
    about = asdict(header) | {"contract": header.contract.to_json()}
    attributes: dict[str, str | int] = {
        "featcache_schema": SCHEMA,
        "contract_id": header.contract_id,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "rows": rows,
        **sums,
        **{k: v if isinstance(v, str) else canonical_json(v) for k, v in about.items()},
    }
    for name, value in attributes.items():
        file.attrs[name] = value
    file.attrs["header_sha256"] = header_sha256({**attributes, **texts}, sealed)
    file.attrs["complete"] = True
    return str(attributes["created"])


def _write_matrix(
    file: h5py.File,
    name: str,
    matrix: _Given | _Gathered,
    rows: int,
    dtype: "np.dtype[Any]",
) -> dict[str, str | int]:
    chunk = max(1, min(rows, _CHUNK_BYTES // (matrix.dim * dtype.itemsize)))
    target = file.create_dataset(
        dataset_name(name),
        (rows, matrix.dim),
        dtype,
        chunks=(chunk, matrix.dim),
        fillvalue=np.nan,
        fletcher32=True,
    )
    start, filled, sha = 0, 0, hashlib.sha256()
    for block in matrix.blocks():
        stored = np.ascontiguousarray(block, dtype)
        if np.isnan(stored).all():  # is not written, and takes no space
            stored = np.full_like(stored, np.nan)
        else:
            target[start : start + len(stored)] = stored
        sha.update(stored.data)
        filled += int((~np.isnan(stored[:, 0])).sum())
        start += len(stored)
    sealed: dict[str, str | int] = {"filled": filled, "sha256": sha.hexdigest()}
    target.attrs.update(sealed)
    return sealed
