"""A new table of the images: duplicates left out, near-duplicates in one group."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from featcache.commands.audit.context import AuditContext, NotApplicable
from featcache.core.io import atomic_path
from featcache.core.output_file import check_output
from featcache.core.text import counted
from featcache.dataset.manifest import COLUMNS
from featcache.dataset.sources import is_zip
from featcache.dataset.urls import Url, inside, is_url
from featcache.errors import DatasetError, UsageError

_OURS = {*COLUMNS} - {"path", "label", "group"}


@dataclass(frozen=True)
class FixedTable:
    """What a new table holds.

    Attributes:
        path: The CSV.
        images: Rows.
        dropped: Files of the manifest that are not in it.
        joined: Images whose group was joined with another.
        two_labels: Pairs of near-duplicates under two labels, which stay: a person
            has to say which is right.
    """

    path: Path
    images: int
    dropped: int
    joined: int
    two_labels: int

    @property
    def summary(self) -> str:
        """The same in a sentence."""
        return (
            f"{self.path}: {counted(self.images, 'image')}; "
            f"{counted(self.dropped, 'file')} dropped, "
            f"{counted(self.joined, 'image')} moved to another group, "
            f"{counted(self.two_labels, 'pair')} of "
            "near-duplicates with different labels kept."
        )


def check_path(context: AuditContext, path: Path, *, force: bool) -> None:
    """Checks that a file is a new CSV, and not the dataset's own source.

    Args:
        context: The dataset.
        path: The CSV.
        force: Let it be a file that is there.

    Raises:
        UsageError: It is none, is there, or is the source.
    """
    source = context.manifest.settings.source
    if path.suffix.lower() != ".csv" or str(path.resolve()) == os.path.realpath(source):
        raise UsageError("a new .csv file for `fix`", str(path), "Name another file.")
    check_output(path, "fix", force=force)


def write(context: AuditContext, path: Path) -> FixedTable:
    """Writes path,label,group and the source's further columns, an image a row.

    Paths are relative to the file's folder, so that it can be scanned; those of a zip
    are as in the zip. No image is touched.

    Args:
        context: The dataset.
        path: The CSV to write.

    Raises:
        DatasetError: No picture can be read.
    """
    try:
        pairs = context.near
    except NotApplicable as reason:
        raise DatasetError(
            "readable images to search for near-duplicates, for `fix`",
            "none",
            str(reason),
        ) from reason
    table = context.images.drop(columns=[c for c in _OURS if c in context.images])
    groups, labels = context.images["group"].to_numpy(str), table["label"].to_numpy()
    two_labels = 0
    for some in pairs.chunks():
        groups = joined(groups, some[["a", "b"]].to_numpy())
        two_labels += int((labels[some["a"]] != labels[some["b"]]).sum())
    moved = int((groups != context.images["group"].to_numpy(str)).sum())
    table["group"] = groups
    root = context.manifest.root
    if isinstance(root, Url):
        table["path"] = [
            p if is_zip(root) else str(inside(root, p)) for p in table["path"]
        ]
    elif root.is_dir():
        start = path.resolve().parent
        table["path"] = [
            p if is_url(p) else Path(os.path.relpath(root / p, start)).as_posix()
            for p in table["path"]
        ]
    with atomic_path(path) as temp:
        table.to_csv(temp, index=False)
    dropped = len(context.manifest.table) - len(table)
    return FixedTable(path, len(table), dropped, moved, two_labels)


def joined(groups: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Groups (N,) where those that a pair (P, 2) of rows links have one name.

    The name is that of the group whose image comes first.
    """
    names, first, of = np.unique(groups, return_index=True, return_inverse=True)
    links = of[pairs]
    ones = np.ones(len(links), bool)
    graph = csr_array((ones, (links[:, 0], links[:, 1])), (len(names),) * 2)
    _, cluster = connected_components(graph, directed=False)
    head = {cluster[g]: names[g] for g in np.argsort(-first, kind="stable")}
    return np.array([head[c] for c in cluster[of]], dtype=object)
