"""Whether a page shows the records as they are now."""

import os
import re
from importlib.metadata import version
from pathlib import Path

from featcache.commands.audit import FILE as AUDIT
from featcache.commands.compare import Leaderboard
from featcache.core.io import digest, sha256_file
from featcache.dataset.manifest import Manifest
from featcache.evaluation.run_labels import FILE as LABELS
from featcache.report import tables

_OF_RECORDS = (".json", ".npz", ".csv", ".parquet")
_MARK = "<!-- made of {} {} -->\n"


def mark(reports: Path, board: Leaderboard, manifest: Manifest | None) -> str:
    """The last line of a page: digests of its leaderboard and of all records.

    Args:
        reports: ``reports/<dataset>``.
        board: What is ranked.
        manifest: The dataset, where it is at hand.
    """
    content = vars(board) | {"rows": tables.to_json(board)}
    content |= {"scored": None, "test_only": None}  # the rows have them
    for name in ("folder", "manifest"):
        content.pop(name, None)
    return _MARK.format(digest(content), records_digest(reports, manifest))


def records_digest(reports: Path, manifest: Manifest | None) -> str:
    """Digest of what a page is made of: runs, audit, maps, validations, stores.

    Records of a run or of a picture are never changed in place, so that their sizes
    and times tell a new one.
    """
    below = [path for path in reports.glob("*/**/*") if path.suffix in _OF_RECORDS]
    files = [*below, reports / AUDIT, reports / LABELS]
    table = None
    if manifest is not None:
        files += manifest.folder.glob("features/*.h5")
        table = sha256_file(manifest.folder / "manifest.csv")
    stamps = {
        str(path): [path.stat().st_size, path.stat().st_mtime_ns]
        for path in sorted(files)
        if path.is_file()
    }
    return digest([stamps, table, version("featcache")])


def is_fresh(path: Path, line: str) -> bool:
    """Whether a page is there and ends in a mark."""
    return path.is_file() and path.read_text(encoding="utf-8").endswith(line)


def is_stale(path: Path, reports: Path, manifest: Manifest | None) -> bool:
    """Whether a page is there and shows other records than those of now."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        file.seek(-min(300, path.stat().st_size), os.SEEK_END)
        end = file.read().decode(errors="replace")
    last = re.search(r"<!-- made of \w+ (\w+) -->\s*$", end)
    return not last or last[1] != records_digest(reports, manifest)
