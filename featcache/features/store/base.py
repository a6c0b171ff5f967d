"""A feature store as it is read: header, keys, and matrices by name."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from featcache.core.io import digest
from featcache.core.taps import FEATURES as FEATURES
from featcache.errors import ContractError
from featcache.features.contract import FLOAT32, Contract
from featcache.features.store.segments import Segment, starts

SCHEMA = 2
KEY = ["image_id", "view", "policy", "mask_id"]
NO_POLICY = -1  # the policy of view 0
NO_MASK = ""  # the mask of a row that needs none


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
        notes: Facts beside the contract, such as the drift of int8, licence and
            source of the weights, and how the canary of a network in a file went.
    """

    contract: Contract
    policies: list[dict[str, Any]]
    weights: str
    weights_key: str
    engine: str
    versions: dict[str, str]
    notes: dict[str, Any]

    @property
    def contract_id(self) -> str:
        """SHA-256 (64 hex digits) of the contract."""
        return self.contract.contract_id

    @property
    def canary(self) -> Literal["passed", "absent"] | None:
        """Whether it "passed" or is "absent"; None for networks that need none."""
        note: dict[str, Any] = self.notes.get("canary") or {}
        return note.get("state")

    @property
    def licence(self) -> str:
        """Of the weights, as far as it is stated; else empty."""
        return str(self.notes.get("origin", {}).get("licence", ""))

    @property
    def source(self) -> str:
        """Where the weights come from, as far as it is stated; else empty."""
        return str(self.notes.get("origin", {}).get("source", ""))

    @property
    def dtype(self) -> np.dtype[Any]:
        """How numbers are stored: float32 or float16."""
        return np.dtype(self.contract.dtype or FLOAT32)

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
        dims: Width of each matrix; "features" and, by layer, the taps.
        filled: Rows of each matrix that are computed; a tap may lack some.
        checksums: SHA-256 of each matrix, as the file named it when it was opened; of
            one in several files that of its pieces' digests.
        segments: The files that the rows lie in, in the order of ``keys``.
        keys: One row an embedding: image_id, view, policy, mask_id, path.
        created: When it was written (ISO 8601).
    """

    path: Path
    header: Header
    dims: dict[str, int]
    filled: dict[str, int]
    checksums: dict[str, str]
    segments: tuple[Segment, ...]
    keys: pd.DataFrame
    created: str

    @property
    def dim(self) -> int:
        """Width D of the embedding."""
        return self.dims[FEATURES]

    @property
    def taps(self) -> list[str]:
        """Names of the inner layers that are stored."""
        return [name for name in self.dims if name != FEATURES]

    def read(self, name: str = FEATURES) -> np.ndarray:
        """Reads one matrix, (N, D) float32 in the order of ``keys``, and verifies it.

        Rows of a tap that were never computed are NaN.

        Raises:
            StoreError: The bytes are not those that were sealed.
        """
        blocks = [block.astype(np.float32) for block in self.slabs(name)]
        return np.concatenate([np.empty((0, self.dims[name]), np.float32), *blocks])

    def rows(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Reads some rows (n, D) float32 of a matrix; `verify` first.

        Args:
            name: Of the matrix.
            rows: (n,) their numbers, in any order.
        """
        result = np.empty((len(rows), self.dims[name]), np.float32)
        for segment, start in zip(self.segments, starts(self.segments), strict=True):
            mine = (rows >= start) & (rows < start + segment.rows)
            if mine.any():
                distinct, inverse = np.unique(rows[mine] - start, return_inverse=True)
                result[mine] = segment.select(name, self._like(name), distinct)[inverse]
        return result

    def span(self, name: str, low: int, high: int) -> np.ndarray:
        """Reads the rows low..high-1 of a matrix as they are stored; `verify` first."""
        blocks = [self._like(name)]
        for segment, start in zip(self.segments, starts(self.segments), strict=True):
            first, last = max(low - start, 0), min(high - start, segment.rows)
            if first < last:
                piece = slice(first, last)
                blocks.append(segment.select(name, self._like(name), piece))
        return np.concatenate(blocks)

    def _like(self, name: str) -> np.ndarray:
        return np.empty((0, self.dims[name]), self.header.dtype)

    def part(self, first: int, end: int | None) -> "Store":
        """The store with the rows of some of its segments alone."""
        segments = self.segments[first:end]
        start = sum(segment.rows for segment in self.segments[:first])
        rows = sum(segment.rows for segment in segments)
        names = [n for n in self.dims if any(n in one.checksums for one in segments)]
        return replace(
            self,
            dims={name: self.dims[name] for name in names},
            filled={n: sum(one.filled.get(n, 0) for one in segments) for n in names},
            segments=segments,
            keys=self.keys.iloc[start : start + rows].reset_index(drop=True),
        )

    @property
    def is_in_parts(self) -> bool:
        """Whether the rows lie in part files beside the store's own file."""
        return any(segment.is_part for segment in self.segments)

    @property
    def n_files(self) -> int:
        """Files that the rows lie in."""
        return sum(len(segment.files) for segment in self.segments)

    @property
    def nbytes(self) -> int:
        """Bytes of all matrices, as they are stored."""
        return len(self.keys) * sum(self.dims.values()) * self.header.dtype.itemsize

    def features(self) -> np.ndarray:
        """Reads all embeddings, (N, D), in the order of ``keys``; see ``read``."""
        return self.read()

    def slabs(self, name: str = FEATURES) -> Iterator[np.ndarray]:
        """Yields a matrix in blocks of bounded size; verifies it at the end."""
        for segment in self.segments:
            yield from segment.slabs(name, self._like(name))

    def verify(self) -> None:
        """Reads every matrix once.

        Raises:
            StoreError: One is damaged.
        """
        for name in self.dims:
            for _ in self.slabs(name):
                pass

    def has(self, name: str) -> np.ndarray:
        """Which rows of a matrix are computed, (N,) bool."""
        pieces = [np.empty(0, bool)]
        for segment in self.segments:
            filled = segment.filled.get(name, 0)
            if filled in (0, segment.rows):
                pieces.append(np.full(segment.rows, filled > 0))
            else:
                slabs = segment.slabs(name, self._like(name))
                pieces += [~np.isnan(block[:, 0]) for block in slabs]
        return np.concatenate(pieces)


