"""Pages of the study, and how they are read, for the tests of the report."""

import re
import shlex
from html.parser import HTMLParser
from typing import Any

from report_study import Study

from featcache.cli import cli
from featcache.commands.compare import compare
from featcache.evaluation import references, runs
from featcache.report.html.context import ReportContext, collect
from featcache.report.html.page import render


class Reader(HTMLParser):
    """Reads a page into its tags with their attributes, and the text of each."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keeps a tag."""
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        """Keeps a text with the tag it follows."""
        self.texts.append((self.tags[-1][0] if self.tags else "", data))

    def of(self, tag: str) -> list[dict[str, str]]:
        """Attributes of every such tag."""
        return [attributes for name, attributes in self.tags if name == tag]

    def values(self, name: str) -> list[str]:
        """Every value of an attribute."""
        return [attributes[name] for _, attributes in self.tags if name in attributes]

    @property
    def text(self) -> str:
        """What a person reads."""
        shown = [data for tag, data in self.texts if tag not in ("script", "style")]
        return " ".join(" ".join(shown).split())


def parsed(line: str) -> tuple[str, dict[str, Any]]:
    """The command of a line, and what the command line makes of its words."""
    program, name, *words = shlex.split(line)
    assert program == "featcache"
    return name, cli.commands[name].make_context(name, words).params


def best(study: Study) -> runs.Run:
    return references.find(study.reports, "logreg")


def context(study: Study, part: str = "train") -> ReportContext:
    board = compare(study.reports, part=part)
    return collect(study.reports, board, study.manifest)


def page(study: Study, part: str = "train") -> str:
    return render(context(study, part))


def of_section(text: str, name: str) -> str:
    """The markup of one section of the page."""
    return text.split(f'<section id="{name}"')[1].split("<section ")[0]


def run_sections(text: str) -> list[str]:
    """The markup of each run."""
    return re.split(r'id="run-\d"', of_section(text, "runs"))[1:]


def rows(page: Any) -> list[str]:
    """Heads in the leaderboard as they are seen, from top to bottom."""
    return page.locator("#board tbody tr:visible th a").all_inner_texts()
