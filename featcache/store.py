"""Feature stores: one HDF5 file holds one dataset of images x one contract.

Rows are keyed by (image_id, view, policy); their order has no meaning. Work is
sealed in parts beside the store and published by merging them into a new file.
Nothing is ever written in place. The layout is described in docs/file-format.md.
"""

import hashlib
import io
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from featcache._io import ForgivingFile, atomic_path, canonical_json, digest, lock
from featcache.errors import ContractError, StoreError

SCHEMA = 1
KEY = ["image_id", "view", "policy"]
NO_POLICY = -1  # the policy of view 0
_SLAB_BYTES = 64 * 2**20
_CHUNK_BYTES = 512 * 2**10
_SPARE_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Header:
    """What a store says of itself.

    Attributes:
        contract: Everything that decides the value of an embedding.
        policies: Augmentation recipes; the column ``policy`` points into them.
        weights: Weights tag ("imagenet", "random", "file").
        weights_key: Names the weights without building the network.
        engine: What computed the rows.
        versions: Of the libraries that did.
    """

    contract: dict[str, Any]
    policies: list[dict[str, Any]]
    weights: str
    weights_key: str
    engine: str
    versions: dict[str, str]

    @property
    def contract_id(self) -> str:
        """SHA-256 (64 hex digits) of the contract."""
        return digest(self.contract)

    def with_policy(self, policy: dict[str, Any]) -> tuple["Header", int]:
        """Returns a header that knows the policy, and the policy's index."""
        if policy in self.policies:
            return self, self.policies.index(policy)
        return replace(self, policies=[*self.policies, policy]), len(self.policies)


