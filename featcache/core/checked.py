"""Files that say what they should be: SHA-256 digests, checked before use."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from featcache.core.io import read_json, sha256_file, write_json

DIGEST = "sha256"  # the field of a record that holds the digest of its other fields


def with_digest(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record as JSON gives it back, with the digest of all of it."""
    plain: dict[str, Any] = json.loads(json.dumps(record))
    plain.pop(DIGEST, None)
    return plain | {DIGEST: _digest(plain)}


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Writes a record with its digest, atomically."""
    write_json(path, with_digest(record))


def read_record(path: Path) -> dict[str, Any]:
    """Reads what `write_record` wrote.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not the record that was written.
    """
    record = read_json(path)
    refuse_changed_record(record)
    return dict(record)


def refuse_changed_record(record: Any) -> None:
    """Raises ValueError for a record that is not as it was written."""
    if not isinstance(record, dict) or DIGEST not in record:
        raise ValueError("no record with a digest")
    rest = {key: value for key, value in record.items() if key != DIGEST}
    if record[DIGEST] != _digest(rest):
        raise ValueError("a record that was changed after it was written")


def file_digests(paths: Iterable[Path]) -> dict[str, str]:
    """The SHA-256 of each file, by its name."""
    return {path.name: sha256_file(path) for path in sorted(paths)}


def refuse_changed_file(path: Path, files: Any) -> None:
    """Raises ValueError for a file that is not the one that was written.

    Args:
        path: The file.
        files: The digest of each file of its folder, by name, as a record has them.

    Raises:
        OSError: It cannot be read.
        ValueError: It has another digest, or none is recorded.
    """
    if not isinstance(files, dict) or path.name not in files:
        raise ValueError(f"{path.name}, of which no SHA-256 is recorded")
    if sha256_file(path) != files[path.name]:
        raise ValueError(f"{path.name}, which was changed after it was written")


def _digest(value: Any) -> str:
    # Not io.digest: an estimator's parameters may hold NaN, a checkpoint infinity.
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
