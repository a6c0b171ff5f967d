"""What is in the wheel and in the source archive."""

import hashlib
import re
import tarfile
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
from installing import ROOT, Distributions

pytestmark = pytest.mark.release
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def digests(wheel: Path) -> dict[str, str]:
    """SHA-256 by the name of the file."""
    with zipfile.ZipFile(wheel) as archive:
        return {
            name: hashlib.sha256(archive.read(name)).hexdigest()
            for name in archive.namelist()
        }


def metadata_of(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def test_the_wheel_is_the_package_and_its_licence(distributions: Distributions) -> None:
    """Every file of featcache/ with its templates and pages, and nothing else."""
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "featcache").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    names = set(digests(distributions.wheel))
    about = {name for name in names if ".dist-info/" in name}
    assert names - about == package
    assert {"featcache/study/demo.toml", "featcache/py.typed"} < package
    assert f"featcache-{PROJECT['version']}.dist-info/licenses/LICENSE" in about
    assert distributions.wheel.stat().st_size < 5e6


def test_the_source_archive_makes_the_same_wheel(distributions: Distributions) -> None:
    """Every file of both wheels has the same bytes."""
    assert digests(distributions.wheel) == digests(distributions.wheel_of_sdist)


def test_the_source_archive_has_all_to_test_and_to_read(
    distributions: Distributions,
) -> None:
    """Tests, documents and lock; no cache, report or environment of the builder."""
    with tarfile.open(distributions.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"tests/toys.py", "requirements.lock", "Makefile", "LICENSE"} < names
    for folder in ("docs", "examples", "studies"):
        assert any(name.startswith(f"{folder}/") for name in names)
    for folder in ("cache", "reports"):
        assert {n for n in names if n.startswith(f"{folder}/")} == {
            f"{folder}/README.md"
        }
    assert not {name for name in names if re.match(r"\.(venv|ci|git/)", name)}


def test_the_description_stands_alone(distributions: Distributions) -> None:
    """It is the README without links and pictures that lead nowhere from there."""
    about = metadata_of(distributions.wheel)
    text = str(about.get_payload())
    assert about["Description-Content-Type"] == "text/markdown"
    assert text.startswith("# featcache\n")
    assert "## What it refuses to do\n" in text
    assert "The report of a study" not in text  # what is below a picture
    assert re.findall(r"\]\((?![a-z]+:)", text) == []


def test_the_metadata_name_python_and_licence(distributions: Distributions) -> None:
    """The versions of Python listed are those that are allowed."""
    about = metadata_of(distributions.wheel)
    assert (about["Version"], about["License-Expression"]) == (
        PROJECT["version"],
        "MIT",
    )
    listed = re.findall(r"Python :: (3\.\d+)", "\n".join(about.get_all("Classifier")))
    assert listed == ["3.11", "3.12", "3.13"]
    assert set(about["Requires-Python"].split(",")) == {">=3.11", "<3.14"}
