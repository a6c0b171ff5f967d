"""What a ``.keras`` file may be made of, checked before Keras reads it."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_MEMBERS = {"metadata.json", "config.json", "model.weights.h5"}
_PARTS = {
    "activations", "constraints", "dtype_policies", "initializers", "layers", "models",
    "ops", "regularizers",
}  # fmt: skip
# Layers that hold code, call other frameworks, or read files that a path names.
_REFUSED = {
    "FlaxLayer", "IntegerLookup", "JaxLayer", "Lambda", "StringLookup",
    "TextVectorization", "TFSMLayer", "TorchModuleWrapper", "__lambda__",
    "__typespec__",
}  # fmt: skip
_LARGEST = 64 * 2**20  # bytes of config.json


def refuse_unsafe(path: Path) -> None:
    """Refuses a file that is made of anything but layers of Keras itself.

    Raises:
        OSError: It cannot be read.
        ValueError: Names the first part that is refused.
    """
    try:
        with zipfile.ZipFile(path) as file:
            names = [info.filename for info in file.infolist()]
            if set(names) != _MEMBERS or len(names) != len(_MEMBERS):
                other = sorted(set(names) ^ _MEMBERS) or names
                raise ValueError(f"a file with other members: {other[0]}")
            if file.getinfo("config.json").file_size > _LARGEST:
                raise ValueError("a config.json that is too large")
            config = json.loads(file.read("config.json"))
        for part in _parts(config):
            _refuse(part)
    except (zipfile.BadZipFile, RecursionError, NotImplementedError) as error:
        raise ValueError(f"a damaged file ({error})") from error


def _parts(value: Any) -> Iterator[dict[str, Any]]:
    """Every part of a config that Keras would make an object of."""
    if isinstance(value, dict):
        if "class_name" in value:
            yield value
        for one in value.values():
            yield from _parts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _parts(one)


def _refuse(part: dict[str, Any]) -> None:
    name, module = str(part["class_name"]), part.get("module")
    words = str(module).removeprefix("keras.").removeprefix("src.").split(".")
    is_keras = module in (None, "keras") or (
        str(module).startswith("keras.") and words[0] in _PARTS
    )
    is_function = name == "function" and words[0] != "activations"
    if name in _REFUSED or is_function or not is_keras:
        what = part.get("config") if is_function else name
        prefix = f"{module}." if module else ""
        raise ValueError(f"{prefix}{what}, which is no plain layer of Keras")
