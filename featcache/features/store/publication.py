"""Publishing: sealed rows become part of the store, in one file or in several.

Below a size the store is rewritten as one file. Above it, the rows that are there stay
where they are: the store becomes a small file that names its part files, and shows
them as one matrix.
"""

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from featcache.core.io import fsync_dir
from featcache.errors import ContractError, StoreError, StoreUnavailableError
from featcache.features.store.base import NO_POLICY, Header, Store, check_contract
from featcache.features.store.data_files import (
    as_parts,
    new_part,
    remove_unused,
    written_part,
)
from featcache.features.store.master import write_master
from featcache.features.store.reader import open_store
from featcache.features.store.repair import joined, rebuild
from featcache.features.store.segments import Segment
from featcache.features.store.write import (
    joint_header,
    merge,
    part_files,
    parts_folder,
    renumbered,
    rows_in,
)

# Matrices of at least so many bytes are not rewritten to add rows.
PARTS_ABOVE = 2**30


def publish(
    path: Path, header: Header, *, on_damage: Callable[[str], None] | None = None
) -> Store | None:
    """Adds the sealed parts of a store to it, then drops them.

    A store of at least ``PARTS_ABOVE`` bytes gets further part files; any other is
    merged with them into one new file.

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
        published = [open_store(path)]
    elif parts:
        published = [add(path, header, published, parts)]
    for file in [*done, *parts_folder(path).glob(".[0-9]*.h5.*.tmp")]:
        file.unlink(missing_ok=True)
    # What is not ours, or of another contract, stays.
    with contextlib.suppress(OSError):
        parts_folder(path).rmdir()
    for stored in published:
        remove_unused(path, stored)
    return published[0] if published else None


def _is_the_store(header: Header, parts: list[Store]) -> bool:
    """Whether a part is all that there is: the store that a merge would write."""
    return len(parts) == 1 and parts[0].header.policies == header.policies


def add(
    path: Path, header: Header, published: Sequence[Store], parts: Sequence[Store]
) -> Store:
    """Adds rows to a store, which is published in one step.

    Args:
        path: Of the store.
        header: Of a store that is not there yet.
        published: The store, if it is there.
        parts: Stores of further rows, or of matrices that its rows lack.

    Returns:
        The store as it is then.
    """
    if not any(one.is_in_parts or one.nbytes >= PARTS_ABOVE for one in published):
        merge(path, header, [*published, *parts])
        return open_store(path)
    (stored,) = published
    rows = [_numbers(stored, part) for part in parts]
    filled = _with_matrices(path, header, stored, parts, rows)
    if new_rows := sum(int((one < 0).sum()) for one in rows):
        return _extend(path, header, filled, parts, new_rows)
    if filled is stored:
        return stored
    return write_master(path, filled.header, filled.keys, filled.dims, filled.segments)


def _numbers(stored: Store, part: Store) -> np.ndarray:
    """Which row of a store each row of a part is, (n,); -1 for none."""
    header = joint_header([stored], part.header)
    return rows_in(stored.keys, renumbered(part, header))


def _with_matrices(
    path: Path,
    header: Header,
    stored: Store,
    parts: Sequence[Store],
    rows: Sequence[np.ndarray],
) -> Store:
    """The store with the parts' values for rows that it has without them.

    They go into files beside those of the rows, with nothing else: what else there is
    of these rows is neither read nor written.
    """
    names = dict.fromkeys(name for part in parts for name in part.dims)
    has = {name: stored.has(name) for name in names}
    ends = np.cumsum([segment.rows for segment in stored.segments])
    missing: dict[int, set[str]] = {}
    for part, numbers in zip(parts, rows, strict=True):
        for name in part.dims:
            filling = numbers[part.has(name) & (numbers >= 0)]
            filling = filling[~has[name][filling]]
            for number in np.unique(np.searchsorted(ends, filling, "right")):
                missing.setdefault(int(number), set()).add(name)
    if not missing:
        return stored
    segments = [as_parts(path, segment) for segment in stored.segments]
    for number, of_segment in missing.items():
        piece = stored.part(number, number + 1)
        sources = [_matrices(one, of_segment) for one in (piece, *parts)]
        segments[number] = _beside(path, header, segments[number], sources)
    stored_names = {name for segment in segments for name in segment.checksums}
    dims = {n: d for one in (*parts, stored) for n, d in one.dims.items()}
    return replace(
        stored,
        header=joint_header([stored, *parts], header),
        dims={name: dim for name, dim in dims.items() if name in stored_names},
        segments=tuple(segments),
    )


def _matrices(stored: Store, names: set[str]) -> Store:
    """A store with some of its matrices alone."""
    dims = {name: dim for name, dim in stored.dims.items() if name in names}
    return replace(stored, dims=dims)


def _beside(
    path: Path, header: Header, segment: Segment, sources: list[Store]
) -> Segment:
    """A segment with one more file, of the matrices and of the first source's rows."""
    new, own = new_part(path), sources[0].keys
    merge(new, header, sources, keep=lambda keys: rows_in(own, keys) >= 0)
    (file,) = written_part(new).files
    kept = [one for one in segment.files if {*one.checksums} - {*file.checksums}]
    return replace(segment, files=(*kept, file))


