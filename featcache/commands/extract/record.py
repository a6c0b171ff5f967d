"""The record of each call: opened first, closed in ``finally``."""

import getpass
import os
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
    path = _unused_path(folder)
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
    write_json(path, record)
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


def _unused_path(folder: Path) -> Path:
    """A name of its own, though a process may make several calls in a second."""
    name = f"extract-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
    endings = chain([""], (f"-{number}" for number in count(2)))
    paths = (folder / f"{name}{ending}.json" for ending in endings)
    return next(path for path in paths if not path.exists())


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
