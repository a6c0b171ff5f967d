"""A study file as text: its sections and keys are checked, and errors name lines."""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from featcache.core.registry import Registry
from featcache.dataset.urls import Location, is_url, location
from featcache.errors import FeatcacheError, UsageError
from featcache.study.keys import (
    BOUNDS,
    CHOICES,
    REQUIRED,
    SECTIONS,
    TOP,
    Key,
    fits,
    in_words,
)
from featcache.study.toml_lines import Where, lines_of


@dataclass(frozen=True)
class Document:
    """A TOML file.

    Attributes:
        path: The file.
        text: What it says.
        values: The same, parsed.
        variables: What ``${NAME}`` in its paths stands for.
    """

    path: Path
    text: str
    values: dict[str, Any]
    variables: Mapping[str, str]

    @cached_property
    def lines(self) -> dict[Where, int]:
        """The line of each key; only an error asks for it."""
        return lines_of(self.text)


@dataclass(frozen=True)
class Block:
    """One section of the file.

    Attributes:
        document: The file.
        where: ``("dataset",)``, or ``("train", 0)`` for the first ``[[train]]``.
        own: Its keys.
        above: Sections that hold where it says nothing, the nearest first.
    """

    document: Document
    where: Where
    own: dict[str, Any]
    above: tuple["Block", ...] = ()

    @property
    def section(self) -> str:
        """Name of its section."""
        return str(self.where[0]) if self.where else TOP

    @property
    def title(self) -> str:
        """The section as the file spells it, with its number among its like."""
        if not self.where:
            return TOP
        name, *number = self.where
        return f"[[{name}]] {int(number[0]) + 1}" if number else f"[{name}]"

    @property
    def name(self) -> str:
        """What the file calls it; by default such as "train 1"."""
        return str(self.own.get("name") or self.title.replace("[", "").replace("]", ""))

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Its keys, and those that hold for it from above."""
        blocks = (*reversed(self.above), self)
        return {key: value for block in blocks for key, value in block.own.items()}

    def position(self, *keys: str | int) -> str:
        """File, line and section of a key, for an error."""
        owners = (b for b in (self, *self.above) if not keys or keys[0] in b.own)
        owner = next(owners, self)
        lines, where = self.document.lines, (*owner.where, *keys)
        while where not in lines:  # what is lacking is said of what it lacks in
            where = where[:-1]
        words = [str(self.document.path), f"line {lines[where]}"]
        if keys and owner.where:
            words.append(f"{keys[0]} of {owner.title}")
        elif keys or owner.where:
            words.append(str(keys[0]) if keys else owner.title)
        return ", ".join(words)

    def error(
        self, keys: tuple[str | int, ...], expected: str, got: str, hint: str
    ) -> UsageError:
        """The error of a key."""
        return UsageError(f"{expected} ({self.position(*keys)})", got, hint)

    @contextmanager
    def blaming(self, *keys: str | int) -> Iterator[None]:
        """Says of the library's errors which key they are about."""
        try:
            yield
        except FeatcacheError as error:
            hint, got = _as_keys(error.hint), _as_keys(error.got)
            if error.expected:
                expected = _as_keys(error.expected)
                raise self.error(keys, expected, got, hint) from error
            raise UsageError(f"{got} ({self.position(*keys)})", hint) from error

    def filled(self, text: str, *keys: str | int) -> str:
        """A text of the file with its variables filled in.

        Raises:
            UsageError: A variable is not set.
        """

        def value(match: re.Match[str]) -> str:
            if not (text := self.document.variables.get(match[1], "")):
                raise self.error(
                    keys,
                    f"the environment variable {match[1]} to be set",
                    "an empty or missing one",
                    f"Set it, for example: {match[1]}=/some/folder featcache run "
                    f"{self.document.path}",
                )
            return text

        return re.sub(r"\$\{(\w+)\}", value, text)

    def place(self, text: str, *keys: str | int) -> Location:
        """A URL, or a path of the file, with variables filled in."""
        filled = self.filled(text, *keys)
        return location(filled) if is_url(filled) else self.path(text, *keys)

    def path(self, text: str, *keys: str | int) -> Path:
        """A path of the file: variables filled in, relative to the file."""
        path = Path(self.filled(text, *keys))
        try:
            return self.document.path.parent / path.expanduser()
        except RuntimeError as error:  # no home folder
            got = f"{path}, where no such home folder is known"
            raise self.error(keys, "a path", got, "Write it in full.") from error


