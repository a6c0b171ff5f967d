"""The record of each call: opened first, closed in ``finally``."""

import getpass
import os
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from itertools import chain, count
from pathlib import Path
from typing import Any

from featcache.backbones import Network
from featcache.commands.extract.plan import ExtractRequest, versions
from featcache.commands.extract.results import StoreResult
from featcache.core.io import write_json
from featcache.dataset.urls import without_secrets

# Of a request, in the record of a call.
_RECORDED = (
    *("views", "taps", "tap_pooling", "pooling"),
    *("engine", "precision", "dtype"),
)


@contextmanager
def recording(folder: Path, arguments: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Writes ``cache/<dataset>/extract-<time>.json`` at the start and at the end.

    Args:
        folder: The dataset's folder.
        arguments: What was asked for.

    Yields:
        The record; what is put into it is written when the block ends, whether it
        ends well, in an error, or by Ctrl-C. A record that still says "running" is
        that of a process that was killed.
    """
    path = _own_path(folder)
    started = time.monotonic()
    record: dict[str, Any] = {
        "status": "running",
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "user": _user(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "command": [without_secrets(word) for word in sys.argv],
        "arguments": arguments,
        "versions": versions(),
        "python": sys.version.split()[0],
    }
    try:
        write_json(path, record)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    try:
        yield record
        record["status"] = "done"
    except KeyboardInterrupt:
        record["status"] = "interrupted"
        raise
    except BaseException as error:
        record |= {"status": "failed", "error": f"{type(error).__name__}: {error}"}
        raise
    finally:
        record["seconds"] = round(time.monotonic() - started, 3)
        if folder.is_dir():  # and was not removed meanwhile
            write_json(path, record)


def _own_path(folder: Path) -> Path:
    """A name that no other call has, not even one of this process and second."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"extract-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
    for ending in chain([""], (f"-{number}" for number in count(2))):
        path = folder / f"{name}{ending}.json"
        with suppress(FileExistsError):
            path.touch(exist_ok=False)
            break
    return path


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a user table
        return str(os.getuid())


def arguments(request: ExtractRequest, networks: Sequence[Network]) -> dict[str, Any]:
    """What was asked for, as the record of a call has it."""
    return {
        "networks": [
            {
                "name": n.name,
                "weights": n.weights,
                "input_size": n.input_size,
                "file": str(n.file.resolve()) if n.file else None,
            }
            for n in networks
        ],
        "policy": request.policy.to_dict(),
        "batch_size": request.batch_size,
        "images": len(request.manifest.ok),
        **{name: getattr(request, name) for name in _RECORDED},
    }


def recorded(results: Sequence[StoreResult]) -> list[dict[str, Any]]:
    """What was done for each backbone, as the record of a call has it."""
    return [asdict(result) | {"path": str(result.path)} for result in results]
