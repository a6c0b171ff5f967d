"""Checkpoints: where the training of one network stands, in one file."""

import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from featcache._io import atomic_path

Arrays = list[np.ndarray]


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
    history: list[dict[str, float]] = field(default_factory=list)
    start: dict[str, float] = field(default_factory=dict)
    best_epoch: int = 0
    best_loss: float = float("inf")
    stopped: str = ""
    best: Arrays = field(default_factory=list)
    variables: Arrays = field(default_factory=list)


_ARRAYS = ("best", "variables")


@dataclass(frozen=True)
class Checkpoint:
    """The file of one training.

    Attributes:
        path: Of the file.
        belongs: Digest of everything that decides what is trained.
    """

    path: Path
    belongs: str

    def save(self, state: State) -> None:
        """Replaces the file, whole or not at all."""
        arrays = {
            f"{name}{i:05d}": array
            for name in _ARRAYS
            for i, array in enumerate(getattr(state, name))
        }
        rest = {k: v for k, v in asdict(_light(state)).items() if k not in _ARRAYS}
        told = json.dumps({"belongs": self.belongs, "state": rest}).encode()
        with atomic_path(self.path) as temp, temp.open("wb") as file:
            np.savez(file, about=np.frombuffer(told, np.uint8), **arrays)

    def load(self) -> tuple[State | None, str]:
        """Reads the file.

        Returns:
            The state, or None and why there is none: "" if there is no file.
        """
        try:
            with (
                self.path.open("rb") as file,
                np.load(file, allow_pickle=False) as found,
            ):
                about = json.loads(found["about"].tobytes())
                if about["belongs"] != self.belongs:
                    return None, f"{self.path} belongs to other settings"
                arrays = {name: _numbered(found, name) for name in _ARRAYS}
                return State(**about["state"] | arrays), ""
        except FileNotFoundError:
            return None, ""
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            return None, f"{self.path} is damaged ({error})"


def _light(state: State) -> State:
    return replace(state, best=[], variables=[])


def _numbered(found: Any, name: str) -> Arrays:
    keys: Sequence[str] = sorted(key for key in found.files if key.startswith(name))
    return [found[key] for key in keys]
