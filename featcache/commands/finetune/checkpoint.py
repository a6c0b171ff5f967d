"""Checkpoints: where the training of one network stands, in one file.

Those of one run are a folder, beside a file that says what decides them.
"""

import json
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from featcache.core import checked, records
from featcache.core.io import atomic_path, digest_arrays, parse_json, read_json
from featcache.core.records import MaybeNaN
from featcache.core.text import some

Arrays = list[np.ndarray]
ABOUT = "about.json"
_LONG = 30  # letters of a value that a digest, a list or a file name exceeds


@dataclass
class State:
    """Where a training stands at the end of an epoch.

    Attributes:
        epoch: Epochs done.
        seconds: Spent in them.
        history: One row an epoch.
        start: ``log_loss`` and ``accuracy`` of the validation part before the first
            step; empty without one.
        best_epoch: Whose weights are the best; 0 is the start.
        best_loss: Log-loss of the validation part at it.
        stopped: Why it has ended; empty while it has not.
        best: The trainable weights at it.
        variables: All of the network and of its optimizer, with the states of what
            draws random numbers.
    """

    epoch: int = 0
    seconds: float = 0.0
    history: list[dict[str, MaybeNaN]] = field(default_factory=list)
    start: dict[str, float] = field(default_factory=dict)
    best_epoch: int = 0
    best_loss: float = float("inf")
    stopped: str = ""
    best: Arrays = field(default_factory=list)
    variables: Arrays = field(default_factory=list)


_ARRAYS = ("best", "variables")
# What a damaged file raises.
_BROKEN = (
    *(OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, RuntimeError),
    *(MemoryError, zipfile.BadZipFile, zlib.error),
)


@dataclass(frozen=True)
class Checkpoint:
    """The file of one training.

    Attributes:
        path: Of the file.
        key: Digest of everything that decides what is trained.
    """

    path: Path
    key: str

    def save(self, state: State) -> None:
        """Replaces the file, whole or not at all."""
        arrays = {
            f"{name}{i:05d}": array
            for name in _ARRAYS
            for i, array in enumerate(getattr(state, name))
        }
        rest = {k: v for k, v in asdict(_light(state)).items() if k not in _ARRAYS}
        record = {"key": self.key, "state": rest, "arrays": _digests(arrays)}
        about = json.dumps(checked.with_digest(records.plain(record))).encode()
        with atomic_path(self.path) as temp, temp.open("wb") as file:
            np.savez(file, about=np.frombuffer(about, np.uint8), **arrays)

    def load(self) -> tuple[State | None, str]:
        """Reads the file.

        Returns:
            The state, or None and why there is none: "" if there is no file.
        """
        return self._read(_ARRAYS)

    def peek(self) -> State:
        """How far the training is, without the weights; at its start without a file."""
        return self._read(())[0] or State()

    def _read(self, names: Sequence[str]) -> tuple[State | None, str]:
        try:
            with (
                self.path.open("rb") as file,
                np.load(file, allow_pickle=False) as archive,
            ):
                about = parse_json(archive["about"].tobytes())
                checked.refuse_changed_record(about)
                if about["key"] != self.key:
                    return None, f"{self.path} belongs to other settings"
                arrays = {
                    name: _numbered(archive, name, about["arrays"]) for name in names
                }
                fields = {k: v for k, v in about["state"].items() if v is not None}
                state = records.from_json(State, fields)
                for name, several in arrays.items():
                    setattr(state, name, several)
                return state, ""
        except FileNotFoundError:
            return None, ""
        except _BROKEN as error:
            return None, f"{self.path} is damaged ({error})"


def others(folder: Path, identity: dict[str, Any]) -> list[str]:
    """Tells of the checkpoints that a network has under other settings.

    Args:
        folder: Where its own are to be.
        identity: What decides them; ``network`` is its name.
    """
    messages = []
    for path in sorted(folder.parent.glob(f"*/{ABOUT}")):
        with suppress(OSError, ValueError):
            record = read_json(path)
            is_record = isinstance(record, dict) and path.parent != folder
            if is_record and record.get("network") == identity["network"]:
                differ = some(_differences(record, json.loads(json.dumps(identity))))
                messages.append(
                    f"{path.parent} holds a training of {record['network']} with "
                    f"other settings ({differ}). It is left alone: use these settings "
                    "again to resume it, or delete the folder"
                )
    return messages


def _differences(one: dict[str, Any], two: dict[str, Any]) -> list[str]:
    differing: list[str] = []
    for key in sorted({*one, *two}):
        a, b = one.get(key), two.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            differing += _differences(a, b)
        elif a != b:
            short = max(len(str(a)), len(str(b))) < _LONG
            name = key.replace("_", " ")
            differing.append(f"{name} {a}, not {b}" if short else f"different {name}")
    return differing


def _light(state: State) -> State:
    return replace(state, best=[], variables=[])


def _digests(arrays: dict[str, np.ndarray]) -> dict[str, str]:
    return {name: digest_arrays(np.asarray(array)) for name, array in arrays.items()}


def _numbered(archive: Any, name: str, digests: dict[str, str]) -> Arrays:
    """The arrays of a name in their order; all that were written, as they were."""
    keys = sorted(key for key in digests if key.startswith(name))
    arrays = {key: archive[key] for key in keys}
    changed = [key for key, own in _digests(arrays).items() if own != digests[key]]
    if changed:
        raise ValueError(f"{changed[0]} was changed after it was written")
    return list(arrays.values())
