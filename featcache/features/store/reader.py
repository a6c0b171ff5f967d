"""The one reader of store files, which anybody may have written or changed."""

import os
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, Literal

import h5py
import numpy as np
import pandas as pd

from featcache.core import records
from featcache.core.io import parse_json
from featcache.dataset.regions import Region
from featcache.dataset.views import Policy
from featcache.errors import ContractError, StoreError, UsageError
from featcache.features.contract import FLOAT32, Contract
from featcache.features.store.base import (
    FEATURES,
    KEY,
    SCHEMA,
    Header,
    Store,
    header_sha256,
)
from featcache.features.store.key_columns import (
    check_key_columns,
    combined_key_sums,
    dataset,
    key_sums,
    linked,
    read_keys,
    read_keys_of_parts,
)
from featcache.features.store.opening import MAKE, damaged, reading
from featcache.features.store.segments import (
    PARTS,
    TAPS,
    RowFile,
    Segment,
    check_mapping,
    matrix_name,
    read_segments,
)

TEXTS = (
    "contract", "contract_id", "policies", "weights", "weights_key", "engine",
    "versions", "notes", "created", "keys_sha256", "paths_sha256",
)  # fmt: skip
NUMBERS = ("featcache_schema", "rows")
_MOST_ROWS = 2**40
_WIDEST = 2**24  # columns of a matrix
_LARGEST_SIDE = 2**16
_DEEPEST = 32  # levels of a JSON text


def open_store(path: Path, *, all_parts: bool = True) -> Store:
    """Opens a store, checking that it is ours, whole, and true to its contract.

    The matrices are checked as they are read.

    Args:
        path: Its file.
        all_parts: Refuse one whose part files are not all there.

    Raises:
        StoreError: Missing, cut short, edited, of another program, or not complete.
        StoreUnavailableError: The system does not let us read it now.
        ContractError: Its contract is not the one its id was made of.
    """
    with reading(path) as file:
        if "featcache_schema" not in file.attrs:
            raise StoreError(
                f"a featcache store in {path}", "an HDF5 file of another program", MAKE
            )
        schema = _number(file.attrs, "featcache_schema")
        if schema != SCHEMA:
            raise StoreError(
                f"schema {SCHEMA} in {path}",
                f"schema {schema}",
                "Use the featcache version that wrote it, or delete it and extract "
                "again.",
            )
        complete = file.attrs.get("complete")
        if not isinstance(complete, bool | np.bool_) or not complete:
            raise damaged(path, "an incomplete file")
        stored = _read(path, file, all_parts)
    if all_parts and stored.is_in_parts:
        for segment in stored.segments:
            for one in segment.files:
                one.check_presence()
    return stored


def _read(path: Path, file: h5py.File, all_parts: bool) -> Store:
    texts = {name: _text(file.attrs, name) for name in TEXTS}
    numbers = {name: _number(file.attrs, name) for name in NUMBERS}
    header = _header(texts)
    if header.contract_id != texts["contract_id"]:
        raise ContractError(
            f"contract_id {texts['contract_id'][:8]} in {path}",
            f"a contract with id {header.contract_id[:8]}",
            "The file was edited by hand; delete it and extract again.",
        )
    in_parts = PARTS in file
    matrices = _matrices(file, header.dtype, in_parts)
    sealed = {name: _sealed(matrix) for name, matrix in matrices.items()}
    segments: tuple[Segment, ...] = ()
    if in_parts:
        texts[PARTS] = str(dataset(file, PARTS, 0).asstr()[()])
        segments = read_segments(path, _json(texts[PARTS], PARTS))
        check_mapping(matrices, sealed, segments, numbers["rows"])
    _check_sum(path, file, "header_sha256", header_sha256({**texts, **numbers}, sealed))
    keys = _keys(path, file, segments, len(header.policies), all_parts)
    rows = {len(matrix) for matrix in matrices.values()}
    if not rows == {len(keys)} == {numbers["rows"]}:
        raise damaged(path, f"{sorted(rows)} embeddings, {len(keys)} keys")
    if not in_parts:
        segments = (_own_segment(path, len(keys), sealed, texts),)
    return Store(
        path,
        header,
        dims={name: int(matrix.shape[1]) for name, matrix in matrices.items()},
        filled={name: int(values["filled"]) for name, values in sealed.items()},
        checksums={name: str(values["sha256"]) for name, values in sealed.items()},
        segments=segments,
        keys=keys,
        created=texts["created"],
    )


def _keys(
    path: Path,
    file: h5py.File,
    segments: tuple[Segment, ...],
    policies: int,
    all_parts: bool,
) -> pd.DataFrame:
    """The keys of all rows, which the part files have unless the file itself has them.

    With ``all_parts`` unset, the rows of a damaged part have an empty image_id.
    """
    in_parts = [bool(segment.files[0].keys_sha256) for segment in segments]
    if any(in_parts):
        sums = combined_key_sums(segments)
        keys = read_keys_of_parts(segments, policies, all_parts=all_parts)
        if all_parts:
            check_key_columns(file, segments, keys)
    else:
        keys = read_keys(file, policies)
        sums = key_sums(keys)
    for name, checksum in sums.items():
        _check_sum(path, file, name, checksum)
    named = keys if all_parts else keys[keys["image_id"] != ""]
    if named.duplicated(KEY).any():
        raise damaged(path, "a key that is there twice")
    return keys