def _as_keys(text: str) -> str:
    """A library text with its options as keys: `tune=True` as tune = true."""
    text = re.sub(r"`(\w+)=(True|False)`", lambda m: f"{m[1]} = {m[2].lower()}", text)
    return re.sub(r"`(\w+)(?:=([^`]*))?`", _as_key, text)


def _as_key(marked: re.Match[str]) -> str:
    return f"{marked[1]} = {marked[2]}" if marked[2] else marked[1]


def read(path: Path, variables: Mapping[str, str]) -> Document:
    """Reads and parses a file.

    Raises:
        UsageError: It cannot be read, or is no TOML.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
        return Document(path, text, tomllib.loads(text), variables)
    except OSError as error:
        hint = "Give the path of a study file, such as studies/granada.toml."
        raise UsageError(
            f"a study file in {path}", error.strerror or str(error), hint
        ) from error
    except (ValueError, RecursionError) as error:  # not UTF-8, no TOML, too deep
        hint = "Correct the syntax there; see https://toml.io."
        raise UsageError(f"valid TOML in {path}", str(error), hint) from error


def blocks(document: Document) -> dict[str, list[Block]]:
    """The sections of a document by name; each key is one of its section, and fits.

    Raises:
        UsageError: Any is not; the nearest name is offered.
    """
    sections = {k: v for k, v in document.values.items() if k in SECTIONS}
    top = {k: v for k, v in document.values.items() if k not in sections}
    base = Block(document, (), top)
    _check_keys(
        base, [*SECTIONS[TOP].keys, *(name for name in SECTIONS if name != TOP)]
    )
    by_section = {
        name: _sections(base, name, sections.get(name, [])) for name in SECTIONS
    }
    by_section[TOP] = [base]
    for name, several in by_section.items():
        for block in several:
            _check_keys(block, SECTIONS[name].keys)
            _check_values(block, SECTIONS[name].keys)
    return by_section


def _sections(base: Block, name: str, value: Any) -> list[Block]:
    """The blocks of a section: many ``[[name]]``, or at most one ``[name]``."""
    many = SECTIONS[name].many
    if isinstance(value, list) and all(isinstance(v, dict) for v in value):
        if many or not value:
            return [Block(base.document, (name, i), v) for i, v in enumerate(value)]
    elif isinstance(value, dict) and not many:
        return [Block(base.document, (name,), value)]
    spelled = f"[[{name}]]" if many else f"[{name}]"
    spellings = {"dict": f"[{name}]", "list": f"[[{name}]]"}
    got = spellings.get(type(value).__name__, repr(value))
    raise base.error((name,), spelled, got, f"Write {spelled} above its keys.")


def _check_keys(block: Block, known: Iterable[str]) -> None:
    table = Registry(f"key for {block.title}", dict.fromkeys(known))
    for key in block.own:
        with block.blaming(key):
            table[key]


def _check_values(block: Block, keys: Mapping[str, Key]) -> None:
    for name, key in keys.items():
        if key.default is REQUIRED and name not in block.own:
            hint = f"Add {name} = ... to the section."
            raise block.error((), f"a key {name} in {block.title}", "none", hint)
    for name, value in block.own.items():
        if not fits(value, keys[name].hint):
            expected = f"{in_words(keys[name].hint)} for {name}"
            hint = f"See {name} in docs/reference/study.md."
            raise block.error((name,), expected, repr(value), hint)
        _check_choice(block, name, value)
        _check_bounds(block, name, value)


def _check_choice(block: Block, name: str, value: Any) -> None:
    choices = CHOICES.get(f"{block.section}.{name}")
    if choices:
        table = Registry(name, dict.fromkeys(choices))
        for word in value if isinstance(value, list) else [value]:
            with block.blaming(name):
                table[word]


def _check_bounds(block: Block, name: str, value: Any) -> None:
    low, high = BOUNDS.get(name, (float("-inf"), float("inf")))
    for number in value if isinstance(value, list) else [value]:
        if name in BOUNDS and not isinstance(number, str) and not low <= number <= high:
            bounds = f"{low:g} or more" if high == float("inf") else f"{low:g}-{high:g}"
            raise block.error(
                (name,), f"{name} to be {bounds}", str(number), "Correct the number."
            )
