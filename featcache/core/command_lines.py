"""Commands in texts that people paste: which folders and files they name."""

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

CACHE, REPORTS = "cache", "reports"  # the folders where none is named
CACHE_VARIABLE = "FEATCACHE_CACHE"
# Which of the two options --cache and --reports a command has.
OPTIONS = {
    **dict.fromkeys(("scan", "extract", "serve"), (CACHE,)),
    **dict.fromkeys(
        (f"cache {name}" for name in ("verify", "export", "compact")), (CACHE,)
    ),
    "backbone ls": (CACHE,),
    **dict.fromkeys(
        (
            *(f"cache {name}" for name in ("ls", "info", "prune")),
            *(f"dataset {name}" for name in ("ls", "rm", "rename")),
            *("audit", "train-head", "finetune", "ensemble", "compare", "curve"),
            *("explain", "validate", "bundle make", "predict", "export", "run", "demo"),
            *(f"review {name}" for name in ("open", "apply", "retrain", "status")),
            *("review", "doctor"),  # behind its longer names
        ),
        (CACHE, REPORTS),
    ),
}
_COMMAND = re.compile(
    rf"(?<![\w/-])featcache (?P<name>{'|'.join(OPTIONS)})(?=[\s.,;:)'\"`&]|$)"
    # A worker of an --exchange has no cache.
    r"(?! --(?:cache|reports|exchange) )(?!\.\w)"
)


@dataclass(frozen=True)
class Folders:
    """The cache and the reports folder of a call.

    Attributes:
        cache: As it was named; None where the call has none.
        reports: The same.
    """

    cache: Path | None = None
    reports: Path | None = None

    def complete(self, text: str) -> str:
        """The text, its commands with the options of both folders.

        An option is left out where the command would use that folder without it.
        """
        return _COMMAND.sub(self._completed, text)

    def _completed(self, command: re.Match[str]) -> str:
        words = [command[0]]
        for option in OPTIONS[command["name"]]:
            folder = self.cache if option == CACHE else self.reports
            if folder is not None and not _is_usual(folder, option):
                words.append(f"--{option} {shlex.quote(str(folder))}")
        return " ".join(words)


def _is_usual(folder: Path, option: str) -> bool:
    """Whether a folder is meant in every shell, whatever its environment."""
    names = [option]
    if option == CACHE and os.environ.get(CACHE_VARIABLE):
        names.append(os.environ[CACHE_VARIABLE])
    return all(Path(name).absolute() == folder.absolute() for name in names)


def from_here(path: str | Path) -> str:
    """A file as a command names it: below the current folder by its relative path."""
    absolute = Path(os.path.normpath(Path(path).absolute()))
    here = Path.cwd()
    below = absolute.is_relative_to(here)
    return str(absolute.relative_to(here) if below else absolute)
