"""From the words of Python to those of the command line.

Library texts name an option as Python does, between backticks: `views`, `views=0`,
`calibrate=False`. The command line spells these --views, --views 0, --no-calibrate.
"""

import ast
import re
import shlex
from collections.abc import Iterator

import click


def spelled(text: str, group: click.Group) -> str:
    """Respells the options of a library text; what is no option stays as it is.

    Args:
        text: The text.
        group: Whose commands have the options.
    """
    known = {option.name: option for option in options(group)}

    def one(marked: re.Match[str]) -> str:
        option = known.get(marked["name"])
        return _spelled(option, marked["value"]) if option else marked[0]

    return re.sub(r"`(?P<name>\w+)(?:=(?P<value>[^`]*))?`", one, text)


def options(group: click.Group) -> Iterator[click.Option]:
    """All options of a group's commands."""
    for command in group.commands.values():
        if isinstance(command, click.Group):
            yield from options(command)
        yield from (p for p in command.params if isinstance(p, click.Option))


def _spelled(option: click.Option, text: str | None) -> str:
    if text is None:
        return option.opts[-1]
    value = _value(text)
    if isinstance(value, bool):
        return [*option.secondary_opts, *option.opts][-1 if value else 0]
    if isinstance(value, list | tuple):
        value = ",".join(map(str, value))
    return f"{option.opts[-1]} {shlex.quote(str(value))}"


def _value(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
