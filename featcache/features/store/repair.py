"""Repairing a store in parts: what is whole of it stays."""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from featcache.errors import StoreError, StoreUnavailableError
from featcache.features.store.base import FEATURES, KEY, Header, Store
from featcache.features.store.data_files import data_files, written_part
from featcache.features.store.master import write_master
from featcache.features.store.reader import open_store
from featcache.features.store.segments import RowFile, Segment
from featcache.features.store.write import policy_numbers, renumbered, rows_in


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
    damaged: list[Path] = []
    left: list[Store] = []
    for number, segment in enumerate(stored.segments):
        piece = stored.part(number, number + 1)
        whole = [one for one in segment.files if _is_whole(_with_files(piece, one))]
        damaged += [one.path for one in segment.files if one not in whole]
        if segment.files[0] in whole:  # else the rows go, and not only some matrices
            left.append(_with_files(piece, *whole))
    if not stored.is_in_parts or not left:
        return []
    write_master(path, *joined(stored.header, left))
    for file in damaged:
        if file.exists():
            file.rename(file.with_name(f"{file.name}.damaged"))
    return damaged


def _with_files(piece: Store, *files: RowFile) -> Store:
    """One segment with some of its files, and the matrices that these have."""
    (segment,) = piece.segments
    return replace(piece, segments=(replace(segment, files=files),)).part(0, 1)


def rebuild(path: Path) -> list[Path]:
    """Writes the file of a store in parts anew where it is missing.

    The caller is its only writer.

    Returns:
        The part files that it names, the largest first; of those of other contracts
        or with rows that others have, left by a crash, none.
    """
    stores = [one for file in data_files(path) for one in _whole_store(file)]
    stores.sort(key=lambda one: (-len(one.keys), FEATURES not in one.dims))
    pieces: list[Store] = []
    for stored in stores:
        if not pieces:
            header, keys = stored.header, stored.keys[:0]
        if header.contract != stored.header.contract:
            continue
        for policy in stored.header.policies:
            header, _ = header.with_policy(policy)
        own = in_numbers_of(header, stored)
        if (rows_in(keys, own.keys) < 0).all():
            keys = pd.concat([keys, own.keys])
            pieces.append(own)
        else:
            pieces = [_beside(piece, own) for piece in pieces]
    if pieces:
        write_master(path, *joined(header, pieces))
    return [f.path for one in pieces for s in one.segments for f in s.files]


def _beside(piece: Store, other: Store) -> Store:
    """A piece with another's matrices as well, if these are of the same rows."""
    (old,), (new,) = piece.segments, other.segments
    is_fuller = any(n > old.filled.get(name, 0) for name, n in new.filled.items())
    if not is_fuller or not piece.keys[KEY].equals(other.keys[KEY]):
        return piece
    segment = replace(old, files=(*old.files, *new.files))
    return replace(piece, segments=(segment,), dims=piece.dims | other.dims)


def _whole_store(file: Path) -> list[Store]:
    try:
        stored = open_store(file)
    except StoreUnavailableError:
        raise
    except StoreError:
        return []
    segments = tuple(written_part(file) for _ in stored.segments)
    return [replace(stored, segments=segments)] if _is_whole(stored) else []


def check_parts(stored: Store) -> None:
    """Opens the part files of a store, and compares their keys with the store's.

    Raises:
        StoreError: Names the first that is missing, damaged or of other rows.
        StoreUnavailableError: One cannot be opened now.
    """
    columns = ["image_id", "view", "mask_id", "path"]
    for number, segment in enumerate(stored.segments):
        keys = stored.part(number, number + 1).keys[columns]
        for file in segment.files:
            if file.is_part and not _keys_of(file)[columns].equals(keys):
                raise file.damaged("keys of other rows")


def _keys_of(file: RowFile) -> pd.DataFrame:
    file.check_presence()
    try:
        return open_store(file.path).keys
    except StoreUnavailableError:
        raise
    except StoreError as error:
        raise file.damaged(error.got) from error


def _is_whole(stored: Store) -> bool:
    try:
        check_parts(stored)
        stored.verify()
    except StoreUnavailableError:
        raise
    except StoreError:
        return False
    return True


def in_numbers_of(header: Header, stored: Store) -> Store:
    """A store as it is under a header with its policies in another order."""
    numbers = policy_numbers(stored.header, header)
    return replace(
        stored,
        keys=renumbered(stored, header),
        segments=tuple(segment.renumbered(numbers) for segment in stored.segments),
    )


def joined(
    header: Header, pieces: list[Store]
) -> tuple[Header, pd.DataFrame, dict[str, int], list[Segment]]:
    """What ``write_master`` needs to put parts together."""
    keys = pd.concat([piece.keys for piece in pieces], ignore_index=True)
    segments = [segment for piece in pieces for segment in piece.segments]
    dims = {name: dim for piece in pieces for name, dim in piece.dims.items()}
    return header, keys, dims, segments