def _extend(
    path: Path, header: Header, stored: Store, parts: Sequence[Store], new_rows: int
) -> Store:
    """Puts new rows into a part file, and the last files' rows if they are fewer.

    A row is thus written again only when the file it goes to is twice as large.
    """
    count = len(stored.segments)
    while count and stored.segments[count - 1].rows <= new_rows:
        count -= 1
        new_rows += stored.segments[count].rows
    if not count:
        merge(path, header, [stored, *parts])
        return open_store(path)
    kept, last = stored.part(0, count), stored.part(count, None)
    new = new_part(path)
    # First the policies of the store, for its keys have their numbers.
    sources = [stored.part(0, 0), *([last] if last.segments else []), *parts]
    merge(new, header, sources, keep=lambda keys: rows_in(kept.keys, keys) < 0)
    part = open_store(new)
    segments = [as_parts(path, segment) for segment in kept.segments]
    keys = pd.concat([kept.keys, part.keys], ignore_index=True)
    dims = stored.dims | part.dims
    return write_master(path, part.header, keys, dims, [*segments, written_part(new)])


def drop_rows(path: Path, drop: np.ndarray) -> None:
    """Removes rows of a store, and policies that no row is of then.

    Of a store in parts, only files with such rows are read and written anew, unless it
    is so small then that it becomes one file. The caller is its only writer.

    Args:
        path: The store.
        drop: (N,) bool; not all.

    Raises:
        StoreError: No room, or what has to be read is damaged: what has rotted must
            not get a fresh checksum.
    """
    marked = _marked(open_store(path), drop)
    if not marked.is_in_parts or marked.nbytes * (~drop).mean() < PARTS_ABOVE:
        merge(path, marked.header, [marked], keep=_is_named)
        left = open_store(path)
    else:
        pieces = [marked.part(i, i + 1) for i in range(len(marked.segments))]
        named = [_thinned(path, one) for one in pieces if _is_named(one.keys).any()]
        left = write_master(path, *joined(marked.header, named))
    remove_unused(path, left)


def _marked(stored: Store, drop: np.ndarray) -> Store:
    """The store with rows to drop under an empty id, and without empty policies."""
    policy = stored.keys["policy"]
    kept = sorted({*policy[~drop]} - {NO_POLICY})
    number = {old: new for new, old in enumerate(kept)}
    keys = stored.keys.assign(
        image_id=stored.keys["image_id"].where(~drop, ""),
        policy=[number.get(p, NO_POLICY) for p in policy],
    )
    policies = [stored.header.policies[i] for i in kept]
    return replace(
        stored,
        header=replace(stored.header, policies=policies),
        keys=keys,
        segments=tuple(segment.renumbered(number) for segment in stored.segments),
    )


def _is_named(keys: pd.DataFrame) -> np.ndarray:
    return (keys["image_id"] != "").to_numpy()


def _thinned(path: Path, piece: Store) -> Store:
    """The rows of a segment without the marked ones; a file of its own if any are."""
    if _is_named(piece.keys).all():
        return piece
    new = new_part(path)
    merge(new, piece.header, [piece], keep=_is_named)
    return replace(open_store(new), segments=(written_part(new),))


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
