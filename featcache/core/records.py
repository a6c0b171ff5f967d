"""Dataclasses as JSON, and back: whatever does not fit its type is refused by name."""

import math
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from types import UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

Record = TypeVar("Record")

# A number that may be missing: NaN here, null in JSON, which has no NaN.
MaybeNaN = Annotated[float, "NaN is null"]
# Metadata of a field: it is written even where it is None; it is left out while empty.
NULL, OPTIONAL = {"null": True}, {"optional": True}
_LARGEST = 2**63  # of an integer


def to_json(record: Any) -> dict[str, Any]:
    """The fields of a dataclass, in their order, as JSON has them.

    A field whose default is None is left out while it is None, unless its metadata are
    `NULL`; one with `OPTIONAL`, while it is empty.
    """
    pairs = [(field, getattr(record, field.name)) for field in fields(record)]
    return {field.name: plain(v) for field, v in pairs if not _is_absent(field, v)}


def _is_absent(field: Field[Any], value: Any) -> bool:
    if value is None:
        return field.default is None and not field.metadata.get("null")
    return bool(field.metadata.get("optional")) and not value


def plain(value: Any) -> Any:
    """A value as ``json.loads`` would give it back: lists for tuples, null for NaN."""
    if is_dataclass(value):
        return to_json(value)
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def from_json(cls: type[Record], value: Any, name: str = "") -> Record:
    """Makes a dataclass of a JSON object; fields that it does not know are ignored.

    Args:
        cls: The dataclass; its fields are of JSON's types, of lists and dictionaries
            of these, of Literal, or of further dataclasses.
        value: The object, as ``json.loads`` gives it.
        name: Of the object, for the error.

    Raises:
        ValueError: Names the first field that is missing or of another type, and
            numbers that are not finite or too large.
    """
    values, prefix = _as(dict, value, name or "the record"), f"{name}." if name else ""
    types = get_type_hints(cls, include_extras=True)
    arguments = {}
    for field in fields(cls):  # type: ignore[arg-type]
        if field.name in values:
            path = prefix + field.name
            arguments[field.name] = _decoded(
                types[field.name], values[field.name], path
            )
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"no {prefix}{field.name}")
    return cls(**arguments)


def _decoded(kind: Any, value: Any, name: str) -> Any:
    """The value, if it is of this kind."""
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any:
        return _finite(value, name)
    if is_dataclass(kind):
        return from_json(kind, value, name)  # type: ignore[arg-type]
    if origin is Annotated:
        return math.nan if value is None else _decoded(float, value, name)
    if origin in (Union, UnionType):
        return _of_union(args, value, name)
    if origin is Literal:
        if value not in args or isinstance(value, list | dict):
            raise ValueError(f"{name} {_short(value)}, not {' or '.join(args)}")
        return value
    if origin is list:
        items = enumerate(_as(list, value, name))
        return [_decoded(args[0], one, f"{name}[{i}]") for i, one in items]
    if origin is dict:
        pairs = _as(dict, value, name).items()
        return {key: _decoded(args[1], one, f"{name}.{key}") for key, one in pairs}
    if kind is float and type(value) is int:
        value = float(_finite(value, name))
    return _finite(_as(kind, value, name), name)


def _of_union(kinds: tuple[Any, ...], value: Any, name: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    *others, last = [kind for kind in kinds if kind is not type(None)]
    for kind in others:
        if type(value) is kind:
            return _finite(value, name)
    return _decoded(last, value, name)


_WORDS = {
    str: "text", int: "an integer", float: "a number", bool: "true or false",
    list: "a list", dict: "an object",
}  # fmt: skip


def _as(kind: type, value: Any, name: str) -> Any:
    if type(value) is not kind:
        raise ValueError(f"{name} is not {_WORDS[kind]} but {_short(value)}")
    return value


def _finite(value: Any, name: str) -> Any:
    """The value, whose numbers JSON and the machine can hold."""
    if isinstance(value, dict):
        return {key: _finite(one, f"{name}.{key}") for key, one in value.items()}
    if isinstance(value, list):
        return [_finite(one, name) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} is not a finite number")
    if isinstance(value, int) and abs(value) >= _LARGEST:
        raise ValueError(f"{name} is too large a number")
    return value


def _short(value: Any) -> str:
    text = repr(value) if isinstance(value, str | float | bool | None) else ""
    text = text or _WORDS[type(value)]
    return text if len(text) <= 40 else f"{text[:37]}..."