def store_path(folder: Path, header: Header) -> Path:
    """Where the store of a contract lives below ``cache/<dataset>/features``."""
    name = f"{header.contract.backbone}-{header.weights}-{header.contract_id[:8]}"
    return folder / f"{name}.h5"


def check_contract(store: Store, header: Header) -> None:
    """Refuses a store that was made under another contract.

    Raises:
        ContractError: Names every field that differs, with both values.
    """
    fields = store.header.contract.differences(header.contract)
    if fields:
        have, want = store.header.contract.to_json(), header.contract.to_json()
        raise ContractError(
            ", ".join(f"{k}={want.get(k)}" for k in fields),
            ", ".join(f"{k}={have.get(k)}" for k in fields) + f" in {store.path}",
            "Move that file away; the right one will be computed.",
        )


def keys_sha256(keys: pd.DataFrame) -> str:
    """SHA-256 over image_id, view, policy and, if any, mask_id of all rows in order."""
    columns = [keys[name].tolist() for name in KEY]
    lines = [f"{i} {v} {p} {m}".rstrip() for i, v, p, m in zip(*columns, strict=True)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def paths_sha256(keys: pd.DataFrame) -> str:
    """SHA-256 over the paths of all rows in order."""
    return hashlib.sha256("\n".join(keys["path"].tolist()).encode(*_TEXT)).hexdigest()


def header_sha256(
    attributes: Mapping[str, str | int], matrices: Mapping[str, Mapping[str, str | int]]
) -> str:
    """SHA-256 over what a file says of itself.

    Args:
        attributes: Those of the root, but for "complete" and this one.
        matrices: By name, "sha256" and "filled" of each.
    """
    return digest({**attributes, "matrices": matrices})


_TEXT = ("utf-8", "surrogateescape")  # as h5py encodes text
