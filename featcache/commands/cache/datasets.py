"""Datasets of a cache: which there are, removing one, and giving one another name."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from featcache.commands.cache.listing import owner, size
from featcache.commands.cache.pruning import is_dataset
from featcache.commands.cache.removals import Removal
from featcache.core.io import fsync_dir, lock
from featcache.core.text import check_name, natural_key, some
from featcache.dataset import manifest
from featcache.dataset.urls import is_gone
from featcache.errors import DatasetError, LockedError
from featcache.evaluation.identity import ids_in

# The names that featcache gives to what it puts into a dataset's folder.
_OURS = re.compile(
    r"manifest\.csv|dataset\.json|thumbs\.npz|scan\.journal"
    r"|splits-.+\.json|extract-.+\.json"
    r"|picture-statistics\.(json|npz)|plans|corrections\.csv|manifests"
    r"|\..+\.tmp|.+\.lock"
)
_FEATURES = re.compile(
    r".+-(imagenet|random|file|none)-[0-9a-f]{8}\.(h5|parts|data|lock|h5\.damaged.*)"
    r"|\..+\.tmp"
)


@dataclass(frozen=True)
class DatasetEntry:
    """A dataset as it is listed.

    Attributes:
        dataset: Its name.
        images: Usable ones; 0 where the manifest cannot be read.
        classes: Their labels.
        stores: Feature stores.
        bytes: Of its folder in the cache.
        runs: In its reports.
        source: Where the images are.
        state: Empty; or that the images are gone, or why it cannot be read.
    """

    dataset: str
    images: int
    classes: list[str]
    stores: int
    bytes: int
    runs: int
    source: str
    state: str


@dataclass(frozen=True)
class RemovedDataset:
    """What can be removed of a dataset, or was.

    Attributes:
        dataset: Its name.
        removals: One by one.
        kept: What lies in its folder and is not of featcache; it stays.
        runs: In its reports, which stay unless they are to go too.
        reports: The folder of its reports.
        done: Whether all is removed, or only shown.
    """

    dataset: str
    removals: list[Removal]
    kept: list[Path]
    runs: int
    reports: Path
    done: bool


@dataclass(frozen=True)
class RenamedDataset:
    """A dataset under its new name.

    Attributes:
        before: Its old name.
        dataset: The new one.
        folder: In the cache.
        runs: That moved with it.
    """

    before: str
    dataset: str
    folder: Path
    runs: int


def ls_datasets(cache: Path, reports: Path) -> list[DatasetEntry]:
    """Lists the datasets of a cache, damaged ones too."""
    folders = [path for path in cache.glob("[!.]*/") if is_dataset(path)]
    folders.sort(key=lambda path: natural_key(path.name))
    return [_entry(folder, reports / folder.name) for folder in folders]


def _entry(folder: Path, reports: Path) -> DatasetEntry:
    entry = DatasetEntry(
        dataset=folder.name,
        images=0,
        classes=[],
        stores=len(list((folder / "features").glob("*.h5"))),
        bytes=size(folder),
        runs=len(ids_in(reports / "runs")),
        source="",
        state="",
    )
    try:
        images = manifest.load(folder)
    except (DatasetError, OSError) as error:
        return replace(entry, state=str(getattr(error, "got", "") or error))
    return replace(
        entry,
        images=len(images.ok),
        classes=images.classes,
        source=images.settings.source,
        state="its images are no longer there" if is_gone(images.root) else "",
    )


def remove_dataset(
    cache: Path, reports: Path, dataset: str, *, runs: bool = False, yes: bool = False
) -> RemovedDataset:
    """Finds what a dataset consists of, and removes it if told to.

    Its images are never touched, and what lies in its folder without being of
    featcache stays.

    Args:
        cache: The cache folder.
        reports: The folder of runs.
        dataset: Its name.
        runs: Also its folder in the reports, with all that is in it.
        yes: Remove; otherwise only tell.

    Raises:
        DatasetError: There is no such dataset, or its folder is a symbolic link.
        LockedError: A process is writing something of it.
    """
    folder, home = _find(cache, dataset), reports / dataset
    if runs and home.is_symlink():
        raise _is_link(home)
    if not yes:
        return _removable(folder, home, runs)
    with _unused(folder, home):
        removed = _removable(folder, home, runs)
        # The manifest goes first: what is left of an interruption is no dataset.
        paths = [removal.path for removal in removed.removals]
        for path in sorted(paths, key=lambda path: path.name != "manifest.csv"):
            _remove(path)
    for left in (folder / "features", folder, *([home] if runs else [])):
        with suppress(OSError):  # what is not ours stays
            left.rmdir()
    return replace(removed, done=True)


def _removable(folder: Path, home: Path, runs: bool) -> RemovedDataset:
    inner = folder / "features"
    features = [] if inner.is_symlink() else sorted(inner.glob("*"))
    paths = [path for path in sorted(folder.iterdir()) if path != inner]
    ours = [path for path in paths if _OURS.fullmatch(path.name)]
    ours += [path for path in features if _FEATURES.fullmatch(path.name)]
    kept = [path for path in (*paths, *features) if path not in ours]
    kept += [inner] if inner.is_symlink() else []
    reports = sorted(home.glob("*")) if runs else []
    removals = [
        Removal(kind, path, "", size(path))
        for kind, of_kind in (("cache", ours), ("reports", reports))
        for path in of_kind
        if path.suffix != ".lock"
    ]
    n_runs = len(ids_in(home / "runs"))
    return RemovedDataset(folder.name, removals, kept, n_runs, home, False)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def rename_dataset(
    cache: Path, reports: Path, dataset: str, name: str
) -> RenamedDataset:
    """Gives a dataset another name, in the cache and in the reports.

    Its stores and runs are used under the new name as before.

    Args:
        cache: The cache folder.
        reports: The folder of runs.
        dataset: Its name.
        name: The new one.

    Raises:
        DatasetError: There is no such dataset, or the name is taken.
        UsageError: The name cannot be one of a folder.
        LockedError: A process is writing something of the dataset.
    """
    check_name(name, "name")
    folder, home = _find(cache, dataset), reports / dataset
    target, reports_target = cache / name, reports / name
    for path in (target, reports_target):
        if path.exists() or path.is_symlink():
            raise DatasetError(
                "`name` to be new in the cache and in the reports",
                f"{path}, which exists",
                "Choose another name, or move that folder away first.",
            )
    n_runs = len(ids_in(home / "runs"))
    with _unused(folder, home) as locks:
        if home.exists():
            os.rename(home, reports_target)
            fsync_dir(reports)
        try:
            os.rename(folder, target)
        except OSError:
            if reports_target.exists():
                os.rename(reports_target, home)
            raise
        fsync_dir(cache)
        for path in locks:
            (target / path.relative_to(folder)).unlink(missing_ok=True)
    return RenamedDataset(dataset, name, target, n_runs)


def _find(cache: Path, dataset: str) -> Path:
    """The folder of a dataset, whether or not its manifest can be read."""
    names = {path.name for path in cache.glob("[!.]*/")}
    folder = cache / dataset
    if dataset in names and folder.is_symlink():
        raise _is_link(folder)
    if dataset in names and is_dataset(folder):
        return folder
    known = sorted(name for name in names if is_dataset(cache / name))
    raise DatasetError(
        f"`dataset` to be one of: {some(known, 20)}" if known else "a scanned dataset",
        f"{dataset!r}, which is no dataset in {cache}",
        "featcache dataset ls lists them.",
    )


def _is_link(path: Path) -> DatasetError:
    return DatasetError(
        "a folder that lies where it is used",
        f"{path}, which is a symbolic link",
        "Work on the folder that it leads to.",
    )


@contextmanager
def _unused(folder: Path, reports: Path) -> Iterator[list[Path]]:
    """Holds the locks of a dataset; refuses one that another process is writing.

    Yields:
        The lock files that are held, all inside ``folder``.

    Raises:
        LockedError: Names who is writing what.
    """
    for path in (reports / "runs").glob(".*.lock"):
        if holder := owner(path):
            raise LockedError(
                f"a run in {path.parent} is being written by {holder}",
                "Wait for it to end, or stop it; then run the command again.",
            )
    kinds = ("*.h5", "*.parts", "*.data", "*.lock")
    stores = [p for kind in kinds for p in (folder / "features").glob(kind)]
    locks = sorted({path.with_suffix(".lock") for path in stores})
    locks.append(folder / ".manifest.lock")
    with ExitStack() as stack:
        for path in locks:
            stack.enter_context(lock(path, f"{path.stem} of {folder.name}"))
        yield locks
