"""Leftovers: files that nobody needs, known by the names that featcache gives."""

import json
import re
import shutil
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from featcache.backbones.engines.base import network_name
from featcache.commands.cache.listing import owner, size, store_paths
from featcache.commands.cache.removals import Removal, Step
from featcache.core.io import is_alive, lock
from featcache.errors import StoreError
from featcache.features import store
from featcache.features.contract import Contract

# What no lock guards may belong to a machine whose processes are not seen here.
OLD_SECONDS = 24 * 3600
# The names that featcache makes; all others are somebody else's.
TEMPORARY = r"\.{}\.[a-z0-9_]+\.tmp"
STORE = r".+-(imagenet|random|file|none)-[0-9a-f]{8}"
OF_DATASET = (
    r"(manifest\.csv|dataset\.json|thumbs\.npz|splits-.+\.json|extract-.+\.json"
    r"|corrections\.csv)",
    r"(\.manifest|\.reviews\.csv|\.embedder|splits-.+\.json)\.lock",
)
OF_FEATURES = (rf"{STORE}\.(h5|npy)", rf"{STORE}\.lock")
_NETWORK = r".+-[0-9a-f]{8}-[0-9a-f]{16}"
OF_NETWORKS = (
    rf"({_NETWORK}\.(xml|bin|json)|(weights|canary)-[0-9a-f]{{16}}\.json)",
    rf"{_NETWORK}\.lock",
)


def named(folder: Path, pattern: str) -> list[Path]:
    """What lies in a folder itself under names that match entirely."""
    name = re.compile(pattern)
    return sorted(
        path
        for path in folder.glob("*")
        if name.fullmatch(path.name) and not path.is_symlink()
    )


def left_behind(folder: Path, patterns: tuple[str, str]) -> Iterator[Step]:
    """Temporary files of processes that have ended, and locks that nobody holds.

    Args:
        folder: Where they lie.
        patterns: Of the names that are ours: of files, and of locks.
    """
    files, locks = patterns
    for path in named(folder, TEMPORARY.format(files)):
        alive = is_alive(path.name.removesuffix(".tmp").rpartition(".")[2])
        if alive is False or (alive is None and _is_old(path)):
            why = "older than a day" if alive is None else "its process has ended"
            removal = Removal("temporary", path, why, size(path))
            yield removal, partial(_sweep, path)
    for path in named(folder, locks):
        if path.is_file() and not owner(path):
            removal = Removal("lock", path, "its owner has died", size(path))
            yield removal, partial(_unlock, path)


def _sweep(path: Path) -> None:
    if path.is_dir():  # a conversion writes several files at once
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _is_old(path: Path) -> bool:
    return time.time() - path.stat().st_mtime > OLD_SECONDS


def _unlock(path: Path) -> None:
    with lock(path, path.name):
        pass  # leaving the block removes the file


def networks(cache: Path) -> Iterator[Step]:
    """Converted networks and digests of weights, a day old, that no store is of.

    Where a store cannot be read, and so not what it is of, all of them stay.
    """
    try:
        contracts = [one for path in store_paths(cache) for one in _contract(path)]
    except StoreError:
        return
    used = {network_name(contract) for contract in contracts}
    for stem, files in _converted(cache / "openvino").items():
        if _is_old(files[0]) and stem.rpartition("-")[0] not in used:
            total = sum(map(size, files))
            removal = Removal("network", files[0], "no store uses it", total)
            yield removal, partial(_forget, files)
    digests = {contract.weights_digest for contract in contracts}
    digests |= {contract.architecture for contract in contracts}
    for path in _memos(cache / "openvino"):
        if _is_old(path) and _what_it_is_of(path) not in digests:
            removal = Removal("digest", path, "no store uses these weights", size(path))
            yield removal, partial(_sweep, path)


def _contract(path: Path) -> list[Contract]:
    """The contract of a store, or of its parts where nothing is published yet."""
    files = [path] if path.exists() else sorted(store.parts_folder(path).glob("*.h5"))
    return [store.open_store(file).header.contract for file in files[:1]]


def _converted(folder: Path) -> dict[str, list[Path]]:
    """The files of each converted network; first the .xml."""
    files = [
        p for e in ("xml", "bin", "json") for p in named(folder, f"{_NETWORK}.{e}")
    ]
    memos = {path.stem for path in _memos(folder)}
    stems = sorted({path.stem for path in files} - memos)
    return {stem: [p for p in files if p.stem == stem] for stem in stems}


def _memos(folder: Path) -> list[Path]:
    """What extractions wrote down of weights and canaries, to do it but once."""
    return named(folder, r"(weights|canary)-[0-9a-f]{16}\.json")


def _what_it_is_of(path: Path) -> str:
    """The digest of the weights, or the architecture that a canary is of."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if path.name.startswith("canary"):
            return str(record["contract"]["architecture"])
        return str(record["weights_digest"])
    except (ValueError, KeyError, TypeError):
        return "no digest at all"


def _forget(files: list[Path]) -> None:
    # The .xml goes first: without it the others are nothing.
    with lock(files[0].with_suffix(".lock"), files[0].name):
        for file in files:
            file.unlink(missing_ok=True)