@dataclass(frozen=True)
class Store:
    """A published store (or a sealed part), opened for reading.

    Attributes:
        path: The file.
        header: What it says of itself.
        dim: Width D of the embedding.
        keys: One row an embedding: image_id, view, policy, path.
        created: When it was written (ISO 8601).
    """

    path: Path
    header: Header
    dim: int
    keys: pd.DataFrame
    created: str

    def features(self) -> np.ndarray:
        """Reads all embeddings, (N, D), in the order of ``keys``, and verifies them.

        Raises:
            StoreError: The bytes are not those that were sealed.
        """
        return np.concatenate([np.empty((0, self.dim), np.float32), *self.slabs()])

    def slabs(self) -> Iterator[np.ndarray]:
        """Yields the embeddings in blocks of bounded size; verifies at the end."""
        sha = hashlib.sha256()
        with _reading(self.path) as file:
            rows = max(1, _SLAB_BYTES // (self.dim * 4))
            for start in range(0, len(self.keys), rows):
                block = file["features"][start : start + rows]
                sha.update(block.data)
                yield block
            if sha.hexdigest() != file.attrs["features_sha256"]:
                raise _damaged(self.path, "features with another checksum")


def store_path(folder: Path, header: Header) -> Path:
    """Where the store of a contract lives below ``cache/<dataset>/features``."""
    name = f"{header.contract['backbone']}-{header.weights}-{header.contract_id[:8]}"
    return folder / f"{name}.h5"


def writing(
    path: Path, on_takeover: Callable[[str], None] | None = None
) -> AbstractContextManager[None]:
    """Makes the caller the only writer of a store; see ``featcache._io.lock``."""
    return lock(path.with_suffix(".lock"), path.name, on_takeover=on_takeover)


def open_store(path: Path) -> Store:
    """Opens a store, checking that it is ours, whole, and true to its contract.

    Raises:
        StoreError: Missing, cut short, of another program, or not complete.
        ContractError: Its contract is not the one its id was made of.
    """
    if not path.is_file():
        raise StoreError("a feature store", f"no such file: {path}", _MAKE)
    with _reading(path) as file:
        if "featcache_schema" not in file.attrs:
            raise StoreError(
                f"a store of featcache in {path}", "HDF5 of another program", _MAKE
            )
        if file.attrs["featcache_schema"] != SCHEMA:
            raise StoreError(
                f"schema {SCHEMA} in {path}",
                f"schema {file.attrs['featcache_schema']}",
                "Use the featcache that wrote it, or delete it and extract again.",
            )
        if not file.attrs.get("complete"):
            raise _damaged(path, "a file that was never finished")
        return _read(path, file)


def _read(path: Path, file: h5py.File) -> Store:
    header = Header(
        contract=json.loads(file.attrs["contract"]),
        policies=json.loads(file.attrs["policies"]),
        weights=str(file.attrs["weights"]),
        weights_key=str(file.attrs["weights_key"]),
        engine=str(file.attrs["engine"]),
        versions=json.loads(file.attrs["versions"]),
    )
    if header.contract_id != file.attrs["contract_id"]:
        raise ContractError(
            f"contract_id {file.attrs['contract_id'][:8]} in {path}",
            f"a contract with id {header.contract_id[:8]}",
            "The file was edited by hand; delete it and extract again.",
        )
    keys = pd.DataFrame(
        {
            "image_id": file["image_id"].asstr()[:],
            "view": file["view"][:].astype(int),
            "policy": file["policy"][:].astype(int),
            "path": file["path"].asstr()[:],
        }
    )
    rows, dim = file["features"].shape
    if not rows == len(keys) == file.attrs["rows"]:
        raise _damaged(path, f"{rows} embeddings, {len(keys)} keys")
    if _keys_sha256(keys) != file.attrs["keys_sha256"]:
        raise _damaged(path, "keys with another checksum")
    return Store(path, header, int(dim), keys, str(file.attrs["created"]))


_MAKE = "Run: featcache extract SOURCE -b BACKBONE"


def _damaged(path: Path, got: str) -> StoreError:
    return StoreError(
        f"the bytes that were sealed in {path}",
        got,
        "The disk or another program changed it; delete it and extract again.",
    )


class _reading:  # noqa: N801
    """Opens HDF5 for reading and turns its errors into ours."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> h5py.File:
        try:
            self.file = h5py.File(self.path, "r")
        except OSError as error:
            raise _damaged(self.path, f"no readable HDF5 ({error})") from error
        return self.file

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        self.file.close()
        if isinstance(error, (OSError, KeyError, ValueError, RuntimeError)):
            raise _damaged(self.path, f"unreadable content ({error})") from error


def check_contract(store: Store, header: Header) -> None:
    """Refuses a store that was made under another contract.

    Raises:
        ContractError: Names every field that differs, with both values.
    """
    have, want = store.header.contract, header.contract
    fields = [k for k in sorted({*have, *want}) if have.get(k) != want.get(k)]
    if fields:
        raise ContractError(
            ", ".join(f"{k}={want.get(k)}" for k in fields),
            ", ".join(f"{k}={have.get(k)}" for k in fields) + f" in {store.path}",
            "Move that file away; the right one is then computed.",
        )


def parts_folder(path: Path) -> Path:
    """The folder of a store's sealed parts."""
    return path.with_suffix(".parts")


def seal(path: Path, header: Header, features: np.ndarray, keys: pd.DataFrame) -> Path:
    """Seals computed rows as the next part of a store.

    Args:
        path: The store they belong to.
        header: Its header.
        features: (N, D) float32.
        keys: N rows of image_id, view, policy, path.
    """
    folder = parts_folder(path)
    number = 1 + max((int(p.stem) for p in folder.glob("*.h5")), default=-1)
    # Written in memory first: HDF5 and a full disk do not get on.
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        _fill(file, header, features.shape[1], keys, iter([features]))
    part = folder / f"{number:06d}.h5"
    with atomic_path(part) as temp:
        temp.write_bytes(buffer.getbuffer())
    return part


def publish(
    path: Path, header: Header, *, on_damage: Callable[[str], None] | None = None
) -> Store | None:
    """Merges a store and its sealed parts into a new store, then drops the parts.

    A part that is damaged is left out and reported: its rows are missing then,
    and are computed again. Without a store or parts there is nothing to publish.

    Raises:
        StoreError: No room for the new file, or the old store is damaged.
    """
    found = sorted(parts_folder(path).glob("*.h5"))
    sources = [open_store(path)] if path.exists() else []
    for part in found:
        try:
            store = open_store(part)
            for _ in store.slabs():  # verifies
                pass
            sources.append(store)
        except StoreError as error:
            if on_damage:
                on_damage(f"sealed part left out, its rows are computed again: {error}")
    if any(source.path != path for source in sources):
        _merge(path, header, sources)
    shutil.rmtree(parts_folder(path), ignore_errors=True)
    return open_store(path) if path.exists() else None


def _merge(path: Path, header: Header, sources: list[Store]) -> None:
    last, header = header.policies, replace(header, policies=[])
    for source in sources:
        check_contract(source, header)
        for policy in source.header.policies:
            header, _ = header.with_policy(policy)
    for policy in last:
        header, _ = header.with_policy(policy)
    keys = pd.concat([_remapped(s, header) for s in sources], ignore_index=True)
    fresh = ~keys.duplicated(KEY).to_numpy()
    dim = sources[0].dim
    _check_room(path, len(keys) * dim * 4)

    def blocks() -> Iterator[np.ndarray]:
        start = 0
        for source in sources:
            for block in source.slabs():
                yield block[fresh[start : start + len(block)]]
                start += len(block)

    with atomic_path(path) as temp:
        try:
            with ForgivingFile(temp) as raw:
                with h5py.File(raw, "w") as file:
                    _fill(file, header, dim, keys[fresh], blocks())
                raw.raise_first_error()
        except OSError as error:
            raise StoreError(
                f"to write {path}",
                str(error),
                "Sealed parts are kept: free some space and run the command again.",
            ) from error


def _remapped(store: Store, header: Header) -> pd.DataFrame:
    """The store's keys with policies numbered as in ``header``."""
    number = {i: header.policies.index(p) for i, p in enumerate(store.header.policies)}
    number[NO_POLICY] = NO_POLICY
    return store.keys.assign(policy=store.keys["policy"].map(number))


def _check_room(path: Path, need: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if free < need + _SPARE_BYTES:
        raise StoreError(
            f"{(need + _SPARE_BYTES) / 2**20:.0f} MiB free for {path}",
            f"{free / 2**20:.0f} MiB",
            "Sealed parts are kept: free some space and run the command again.",
        )


def _fill(
    file: h5py.File,
    header: Header,
    dim: int,
    keys: pd.DataFrame,
    blocks: Iterator[np.ndarray],
) -> None:
    rows = len(keys)
    for name, value in asdict(header).items():
        file.attrs[name] = value if isinstance(value, str) else canonical_json(value)
    features = file.create_dataset(
        "features",
        (rows, dim),
        np.float32,
        chunks=(max(1, min(rows, _CHUNK_BYTES // (dim * 4))), dim),
        fletcher32=True,
    )
    start, sha = 0, hashlib.sha256()
    for block in blocks:
        block = np.ascontiguousarray(block, np.float32)
        features[start : start + len(block)] = block
        sha.update(block.data)
        start += len(block)
    text = keys["image_id"].to_numpy().astype("S64")
    file.create_dataset("image_id", data=text, dtype=h5py.string_dtype("ascii", 64))
    file.create_dataset("view", data=keys["view"].to_numpy(np.uint16))
    file.create_dataset("policy", data=keys["policy"].to_numpy(np.int16))
    file.create_dataset(
        "path", data=keys["path"].tolist(), dtype=h5py.string_dtype("utf-8")
    )
    file.attrs["featcache_schema"] = SCHEMA
    file.attrs["contract_id"] = header.contract_id
    file.attrs["created"] = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    file.attrs["rows"] = rows
    file.attrs["features_sha256"] = sha.hexdigest()
    file.attrs["keys_sha256"] = _keys_sha256(keys)
    file.attrs["complete"] = True


def _keys_sha256(keys: pd.DataFrame) -> str:
    text = "\n".join(
        f"{image_id} {view} {policy}"
        for image_id, view, policy in keys[KEY].itertuples(index=False, name=None)
    )
    return hashlib.sha256(text.encode()).hexdigest()
