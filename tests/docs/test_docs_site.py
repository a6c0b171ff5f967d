"""The documentation as a site: every page and every name has its place."""

import re

from documents import ROOT, read

import featcache

DOCS = ROOT / "docs"


def test_every_page_is_listed() -> None:
    """The index lists all pages but those of commands and decisions, and no other."""
    links = re.findall(r"\]\(([\w/-]+\.(?:md|rst))\)", read("docs/index.md"))
    pages = {
        path.relative_to(DOCS).as_posix()
        for path in [*DOCS.rglob("*.md"), *DOCS.rglob("*.rst")]
        if path.parent.name not in ("commands", "decisions", "docs")
    }
    assert {*links} == {*pages, "decisions/README.md"}


def test_every_public_name_is_in_the_reference() -> None:
    """The page of the Python API has each name of the package once."""
    pattern = r"^\.\. auto(?:function|class):: (\w+)(?:\(\))?$"
    names = re.findall(pattern, read("docs/reference/api.rst"), re.MULTILINE)
    others = ["__version__", "FeatcacheError"]  # it is among the errors
    assert sorted([*others, *names]) == sorted(featcache.__all__)


def test_every_picture_is_shown() -> None:
    """No file among the pictures is without a page that shows it."""
    text = "".join(page.read_text(encoding="utf-8") for page in DOCS.rglob("*.md"))
    files = {path.name for path in (DOCS / "pictures").iterdir()}
    assert files == set(re.findall(r"pictures/([\w-]+\.png)\)", text))
