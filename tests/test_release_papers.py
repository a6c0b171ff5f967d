"""What goes with a release agrees: versions, licences, and what is copied where."""

import re
import runpy
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
    "version"
]


def test_the_citation_and_the_changes_are_of_this_version() -> None:
    """CITATION.cff and CHANGELOG.md name the version with the same date."""
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (cited["version"], cited["license"]) == (VERSION, "MIT")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    dates = dict(re.findall(r"^## \[?(\d[\d.]*)\]? \(([\d-]+)\)", changes, re.M))
    assert dates[VERSION] == str(cited["date-released"])


def test_every_package_that_an_install_brings_has_its_licence_listed() -> None:
    """docs/reference/licences.md has all packages of the lock below core and extras."""
    script = runpy.run_path(str(ROOT / "docs/licences.py"))
    lock, page = script["packages"](), (ROOT / "docs/reference/licences.md").read_text()
    rows = re.findall(r"^\| (\S+) \| (\d\S*) \| (.+) \| (.+) \|$", page, re.M)
    expected = {
        (name, lock[name][0], ", ".join(by))
        for name, by in script["wanted_by"]().items()
    }
    assert {(name, version, by) for name, version, _, by in rows} == expected
    assert all(licence for _, _, licence, _ in rows)
