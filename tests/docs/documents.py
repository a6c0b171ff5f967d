"""The documents and the commands, for the tests that compare them."""

import re
from collections.abc import Iterator
from pathlib import Path

import click

from featcache.cli import cli

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "cache").glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "reports").glob("*.md"),
    ]
)
OF_COMMANDS = ROOT / "docs/reference/commands"


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
    """The page of a command, without its heading."""
    page = OF_COMMANDS / f"{command.replace(' ', '-')}.md"
    heading, _, text = page.read_text(encoding="utf-8").partition("\n")
    assert heading == f"# featcache {command}"
    return text
