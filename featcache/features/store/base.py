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
from featcache.features.store.opening import damaged, reading

SCHEMA = 2
KEY = ["image_id", "view", "policy", "mask_id"]
NO_POLICY = -1  # the policy of view 0
NO_MASK = ""  # the mask of a row that needs none
TAPS = "taps"  # the group of the inner layers' matrices
SLAB_BYTES = 2 * 2**20


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
        checksums: SHA-256 of each matrix, as the file named it when it was opened.
        keys: One row an embedding: image_id, view, policy, mask_id, path.
        created: When it was written (ISO 8601).
    """

    path: Path
    header: Header
    dims: dict[str, int]
    filled: dict[str, int]
    checksums: dict[str, str]
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
        order = np.argsort(rows, kind="stable")
        distinct, inverse = np.unique(rows[order], return_inverse=True)
        with reading(self.path) as file:
            values = np.asarray(file[dataset_name(name)][distinct], np.float32)
        result = np.empty((len(rows), values.shape[1]), np.float32)
        result[order] = values[inverse]
        return result

    def features(self) -> np.ndarray:
        """Reads all embeddings, (N, D), in the order of ``keys``; see ``read``."""
        return self.read()

    def slabs(self, name: str = FEATURES) -> Iterator[np.ndarray]:
        """Yields a matrix in blocks of bounded size; verifies it at the end."""
        sha = hashlib.sha256()
        with reading(self.path) as file:
            matrix = file[dataset_name(name)]
            rows = slab_rows(self.dims[name])
            for start in range(0, len(self.keys), rows):
                block = np.ascontiguousarray(matrix[start : start + rows])
                sha.update(block.data)
                yield block
            if sha.hexdigest() != self.checksums[name]:
                raise damaged(self.path, f"{name} with another checksum")

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
        if self.filled.get(name, 0) in (0, len(self.keys)):
            return np.full(len(self.keys), self.filled.get(name, 0) > 0)
        blocks = [~np.isnan(block[:, 0]) for block in self.slabs(name)]
        return np.concatenate(blocks)


def dataset_name(name: str) -> str:
    """Where a matrix lies in the file; a slash in its name begins no group."""
    if name == FEATURES:
        return FEATURES
    link = name.replace("%", "%25").replace("/", "%2F")
    return f"{TAPS}/{'%2E' if link == '.' else link}"  # "." would be the group itself


def matrix_name(link: str) -> str:
    """The name of the matrix that a link in the group of taps is of."""
    return link.replace("%2F", "/").replace("%2E", ".").replace("%25", "%")


def slab_rows(dim: int) -> int:
    """Rows to hold at once."""
    return max(1, SLAB_BYTES // (dim * 4))


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
    rows = keys[KEY].itertuples(index=False, name=None)
    text = "\n".join(" ".join(map(str, row)).rstrip() for row in rows)
    return hashlib.sha256(text.encode()).hexdigest()


def paths_sha256(keys: pd.DataFrame) -> str:
    """SHA-256 over the paths of all rows in order."""
    return hashlib.sha256("\n".join(keys["path"]).encode(*_TEXT)).hexdigest()


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
