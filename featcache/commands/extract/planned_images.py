"""The images that a plan is of: whether they are still the dataset's."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from featcache.dataset import manifest as manifests
from featcache.dataset.manifest import OK, Manifest


@dataclass(frozen=True, kw_only=True)
class ManifestFile:
    """The file of the manifest, when a plan was made.

    Attributes:
        bytes: Its size.
        modified_ns: When it was written, by the clock of its file system.
    """

    bytes: int
    modified_ns: int

    @classmethod
    def of(cls, folder: Path) -> "ManifestFile":
        """The file as it is now.

        Raises:
            OSError: It is not there.
        """
        status = (folder / manifests.TABLE).stat()
        return cls(bytes=status.st_size, modified_ns=status.st_mtime_ns)


def images_digest(manifest: Manifest) -> str:
    """SHA-256 (64 hex digits) of the ids and paths of a dataset's usable images."""
    return _digest([manifest.table])


def stored_images_digest(folder: Path) -> str:
    """The same of ``cache/<dataset>``, read in pieces: memory does not grow with it.

    Raises:
        DatasetError: There is no manifest, or it is not one of ours.
    """
    return _digest(manifests.read_images(folder))


def _digest(tables: Iterable[pd.DataFrame]) -> str:
    sha = hashlib.sha256()
    for table in tables:
        ok = table[table["status"] == OK]
        for image_id, path in zip(ok["image_id"], ok["path"], strict=True):
            sha.update(f"{image_id} {path}\n".encode("utf-8", "surrogateescape"))
    return sha.hexdigest()


def file_of_images(folder: Path, images_sha256: str) -> ManifestFile | None:
    """The manifest's file, if it has these images: that it is as it was says so later.

    Args:
        folder: ``cache/<dataset>``.
        images_sha256: Digest of the images.

    Returns:
        None if it has others, or is written just now.

    Raises:
        DatasetError: There is none.
    """
    before = ManifestFile.of(folder)
    has_them = stored_images_digest(folder) == images_sha256
    return before if has_them and before == ManifestFile.of(folder) else None


def has_images(
    dataset: Manifest, images_sha256: str, file: ManifestFile | None
) -> bool:
    """Whether a dataset still has the images of a plan.

    A file of the same size that was not written since is not read.

    Args:
        dataset: The dataset; where its table was not read, its file is looked at.
        images_sha256: Digest of the plan's images.
        file: As the plan has it.
    """
    if dataset.has_table:
        return images_digest(dataset) == images_sha256
    if file == ManifestFile.of(dataset.folder):
        return True
    return stored_images_digest(dataset.folder) == images_sha256
