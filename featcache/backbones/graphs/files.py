"""ONNX and OpenVINO networks as files: which belong together, and what names them."""

import mmap
from collections.abc import Iterator
from functools import lru_cache
from hashlib import sha256
from os.path import isfile
from pathlib import Path

from featcache.core.io import sha256_file
from featcache.errors import WeightsError

# Numbers of the fields of ONNX's protocol buffers on the way to the places of weights
# that lie in files of their own (onnx.proto3: ModelProto.graph, GraphProto.node and
# initializer, NodeProto.attribute, AttributeProto.t, TensorProto.external_data, and
# StringStringEntryProto.key and value).
_GRAPH, _NODE, _INITIALIZER, _ATTRIBUTE, _TENSOR, _EXTERNAL = 7, 1, 5, 5, 5, 13
_LONGEST = 100  # letters of a file's name that are shown
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def weights_files(path: Path) -> list[Path]:
    """The files that hold the weights of a network beside the one that is named.

    Raises:
        WeightsError: One of them is missing or lies elsewhere, or the file is damaged.
    """
    if path.suffix.lower() == ".xml":
        names = [path.with_suffix(".bin").name]
    else:
        names = _external(path)
    for name in names:
        shown = repr(name if len(name) <= _LONGEST else f"{name[:_LONGEST]}...")
        if Path(name) != Path(Path(name).name):
            raise WeightsError(
                f"weights beside {path.name}", f"in {shown}", "Export it again."
            )
        if not isfile(path.parent / name):
            raise WeightsError(
                f"{path.name} keeps its weights in {shown}, which is not beside it",
                f"Copy it to {path.parent}.",
            )
    return [path.parent / name for name in names]


def key(path: Path) -> str:
    """Names a network by the bytes of all its files: 64 hex digits."""
    files = [path, *weights_files(path)]
    if len(files) == 1:
        return digits(path)
    return sha256("".join(map(digits, files)).encode()).hexdigest()


def digits(path: Path) -> str:
    """SHA-256 of a file, computed once a process while the file stays as it is."""
    state = path.stat()
    return _digits(path.resolve(), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=64)
def _digits(path: Path, changed: int, size: int) -> str:
    return sha256_file(path)


def _external(path: Path) -> list[str]:
    """Names of the files of weights that an ONNX file refers to, each once."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            raise _damaged(path)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                if not any(_messages(data, (0, len(data)), _GRAPH)):
                    raise ValueError("no graph")
                return list(dict.fromkeys(_locations(data)))
            except (ValueError, IndexError) as error:
                raise _damaged(path) from error


Span = tuple[int, int]  # of a message, from its first byte to behind its last


def _locations(data: mmap.mmap) -> Iterator[str]:
    for tensor in _tensors(data):
        for entry in _messages(data, tensor, _EXTERNAL):
            (key,) = _messages(data, entry, 1)
            if data[slice(*key)] == b"location":
                (value,) = _messages(data, entry, 2)
                yield data[slice(*value)].decode()


def _tensors(data: mmap.mmap) -> Iterator[Span]:
    """Weights, and the values of constant nodes."""
    for graph in _messages(data, (0, len(data)), _GRAPH):
        yield from _messages(data, graph, _INITIALIZER)
        for node in _messages(data, graph, _NODE):
            for attribute in _messages(data, node, _ATTRIBUTE):
                yield from _messages(data, attribute, _TENSOR)


def _messages(data: mmap.mmap, within: Span, field: int) -> Iterator[Span]:
    """Where the values of a field of bytes lie in a message.

    Raises:
        ValueError: It is no protocol buffer.
    """
    at, end = within
    while at < end:
        tag, at = _number(data, at)
        kind, length = tag & 7, 0
        if kind == _VARINT:
            _, at = _number(data, at)
        elif kind == _BYTES:
            length, at = _number(data, at)
            if tag >> 3 == field:
                yield at, at + length
        elif kind in (_FIXED64, _FIXED32):
            length = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError("no such kind of field")
        at += length
    if at != end:
        raise ValueError("a message is cut short")


def _number(data: mmap.mmap, at: int) -> tuple[int, int]:
    """A number of variable length, and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("a number is too long")


def _damaged(path: Path) -> WeightsError:
    return WeightsError(
        f"{path} is no ONNX file, or it is cut short", "Export or copy it again."
    )
