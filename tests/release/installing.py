"""Building and installing the package, in no environment that is active."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
NOWHERE = "http://127.0.0.1:9"  # a proxy that is not there: no host answers

Run = Callable[..., tuple[int, str, str]]


class Distributions(NamedTuple):
    """What is released, and a wheel that was made from the source archive."""

    wheel: Path
    sdist: Path
    wheel_of_sdist: Path


def uv(*arguments: object) -> None:
    """Runs uv, in no environment that is active."""
    from uv import find_uv_bin

    command = [find_uv_bin(), *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment(), check=False
    )
    assert done.returncode == 0, done.stderr


def environment(**changes: str) -> dict[str, str]:
    """This process's environment without what points to a checkout."""
    ours = ("PYTHONPATH", "VIRTUAL_ENV", "FEATCACHE_CACHE", "FEATCACHE_WEIGHTS")
    return {k: v for k, v in os.environ.items() if k not in ours} | changes
