"""The documents and the commands, for the tests that compare them."""

import re
from collections.abc import Iterator
from pathlib import Path

import click

from featcache.cli import cli

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for folder in (".", "cache", "docs", "docs/decisions", "reports")
    for page in (ROOT / folder).glob("*.md")
)


def commands(
    group: click.Group, above: str = ""
) -> Iterator[tuple[str, click.Command]]:
    """Every command by its words, such as "cache ls"."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{above}{name} ")
        else:
            yield above + name, command


COMMANDS = dict(commands(cli))


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", read(page), re.DOTALL | re.M)


def rows(text: str) -> list[list[str]]:
    """Cells of all table rows of a text."""
    lines = re.findall(r"^\|(.*)\|$", text.replace(r"\|", "/"), re.MULTILINE)
    return [[cell.strip() for cell in line.split("|")] for line in lines]


def section(command: str) -> str:
    """What docs/commands.md says of a command."""
    found = re.search(
        rf"^## featcache {command}\n(.*?)(?=^## |\Z)",
        read("docs/commands.md"),
        re.DOTALL | re.MULTILINE,
    )
    assert found, f"{command} is not in docs/commands.md"
    return found[1]
