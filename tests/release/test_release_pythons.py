"""The wheel on each Python that it allows, and without being installed."""

import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from installing import IMPORT_ALL, LOCK, Distributions, install, runner, uv
from test_release_files import PROJECT

pytestmark = [pytest.mark.release, pytest.mark.timeout(900)]  # packages are fetched
VERSIONS = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"


def interpreter(version: str) -> str | None:
    """A Python of this version on this machine: one that uv knows, or of pyenv."""
    listed = json.loads(
        uv("python", "list", "--only-installed", "--output-format", "json", version)
    )
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    others = sorted(root.glob(f"versions/{version}.*/bin/python"))
    return next(iter([*[one["path"] for one in listed], *map(str, others)]), None)


@pytest.mark.parametrize("version", [v for v in VERSIONS if v != RUNNING])
def test_it_works_on(
    version: str, distributions: Distributions, tmp_path: Path
) -> None:
    """Version, doctor, every module and, with the newest, the demo."""
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    install(distributions.wheel, python, tmp_path / "venv")
    run = runner(tmp_path / "venv/bin", tmp_path)
    assert run("python", "-V")[1].startswith(f"Python {version}.")
    assert run("featcache", "--version")[1].endswith(f"{PROJECT['version']}\n")
    code, out, err = run("python", "-c", IMPORT_ALL)
    assert code == 0, err
    assert {name.split(".")[1] for name in json.loads(out)} == {"serve"}
    code, _, err = run("featcache", "doctor", "--offline")
    assert code == 0, err
    if version == VERSIONS[-1]:
        code, out, err = run("featcache", "demo", "--images", 36, "--jobs", 1)
        assert code == 0, err
        assert "Report: reports/demo/report.html" in out


def test_it_runs_without_being_installed(distributions: Distributions) -> None:
    """`uvx --from WHEEL featcache`; the environment that uv made for it is removed."""
    uvx = ("tool", "run", "--python", sys.executable, *LOCK)
    uvx = (*uvx, "--from", distributions.wheel)
    out = uv(*uvx, "featcache", "--version")
    assert out == f"featcache, version {PROJECT['version']}\n"
    prefix = Path(uv(*uvx, "python", "-c", "import sys; print(sys.prefix)").strip())
    assert prefix.is_relative_to(uv("cache", "dir").strip())
    shutil.rmtree(prefix)
