"""The documentation as a site: every page and every name has its place."""

import json
import re

import pandas as pd
from documents import ROOT, blocks, read, rows

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
    pages = (ROOT / "README.md", *DOCS.rglob("*.md"))
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    files = {path.name for path in (DOCS / "pictures").iterdir()}
    assert files == set(re.findall(r"pictures/([\w-]+\.png)\)", text))


def test_the_notebook_is_shown_as_it_is() -> None:
    """The page of the notebook has its code cells, in order."""
    book = json.loads(read("examples/quickstart.ipynb"))
    cells = [c["source"] for c in book["cells"] if c["cell_type"] == "code"]
    shown = blocks("docs/tutorials/notebook.md", "python")
    assert [text.rstrip("\n") for text in shown] == ["".join(cell) for cell in cells]


def test_tables_of_time_are_those_of_the_benchmarks() -> None:
    """The figures of each network and step are a row of the CSV."""
    page = read("docs/how-to/disk-and-time.md")
    tables = {
        name: pd.read_csv(ROOT / f"benchmarks/{name}.csv", dtype=str).fillna("nan")
        for name in ("extract", "growth")
    }
    networks = {
        f"{one.backbone} {float(one.seconds):.1f} {float(one.rate):.1f} {one.peak_mib}"
        for one in tables["extract"].query("images == '1123'").itertuples()
    }
    steps = {
        f"{float(one.seconds):.1f} {float(one.cpu_seconds):.1f} {one.peak_mib}"
        for one in tables["growth"].query("images >= '199000'").itertuples()
    }
    first, second = (rows(part) for part in page.split("## ")[1:3])
    assert {" ".join(cells[:4]) for cells in first[2:]} <= networks
    assert {" ".join(cells[1:]) for cells in second[2:]} <= steps
    assert (len(first), len(second)) == (7, 10)
