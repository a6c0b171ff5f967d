"""Publishing: sealed rows become part of the store, in one file or in several.

Below a size the store is rewritten as one file. Above it, the rows that are there stay
where they are: the store becomes a small file that names its part files, and shows
them as one matrix.
"""

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from featcache.core.io import atomic_path, fsync_dir
from featcache.errors import ContractError, StoreError, StoreUnavailableError
from featcache.features.store.base import KEY, Header, Store, check_contract
from featcache.features.store.reader import open_store
from featcache.features.store.segments import DATA, PART_FILE, Segment
from featcache.features.store.write import (
    merge,
    part_files,
    parts_folder,
    renumbered,
    write_master,
)

# Matrices of at least so many bytes are not rewritten to add rows.
PARTS_ABOVE = 2**30


def data_folder(path: Path) -> Path:
    """The folder of the part files of a store that is not one file."""
    return path.with_suffix(DATA)


def data_files(path: Path) -> list[Path]:
    """The files in that folder under names of part files, temporary ones too."""
    names = rf"{PART_FILE.pattern}|\.{PART_FILE.pattern}\.[a-z0-9_]+\.tmp"
    files = data_folder(path).glob("*")
    return sorted(file for file in files if re.fullmatch(names, file.name))


def publish(
    path: Path, header: Header, *, on_damage: Callable[[str], None] | None = None
) -> Store | None:
    """Adds the sealed parts of a store to it, then drops them.

    A store of at least ``PARTS_ABOVE`` bytes gets another part file, unless matrices
    are added to rows that it has; any other is merged with them into one new file.

    A part that is damaged is left out and reported: its rows are missing then,
    and are computed again. One of another contract is left out too, and stays.
    Without a store or parts there is nothing to publish. A part that is alone becomes
    the store as it is.

    Raises:
        StoreError: No room for the new file, or the old store is damaged.
        StoreUnavailableError: The store or a part cannot be opened now.
    """
    if not path.exists():
        rebuild(path)
    published = [open_store(path)] if path.exists() else []
    parts, done = [], []
    for file in part_files(path):
        try:
            part = open_store(file)
            check_contract(part, published[0].header if published else header)
            part.verify()
            parts.append(part)
        except StoreUnavailableError:
            raise
        except StoreError as error:
            if on_damage:
                on_damage(f"sealed part left out, its rows are computed again: {error}")
            if isinstance(error, ContractError):
                continue
        done.append(file)
    if not published and _is_the_store(header, parts):
        os.replace(parts[0].path, path)
        fsync_dir(path.parent)
    elif parts:
        add(path, header, published, parts)
    for file in [*done, *parts_folder(path).glob(".[0-9]*.h5.*.tmp")]:
        file.unlink(missing_ok=True)
    # What is not ours, or of another contract, stays.
    with contextlib.suppress(OSError):
        parts_folder(path).rmdir()
    if not path.exists():
        return None
    stored = open_store(path)
    remove_unused(path, stored)
    return stored


def _is_the_store(header: Header, parts: list[Store]) -> bool:
    """Whether a part is all that there is: the store that a merge would write."""
    return len(parts) == 1 and parts[0].header.policies == header.policies


def add(
    path: Path, header: Header, published: Sequence[Store], parts: Sequence[Store]
) -> None:
    """Adds rows to a store, which is published in one step.

    Args:
        path: Of the store.
        header: Of a store that is not there yet.
        published: The store, if it is there.
        parts: Stores of further rows, or of matrices that its rows lack.
    """
    for stored in published:
        if not stored.is_in_parts and stored.nbytes < PARTS_ABOVE:
            continue
        numbers = [_numbers(stored, part) for part in parts]
        if any(_fills(stored, *pair) for pair in zip(parts, numbers, strict=True)):
            continue
        if new_rows := sum(int((rows < 0).sum()) for rows in numbers):
            _extend(path, header, stored, parts, new_rows)
        return
    merge(path, header, [*published, *parts])


