"""From the words of Python to those of the command line.

Library texts name an option as Python does, between backticks: `views`, `views=0`,
`calibrate=False`. The command line spells these --views, --views 0, --no-calibrate.
"""

import ast
import re
import shlex
from collections import defaultdict
from collections.abc import Iterator, Sequence

import click


def spelled(text: str, group: click.Group) -> str:
    """Respells the options of a library text; what is no option stays as it is.

    Args:
        text: The text.
        group: Whose commands have the options.
    """
    known = defaultdict(list)
    for option in options(group):
        known[option.name].append(option)

    def one(marked: re.Match[str]) -> str:
        of_name = known.get(marked["name"])
        return _spelled(of_name, marked["value"]) if of_name else marked[0]

    return re.sub(r"`(?P<name>\w+)(?:=(?P<value>[^`]*))?`", one, text)


def options(group: click.Group) -> Iterator[click.Option]:
    """All options of a group's commands."""
    for command in group.commands.values():
        if isinstance(command, click.Group):
            yield from options(command)
        yield from (p for p in command.params if isinstance(p, click.Option))


def _spelled(of_name: Sequence[click.Option], text: str | None) -> str:
    """One of the options of a name; where some are switches, and some take a value."""
    option = of_name[-1]
    if text is None:
        return option.opts[-1]
    value = _value(text)
    if isinstance(value, bool):
        switch = next((one for one in of_name if one.secondary_opts), option)
        return [*switch.secondary_opts, *switch.opts][-1 if value else 0]
    if isinstance(value, list | tuple):
        value = ",".join(map(str, value))
    return f"{option.opts[-1]} {shlex.quote(str(value))}"


def _value(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
