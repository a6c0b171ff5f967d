"""Rows of the same images, copied from the other stores of the cache."""

from pathlib import Path

from featcache.commands.extract.drift import made_by
from featcache.commands.extract.plan import ExtractRequest, Job, missing_rows, versions
from featcache.errors import StoreError
from featcache.features import store
from featcache.features.copies import (
    EMBEDDER,
    OpenedStore,
    copy_rows,
    find_rows,
    paths_of_contract,
)
from featcache.features.store import FEATURES


def copy_missing(request: ExtractRequest, job: Job) -> None:
    """Copies missing rows that other datasets have under the same contract.

    A store is verified before anything is taken from it; one that cannot be used is
    named and skipped. Copied rows are sealed like computed ones, so that a call that is
    killed loses none.
    """
    if len(job.missing):
        for path in _by_version(request, job):
            wanted = len(job.missing)
            try:
                _copy_from(request, job, path)
            except StoreError as error:
                request.reporter.message(f"nothing is copied from {path}: {error.got}")
            if store.part_files(job.path):
                missing_rows(request, job)
            if copied := wanted - len(job.missing):
                job.copied += copied
                request.reporter.message(
                    f"{job.network.text}: {copied} of {wanted} rows are copied from "
                    f"{_owner(path)}"
                )


def _by_version(request: ExtractRequest, job: Job) -> list[Path]:
    """The other stores that may have rows, those of the installed versions first."""
    paths = paths_of_contract(request.cache, job.header.contract_id, own=job.path)
    installed = versions()

    def is_older(path: Path) -> bool:
        try:
            return store.open_store(path).header.versions != installed
        except StoreError:
            return True

    return sorted(paths, key=is_older)


def _copy_from(request: ExtractRequest, job: Job, path: Path) -> None:
    """Seals the rows that a store has, if they come from the same libraries.

    Raises:
        StoreError: The store is damaged, or cannot be read now.
    """
    names = [FEATURES, *job.taps]
    other = OpenedStore.open(path)
    is_of_contract = other.store.header.contract_id == job.header.contract_id
    if not is_of_contract or not set(names) <= set(other.store.dims):
        return
    rows = find_rows(other.store, request.renderings, job.missing, names)
    if not len(rows):
        return
    if job.store and made_by(job.store.header) != made_by(other.store.header):
        request.reporter.message(
            f"{job.network.text}: {len(rows)} of {len(job.missing)} rows are computed "
            f"again: those of {_owner(path)} come from another engine or other "
            "versions of libraries"
        )
        return
    other.store.verify()
    copy_rows(job.path, job.header, other, rows, names)


def _owner(path: Path) -> str:
    """Whose images a store is of."""
    name = path.parent.parent.name
    return "images that were predicted" if name == EMBEDDER else f"dataset {name}"
