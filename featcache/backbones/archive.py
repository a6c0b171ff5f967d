"""``.keras`` files as archives: what they say of their layers."""

import zipfile
from pathlib import Path
from typing import Any

from featcache.core.io import parse_json
from featcache.core.text import first_line
from featcache.errors import WeightsError

_CONFIG = "config.json"
_MOST = 64 * 2**20  # bytes of it


def config_bytes(path: Path) -> bytes:
    """What a ``.keras`` file says of its layers.

    Raises:
        WeightsError: It is no such file, or is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(_CONFIG).file_size > _MOST:
                raise ValueError(f"{_CONFIG} above {_MOST >> 20} MiB")
            return archive.read(_CONFIG)
    except Exception as error:  # those of zipfile and its decoders have no common base
        raise _no_network(path, error) from error


def config_of(path: Path) -> dict[str, Any]:
    """The same as a JSON object.

    Raises:
        WeightsError: Likewise, and if it is another value.
    """
    try:
        config = parse_json(config_bytes(path))
        if not isinstance(config, dict):
            raise ValueError(f"{_CONFIG} is no object")
    except ValueError as error:
        raise _no_network(path, error) from error
    return config


def _no_network(path: Path, error: Exception) -> WeightsError:
    return WeightsError(
        "a network saved by Keras 3 (model.save('name.keras'))",
        f"{path}, which is not such a file ({first_line(error)})",
        "Save the network again in the .keras format.",
    )
