"""Building and installing the package, in no environment that is active."""

import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[2]
LOCK = ("--constraints", ROOT / "requirements.lock")
NOWHERE = "http://127.0.0.1:9"  # a proxy that is not there: no host answers

# Prints the modules that cannot be imported, each with the package it lacks.
IMPORT_ALL = """
import importlib, json, pkgutil
import featcache
missing = {}
for module in pkgutil.walk_packages(featcache.__path__, "featcache."):
    if module.name != "featcache.__main__":
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            missing[module.name] = error.name
for name in featcache.__all__:
    getattr(featcache, name)
print(json.dumps(missing))
"""
Run = Callable[..., tuple[int, str, str]]


class Distributions(NamedTuple):
    """What is released, and a wheel that was made from the source archive."""

    wheel: Path
    sdist: Path
    wheel_of_sdist: Path


def uv(*arguments: object, given: str | None = None) -> str:
    """What uv prints, in no environment that is active."""
    from uv import find_uv_bin

    command = [find_uv_bin(), *map(str, arguments)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=environment(),
        input=given,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def environment(**changes: str) -> dict[str, str]:
    """This process's environment without what points to a checkout."""
    ours = ("PYTHONPATH", "VIRTUAL_ENV", "FEATCACHE_CACHE", "FEATCACHE_WEIGHTS")
    return {k: v for k, v in os.environ.items() if k not in ours} | changes


def install(wheel: Path, interpreter: str | Path, folder: Path) -> None:
    """Makes an environment of the wheel and what it needs, without extras."""
    uv("venv", "--python", interpreter, folder)
    uv("pip", "install", "--python", folder / "bin/python", *LOCK, wheel)


def runner(programs: Path, home: Path) -> Run:
    """Runs programs of a folder offline, in a folder of their own."""
    offline = {f"{name}_proxy": NOWHERE for name in ("http", "https")}
    offline |= {"no_proxy": "127.0.0.1,localhost"}
    offline |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}

    def call(
        program: str, *arguments: object, changes: Mapping[str, str] | None = None
    ) -> tuple[int, str, str]:
        command = [str(programs / program), *map(str, arguments)]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=home,
            env=environment(**offline | dict(changes or {})),
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return call


def once(
    factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]
) -> Path:
    """A folder that the first of several test processes makes, and all of them use."""
    root = factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    folder, made = root / name, root / f"{name}.made"
    with FileLock(root / f"{name}.lock"):
        if not made.exists():
            make(folder)
            made.touch()
    return folder
