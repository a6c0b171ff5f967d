"""The wheel and the source archive of the tree, and an environment of the wheel."""

import sys
from pathlib import Path

import pytest
from installing import ROOT, Distributions, Run, install, once, runner, uv


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """Builds each as a release does: in an environment that has hatchling alone."""

    def make(folder: Path) -> None:
        uv("build", "--wheel", "--out-dir", folder, ROOT)
        uv("build", "--sdist", "--out-dir", folder, ROOT)
        (sdist,) = folder.glob("*.tar.gz")
        uv("build", "--wheel", "--out-dir", folder / "again", sdist)

    folder = once(tmp_path_factory, "dist", make)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    (again,) = (folder / "again").glob("*.whl")
    return Distributions(wheel, sdist, again)


@pytest.fixture(scope="session")
def installed(
    distributions: Distributions, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of programs of a fresh environment with the wheel and no extra."""

    def make(folder: Path) -> None:
        install(distributions.wheel, sys.executable, folder)

    return once(tmp_path_factory, "installed", make) / "bin"


@pytest.fixture(scope="session")
def outside(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a program of the fresh environment offline, in a folder of its own."""
    return runner(installed, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def demo(outside: Run) -> str:
    """What `featcache demo` of few images prints; its cache is the current folder's."""
    code, out, err = outside("featcache", "demo", "--images", 60, "--jobs", 1)
    assert code == 0, err
    return out
