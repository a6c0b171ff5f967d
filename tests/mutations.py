"""Mutations of files, from a seed: odd values, odd types, odd bytes."""

import copy
import io
import json
import random
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
import pandas as pd

ODD: list[Any] = [
    None, True, False, -1, 0, 1, 0.5, -0.0, 1e308, 2**70, float("nan"), float("inf"),
    "", "nan", "\0", "../../x", "x" * 5000, "\u202e", [], {}, [1], [None], {"a": 1},
    [[[[[]]]]], "1", "2026", [{}],
]  # fmt: skip
TOKENS = [b"\xff", b"\0", b"{", b"}", b"[", b'"', b",", b"NaN", b"1e999", b"9" * 400,
          b"[" * 5000, b"\r", b"\n", b"'", b"=", b"null", b"-"]  # fmt: skip


def bytes_changed(rng: random.Random, data: bytes) -> bytes:
    """A few bytes flipped, cut, doubled or put in."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5])):
        at = rng.randrange(len(changed) + 1)
        length = rng.choice([1, 1, 4, 50])
        kind = rng.randrange(4)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del changed[at : at + length]
        elif kind == 2:
            changed[at:at] = changed[at : at + length]
        else:
            changed[at:at] = rng.choice(TOKENS)
    return bytes(changed[: rng.randrange(len(changed) + 1)] if rng.random() < 0.1
                 else changed)  # fmt: skip


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container with a key of it."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, one in list(items):
        yield value, key
        if isinstance(one, dict | list):
            yield from _places(one)


def json_changed(rng: random.Random, data: bytes) -> bytes:
    """A value, at any depth, that is odd, gone, or of another place."""
    if rng.random() < 0.3:
        return bytes_changed(rng, data)
    value = json.loads(data)
    if rng.random() < 0.05:
        return json.dumps(rng.choice(ODD)).encode()
    for _ in range(rng.choice([1, 1, 2])):
        places = list(_places(value))
        if not places:
            break
        inside, key = rng.choice(places)
        if isinstance(inside, dict) and rng.random() < 0.2:
            del inside[key]
        elif rng.random() < 0.1:
            other, there = rng.choice(places)
            inside[key] = json.loads(json.dumps(other[there]))
        else:
            inside[key] = copy.deepcopy(rng.choice(ODD))
    return json.dumps(value).encode()


def csv_changed(rng: random.Random, data: bytes) -> bytes:
    """A cell that is odd, or bytes."""
    if rng.random() < 0.4:
        return bytes_changed(rng, data)
    table = pd.read_csv(io.BytesIO(data), dtype=object, keep_default_na=False)
    row, column = rng.randrange(len(table)), rng.randrange(len(table.columns))
    table.iloc[row, column] = str(rng.choice(ODD))
    if rng.random() < 0.1:
        table = table.drop(columns=table.columns[column])
    return table.to_csv(index=False).encode(errors="replace")


def npz_changed(rng: random.Random, data: bytes) -> bytes:
    """An array of another type or shape, or gone; or bytes."""
    if rng.random() < 0.4:
        return bytes_changed(rng, data)
    with np.load(io.BytesIO(data)) as file:
        arrays = {name: file[name] for name in file.files}
    name = rng.choice([*arrays])
    array = arrays[name]
    rows = np.atleast_1d(array)
    others = [rows[:0], rows[..., :1], array[None], array.astype(str), array.ravel(),
              np.array(["x"]), np.array(-1), np.array([np.nan]), np.zeros((2, 0, 3)),
              np.array([2**40] * max(array.size, 1)), array.astype("S3")]  # fmt: skip
    if rng.random() < 0.2:
        del arrays[name]
    else:
        arrays[name] = rng.choice(others)
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def attributes_changed(rng: random.Random, data: bytes) -> bytes:
    """An attribute of a store that is odd, or JSON inside it."""
    file = io.BytesIO(data)
    with h5py.File(file, "r+") as opened:
        name = rng.choice(sorted(opened.attrs))
        value = opened.attrs[name]
        if (
            isinstance(value, str)
            and value.startswith(("{", "["))
            and rng.random() < 0.7
        ):
            text = json_changed(rng, value.encode()).replace(b"\0", b"")
            opened.attrs[name] = text.decode(errors="replace")
        elif rng.random() < 0.2:
            del opened.attrs[name]
        else:
            odd = [0, -1, 2**40, np.nan, "", "x", [1, 2], np.bytes_(b"\xff"), True,
                   h5py.Empty("f"), np.zeros((2, 2))]  # fmt: skip
            opened.attrs[name] = rng.choice(odd)
    return file.getvalue()


def toml_changed(rng: random.Random, data: bytes) -> bytes:
    """A value of a line that is odd, or bytes."""
    if rng.random() < 0.4:
        return bytes_changed(rng, data)
    lines = data.decode().splitlines()
    at = rng.choice([n for n, line in enumerate(lines) if "=" in line])
    odd = ["-1", "1e999", "nan", "true", '""', "[]", "{}", "[[1]]", "{a = 1}",
           "9" * 40, "1979-05-27", '"\\u0000"', '["x"]', "07:32:00"]  # fmt: skip
    lines[at] = f"{lines[at].partition('=')[0]}= {rng.choice(odd)}"
    return "\n".join(lines).encode()