def _numbers(stored: Store, part: Store) -> np.ndarray:
    """Which row of a store each row of a part is, (n,); -1 for none."""
    header = stored.header
    for policy in part.header.policies:
        header, _ = header.with_policy(policy)
    return _rows_in(stored.keys, renumbered(part, header))


def _rows_in(stored: pd.DataFrame, keys: pd.DataFrame) -> np.ndarray:
    """The row of each key among stored ones, (n,); -1 for none."""
    near = np.flatnonzero(stored["image_id"].isin(keys["image_id"]))
    rows = _index(stored.iloc[near]).get_indexer(_index(keys))
    return np.asarray(np.append(near, -1)[rows])


def _index(keys: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(keys[KEY])


def _fills(stored: Store, part: Store, rows: np.ndarray) -> bool:
    """Whether a part has a matrix's values for rows of the store that lack them."""
    common = rows >= 0
    return bool(common.any()) and any(
        bool((part.has(name)[common] & ~stored.has(name)[rows[common]]).any())
        for name in part.dims
    )


def _extend(
    path: Path, header: Header, stored: Store, parts: Sequence[Store], new_rows: int
) -> None:
    """Puts new rows into a part file, and the last files' rows if they are fewer.

    A row is thus written again only when the file it goes to is twice as large.
    """
    count = len(stored.segments)
    while count and stored.segments[count - 1].rows <= new_rows:
        count -= 1
        new_rows += stored.segments[count].rows
    if not count:
        merge(path, header, [stored, *parts])
        return
    kept, last = _slice(stored, 0, count), _slice(stored, count, None)
    new = _new_part(path)
    # First the policies of the store, for its keys have their numbers.
    sources = [_slice(stored, 0, 0), *([last] if last.segments else []), *parts]
    merge(new, header, sources, keep=lambda keys: _rows_in(kept.keys, keys) < 0)
    part = open_store(new)
    segments = [_as_part(path, segment) for segment in kept.segments]
    keys = pd.concat([kept.keys, part.keys], ignore_index=True)
    segments += [replace(segment, is_part=True) for segment in part.segments]
    write_master(path, part.header, keys, stored.dims | part.dims, segments)


def _slice(stored: Store, first: int, end: int | None) -> Store:
    """A store with the rows of some of its segments alone."""
    segments = stored.segments[first:end]
    start = sum(segment.rows for segment in stored.segments[:first])
    rows = sum(segment.rows for segment in segments)
    names = [n for n in stored.dims if any(n in one.checksums for one in segments)]
    return replace(
        stored,
        dims={name: stored.dims[name] for name in names},
        filled={n: sum(one.filled.get(n, 0) for one in segments) for n in names},
        segments=segments,
        keys=stored.keys.iloc[start : start + rows].reset_index(drop=True),
    )


def _new_part(path: Path) -> Path:
    data_folder(path).mkdir(exist_ok=True)
    return data_folder(path) / f"{secrets.token_hex(8)}.h5"


def _as_part(path: Path, segment: Segment) -> Segment:
    """A segment in a part file: the store's own file gets a second name as one."""
    if segment.is_part:
        return segment
    part = _new_part(path)
    try:
        os.link(path, part)
    except OSError:  # a file system without links
        with atomic_path(part) as temp:
            shutil.copyfile(path, temp)
    fsync_dir(part.parent)
    return replace(segment, path=part, is_part=True)


def remove_unused(path: Path, stored: Store) -> None:
    """Removes part files that a store does not name, as after a crash.

    Args:
        path: The store, whose only writer the caller is.
        stored: The same, opened now.
    """
    for file in unused_files(path, stored):
        file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # what is not ours stays
        data_folder(path).rmdir()


def unused_files(path: Path, stored: Store) -> list[Path]:
    """Part files that a store does not name."""
    named = {segment.path for segment in stored.segments}
    return [file for file in data_files(path) if file not in named]


def remove(path: Path) -> None:
    """Removes a store and its part files; the caller is its only writer."""
    path.unlink(missing_ok=True)
    fsync_dir(path.parent)
    for file in data_files(path):
        file.unlink()
    with contextlib.suppress(OSError):  # what is not ours stays
        data_folder(path).rmdir()


def compact(path: Path) -> Store:
    """Merges the part files of a store into one file; the caller is its only writer.

    Raises:
        StoreError: No room for the new file, or the store is damaged.
    """
    stored = open_store(path)
    if stored.is_in_parts:
        merge(path, stored.header, [stored])
        stored = open_store(path)
    remove_unused(path, stored)
    return stored


def drop_damaged_parts(path: Path) -> list[Path]:
    """Writes a store in parts anew without its damaged part files.

    These are moved aside. The caller is its only writer.

    Returns:
        These files; none if nothing was done, because the store's own file is
        damaged, or no part is whole.

    Raises:
        StoreUnavailableError: A file cannot be opened now.
    """
    try:
        stored = open_store(path, all_parts=False)
    except StoreUnavailableError:
        raise
    except StoreError:
        return []
    pieces = [_slice(stored, i, i + 1) for i in range(len(stored.segments))]
    whole = [piece for piece in pieces if _is_whole(piece)]
    if not stored.is_in_parts or not whole:
        return []
    files = {segment.path for piece in whole for segment in piece.segments}
    damaged = [one.path for one in stored.segments if one.path not in files]
    write_master(path, *_joined(stored.header, whole))
    for file in damaged:
        if file.exists():
            file.rename(file.with_name(f"{file.name}.damaged"))
    return damaged


def rebuild(path: Path) -> list[Path]:
    """Writes the file of a store in parts anew where it is missing.

    The caller is its only writer.

    Returns:
        The part files that it names, the largest first; of those of other contracts
        or with rows that others have, left by a crash, none.
    """
    stores = [one for file in data_files(path) for one in _whole_store(file)]
    stores.sort(key=lambda one: len(one.keys), reverse=True)
    pieces: list[Store] = []
    for stored in stores:
        if not pieces:
            header, keys = stored.header, stored.keys[:0]
        for policy in stored.header.policies:
            header, _ = header.with_policy(policy)
        own = renumbered(stored, header)
        if header.contract == stored.header.contract and _are_new(own, keys):
            keys = pd.concat([keys, own])
            pieces.append(replace(stored, keys=own))
    if pieces:
        write_master(path, *_joined(header, pieces))
    return [segment.path for piece in pieces for segment in piece.segments]


def _whole_store(file: Path) -> list[Store]:
    try:
        stored = open_store(file)
    except StoreUnavailableError:
        raise
    except StoreError:
        return []
    segments = tuple(replace(one, is_part=True) for one in stored.segments)
    return [replace(stored, segments=segments)] if _is_whole(stored) else []


def _are_new(keys: pd.DataFrame, stored: pd.DataFrame) -> bool:
    return bool((_rows_in(stored, keys) < 0).all())


def check_parts(stored: Store) -> None:
    """Opens the part files of a store, and compares their keys with the store's.

    Raises:
        StoreError: Names the first that is missing, damaged or of other rows.
        StoreUnavailableError: One cannot be opened now.
    """
    for number, segment in enumerate(stored.segments):
        if segment.is_part:
            columns = ["image_id", "view", "mask_id", "path"]
            keys = _slice(stored, number, number + 1).keys[columns]
            if not _part_keys(segment)[columns].equals(keys):
                raise segment.damaged("keys of other rows")


def _part_keys(segment: Segment) -> pd.DataFrame:
    segment.check_presence()
    try:
        return open_store(segment.path).keys
    except StoreUnavailableError:
        raise
    except StoreError as error:
        raise segment.damaged(error.got) from error


def _is_whole(stored: Store) -> bool:
    try:
        check_parts(stored)
        stored.verify()
    except StoreUnavailableError:
        raise
    except StoreError:
        return False
    return True


def _joined(
    header: Header, pieces: list[Store]
) -> tuple[Header, pd.DataFrame, dict[str, int], list[Segment]]:
    """What ``write_master`` needs to put parts together."""
    keys = pd.concat([piece.keys for piece in pieces], ignore_index=True)
    segments = [segment for piece in pieces for segment in piece.segments]
    dims = {name: dim for piece in pieces for name, dim in piece.dims.items()}
    return header, keys, dims, segments
