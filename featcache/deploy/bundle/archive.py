"""The file of a bundle: a zip of plain members whose bytes are those that were put in.

Members are stored as they are, so that a small file never grows on reading; names are
of a closed list of forms; and every byte of a member is covered by the digests in
``manifest.json``.
"""

import hashlib
import json
import re
import zipfile
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from featcache.core import checked
from featcache.core.io import atomic_path, sha256_file
from featcache.errors import BundleError

MANIFEST, CARD = "manifest.json", "card.md"
# All members that there may be.
_NAMES = re.compile(
    r"manifest\.json|card\.md"
    r"|networks/[0-9]+\.(xml|bin)"
    r"|heads/[0-9]+/(head\.json|[a-z_]+\.(skops|ubj|keras))"
    r"|golden/[a-z0-9-]+\.(png|jpg|dcm|npy)"
    r"|refusal/[a-z0-9_]+\.npy"
    r"|training/[a-z]+\.npy"
)
_LARGEST_RECORD = 64 * 2**20  # bytes of manifest.json
_BLOCK = 2**20
_DATE = (1980, 1, 1, 0, 0, 0)  # of all members: the same model gives the same bytes


def write(
    path: Path, record: Mapping[str, Any], members: Mapping[str, bytes | Path]
) -> None:
    """Writes a bundle, atomically.

    Args:
        path: The file.
        record: Of manifest.json, but for the digests of the members.
        members: By name, the bytes or the file that holds them.
    """
    files = {name: _sha256(members[name]) for name in sorted(members)}
    text = json.dumps(checked.with_digest({**record, "files": files}), indent=1)
    with (
        atomic_path(path) as temp,
        zipfile.ZipFile(temp, "w", zipfile.ZIP_STORED) as file,
    ):
        for name, content in {
            MANIFEST: text.encode(),
            **dict(sorted(members.items())),
        }.items():
            info = zipfile.ZipInfo(name, _DATE)
            info.external_attr = 0o644 << 16
            info.create_system = 3  # Unix, wherever it is written
            with file.open(info, "w", force_zip64=True) as target:
                if isinstance(content, bytes):
                    target.write(content)
                else:
                    with content.open("rb") as source:
                        while block := source.read(_BLOCK):
                            target.write(block)


def _sha256(content: bytes | Path) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    return sha256_file(content)


class Archive:
    """A bundle's file, opened for reading.

    Args:
        path: The file.

    Attributes:
        record: What manifest.json says.

    Raises:
        BundleError: It is no bundle, cut short, changed, or has members that no bundle
            has.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record = self._record()

    def _record(self) -> dict[str, Any]:
        try:
            with zipfile.ZipFile(self.path) as file:
                members = file.infolist()
                _refuse_members(members)
                record = json.loads(file.read(MANIFEST))
            checked.refuse_changed_record(record)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise self.unusable(f"it cannot be read: {reason}") from error
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise self.unusable(f"it is no bundle, or cut short ({error})") from error
        except (ValueError, KeyError, RecursionError) as error:
            raise self.unusable(str(error)) from error
        files = record.get("files")
        expected = {one.filename for one in members} - {MANIFEST}
        if not isinstance(files, dict) or set(files) != expected:
            other = sorted(set(files or ()) ^ expected)
            raise self.unusable(f"its record does not name its members ({other[:1]})")
        return dict(record)

    def read(self, name: str) -> bytes:
        """A member, as it was put in.

        Raises:
            BundleError: It is missing, or was changed.
        """
        try:
            with zipfile.ZipFile(self.path) as file:
                content = file.read(name)
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise self.unusable(f"{name} is missing or damaged ({error})") from error
        if hashlib.sha256(content).hexdigest() != self.record["files"].get(name):
            raise self.unusable(f"{name} was changed after it was written")
        return content

    @cached_property
    def sha256(self) -> str:
        """Digest (64 hex digits) of the whole file."""
        return sha256_file(self.path)

    def verify(self) -> None:
        """Reads every member once.

        Raises:
            BundleError: One was changed.
        """
        for name in self.record["files"]:
            self.read(name)

    def unusable(self, reason: str) -> BundleError:
        """The error for a file that cannot be used."""
        return BundleError(
            f"{self.path} cannot be used as a bundle: {' '.join(reason.split())[:300]}",
            "Copy it again from where it was made, or make it again.",
        )


def _refuse_members(members: list[zipfile.ZipInfo]) -> None:
    """Raises ValueError for what no bundle is made of."""
    names = [one.filename for one in members]
    if MANIFEST not in names:
        raise ValueError("no manifest.json: it is no bundle, or cut short")
    if len(set(names)) < len(names):
        raise ValueError("members of one name")
    for one in members:
        if not _NAMES.fullmatch(one.filename):
            raise ValueError(f"the unknown member {one.filename!r}")
        is_plain = one.compress_type == zipfile.ZIP_STORED and not one.flag_bits & 1
        if not is_plain or one.file_size != one.compress_size:
            raise ValueError(f"the compressed member {one.filename}")
    if next(o for o in members if o.filename == MANIFEST).file_size > _LARGEST_RECORD:
        raise ValueError("a manifest.json that is too large")
