"""The part files of a store in their folder beside it."""

import contextlib
import os
import re
import secrets
import shutil
from dataclasses import replace
from pathlib import Path

from featcache.core.io import atomic_path, fsync_dir
from featcache.features.store.base import Store
from featcache.features.store.reader import open_store
from featcache.features.store.segments import DATA, PART_FILE, RowFile, Segment


def data_folder(path: Path) -> Path:
    """The folder of the part files of a store that is not one file."""
    return path.with_suffix(DATA)


def data_files(path: Path) -> list[Path]:
    """The files in that folder under names of part files, temporary ones too."""
    names = rf"{PART_FILE.pattern}|\.{PART_FILE.pattern}\.[a-z0-9_]+\.tmp"
    files = data_folder(path).glob("*")
    return sorted(file for file in files if re.fullmatch(names, file.name))


def new_part(path: Path) -> Path:
    """A name for a new part file."""
    data_folder(path).mkdir(exist_ok=True)
    return data_folder(path) / f"{secrets.token_hex(8)}.h5"


def as_parts(path: Path, segment: Segment) -> Segment:
    """A segment in part files: the store's own file gets a second name as one."""
    return replace(segment, files=tuple(_as_part(path, one) for one in segment.files))


def _as_part(path: Path, file: RowFile) -> RowFile:
    if file.is_part:
        return file
    part = new_part(path)
    try:
        os.link(path, part)
    except OSError:  # a file system without links
        with atomic_path(part) as temp:
            shutil.copyfile(path, temp)
    fsync_dir(part.parent)
    return replace(file, path=part, is_part=True)


def written_part(path: Path) -> Segment:
    """The rows of a part file that was just written."""
    (segment,) = open_store(path).segments
    return replace(segment, files=(replace(segment.files[0], is_part=True),))


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
    named = {file.path for segment in stored.segments for file in segment.files}
    return [file for file in data_files(path) if file not in named]


def remove(path: Path) -> None:
    """Removes a store and its part files; the caller is its only writer."""
    path.unlink(missing_ok=True)
    fsync_dir(path.parent)
    for file in data_files(path):
        file.unlink()
    with contextlib.suppress(OSError):  # what is not ours stays
        data_folder(path).rmdir()