def _check_sum(path: Path, file: h5py.File, name: str, checksum: str) -> None:
    if checksum != _text(file.attrs, name):
        raise damaged(path, f"{name.split('_')[0]} with another checksum")


def _own_segment(
    path: Path,
    rows: int,
    sealed: dict[str, dict[str, str | int]],
    texts: dict[str, str],
) -> Segment:
    filled = {name: int(values["filled"]) for name, values in sealed.items()}
    checksums = {name: str(values["sha256"]) for name, values in sealed.items()}
    file = RowFile(
        path,
        os.path.getsize(path),
        filled,
        checksums,
        keys_sha256=texts["keys_sha256"],
        paths_sha256=texts["paths_sha256"],
    )
    return Segment(rows, (file,))


def _text(attributes: h5py.AttributeManager, name: str) -> str:
    value = attributes.get(name)
    if isinstance(value, bytes):
        value = value.decode("utf-8")
    if not isinstance(value, str):
        raise ValueError(f"{name} is missing" if value is None else f"{name} no text")
    return value


def _number(attributes: h5py.AttributeManager, name: str) -> int:
    value = attributes.get(name)
    if isinstance(value, int | np.integer) and 0 <= value < _MOST_ROWS:
        return int(value)
    raise ValueError(f"{name} is missing" if value is None else f"{name} no number")


@dataclass(frozen=True, kw_only=True)
class _HeaderRecord:
    """The types of a header's values."""

    weights: Literal["imagenet", "random", "file", "none"]
    versions: dict[str, str]
    notes: "_Notes"
    policies: list["_Recipe"]


@dataclass(frozen=True, kw_only=True)
class _Notes:
    calibration: list[str] = field(default_factory=list)
    drift: dict[str, float] = field(default_factory=dict)
    canary: "_CanaryNote | None" = None
    origin: "_Origin | None" = None


@dataclass(frozen=True, kw_only=True)
class _Origin:
    licence: str = ""
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class _CanaryNote:
    state: Literal["passed", "absent"]
    framework: dict[str, str] = field(default_factory=dict)
    difference: float | None = None
    cosine: float | None = None


@dataclass(frozen=True, kw_only=True)
class _Recipe:
    flip: bool | None = None
    brightness: list[float] | None = None
    zoom: list[float] | None = None
    seed: int | None = None
    region: str | None = None
    mask: str | None = None
    width: str | None = None


def _header(texts: dict[str, str]) -> Header:
    """The header of a store.

    Raises:
        ValueError: Names a value that is not of its type.
    """
    names = ("contract", "policies", "versions", "notes")
    values = {name: _json(texts[name], name) for name in names}
    contract = Contract.from_json(values.pop("contract"))
    if PurePath(contract.backbone).name != contract.backbone:
        raise ValueError("contract.backbone is no name of a file")
    if not 0 <= contract.input_size <= _LARGEST_SIDE:
        raise ValueError(f"contract.input_size {contract.input_size}")
    if contract.dtype not in (None, FLOAT32, "float16"):
        raise ValueError("contract.dtype neither float32 nor float16")
    values["weights"] = texts["weights"]
    records.from_json(_HeaderRecord, values)
    for number, recipe in enumerate(values["policies"]):
        _check_recipe(recipe, f"policies[{number}]")
    return Header(
        contract=contract,
        weights_key=texts["weights_key"],
        engine=texts["engine"],
        **values,
    )


def _check_recipe(recipe: dict[str, Any], name: str) -> None:
    try:
        if {*recipe} & {"flip", "brightness", "zoom", "seed"}:
            Policy.of(recipe)
        elif not Region.of(recipe).to_dict():
            raise ValueError(f"{name} says nothing")
    except UsageError as error:
        raise ValueError(f"{name} has {error.got}") from error
    except KeyError as error:
        raise ValueError(f"{name} has no {error}") from error


def _json(text: str, name: str) -> Any:
    value = parse_json(text)
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > _DEEPEST:
            raise ValueError(f"{name} is nested too deeply")
        inner = [one for one in level if isinstance(one, dict | list)]
        level = [
            child
            for one in inner
            for child in (one.values() if isinstance(one, dict) else one)
        ]
    return value


def _matrices(
    file: h5py.File, dtype: "np.dtype[Any]", in_parts: bool
) -> dict[str, h5py.Dataset]:
    """The matrices of a file by name: "features", and the taps by their layers."""
    names = {FEATURES: FEATURES} if FEATURES in file else {}
    if TAPS in file:
        group = linked(file, TAPS)
        if not isinstance(group, h5py.Group):
            raise ValueError(f"{TAPS} no group")
        if FEATURES in group:
            raise ValueError(f"a tap called {FEATURES}")
        names |= {matrix_name(link): f"{TAPS}/{link}" for link in group}
    matrices = {
        name: dataset(file, where, 2, in_parts) for name, where in names.items()
    }
    for name, matrix in matrices.items():
        if matrix.dtype != dtype or not 1 <= matrix.shape[1] <= _WIDEST:
            raise ValueError(
                f"{name} of {matrix.dtype}, {matrix.shape[1]} wide, not of {dtype}"
            )
    return matrices


def _sealed(matrix: h5py.Dataset) -> dict[str, str | int]:
    filled = _number(matrix.attrs, "filled")
    if filled > len(matrix):
        raise ValueError(f"{filled} of {len(matrix)} rows filled")
    return {"filled": filled, "sha256": _text(matrix.attrs, "sha256")}
