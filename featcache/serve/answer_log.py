"""A line for each answer, if that is wanted: never pixels, names or DICOM elements."""

import json
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from featcache.deploy.answers import REFUSED
from featcache.errors import UsageError

FILE = "answers.jsonl"
FIELDS = ("image_id", "status", "class", "probabilities", "zone")


class AnswerLog:
    """Appends to ``answers.jsonl`` in a folder; one line is one write.

    Args:
        folder: Made where it is missing.

    Raises:
        UsageError: It cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(
                folder / FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600
            )
            self._file: IO[bytes] = os.fdopen(descriptor, "ab", buffering=0)
        except OSError as error:
            raise UsageError(
                f"a folder that can be written for `log_dir={folder}`",
                str(error.strerror),
                "Choose another.",
            ) from error

    def close(self) -> None:
        """Closes it."""
        self._file.close()

    def add(self, bundle: str, answer: dict[str, Any]) -> None:
        """Appends a line.

        The file's name is left out, which may be a patient's; and the reason of an
        unreadable file, which may have something of its content.

        Args:
            bundle: Name of the bundle.
            answer: As `Served.to_json` gives it.
        """
        line = {"time": datetime.now(UTC).isoformat(), "bundle": bundle}
        line |= {name: answer[name] for name in FIELDS}
        if answer["status"] == REFUSED:
            line["reason"] = answer["reason"]
        with self._lock:
            self._file.write(json.dumps(line).encode() + b"\n")
