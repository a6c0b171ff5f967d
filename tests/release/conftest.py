"""The wheel and the source archive of the tree, and an environment of the wheel."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from installing import NOWHERE, ROOT, Distributions, Run, environment, uv


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """Builds each as a release does: in an environment that has hatchling alone."""
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "--wheel", "--out-dir", folder, ROOT)
    uv("build", "--sdist", "--out-dir", folder, ROOT)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    uv("build", "--wheel", "--out-dir", folder / "again", sdist)
    (again,) = (folder / "again").glob("*.whl")
    return Distributions(wheel, sdist, again)


@pytest.fixture(scope="session")
def installed(
    distributions: Distributions, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of programs of a fresh environment with the wheel and no extra."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    uv("venv", "--python", sys.executable, folder)
    uv(
        *("pip", "install", "--python", folder / "bin/python"),
        *("--constraint", ROOT / "requirements.lock", distributions.wheel),
    )
    return folder / "bin"


@pytest.fixture(scope="session")
def outside(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a program of the fresh environment offline, in a folder of its own."""
    home = tmp_path_factory.mktemp("home")
    offline = {f"{name}_proxy": NOWHERE for name in ("http", "https")}
    offline |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}

    def call(
        program: str, *arguments: object, changes: Mapping[str, str] | None = None
    ) -> tuple[int, str, str]:
        command = [str(installed / program), *map(str, arguments)]
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


@pytest.fixture(scope="session")
def demo(outside: Run) -> str:
    """What `featcache demo` of few images prints; its cache is the current folder's."""
    code, out, err = outside("featcache", "demo", "--images", 60, "--jobs", 1)
    assert code == 0, err
    return out
