"""A table of named rows that offers the nearest names on a miss."""

import difflib
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TypeVar

from featcache.errors import UnknownNameError

Row = TypeVar("Row")
_LISTED = 20  # names that an error lists
_LONGEST = 150  # letters of a name that it repeats


class Registry(Mapping[str, Row]):
    """An ordered, read-only table from name to row.

    Args:
        kind: What a row is ("backbone"), for the error text.
        rows: The table.
        hint: A further way out, shown behind the nearest names.
    """

    def __init__(self, kind: str, rows: Mapping[str, Row], *, hint: str = "") -> None:
        self.kind = kind
        self.hint = hint
        self._rows = dict(rows)

    def __getitem__(self, name: str) -> Row:
        if name not in self._rows:
            raise self.unknown(name)
        return self._rows[name]

    def canonical(self, name: str) -> str:
        """The name as the table spells it, whatever its capitals; or as it is given.

        Raises:
            UnknownNameError: Several names differ from it in capitals alone.
        """
        if name in self._rows:
            return name
        same = [row for row in self._rows if row.casefold() == name.casefold()]
        if len(same) > 1:
            raise self.unknown(name)
        return same[0] if same else name

    # Mapping.__contains__ and .get expect KeyError; ours is a domain error.
    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def unknown(self, name: str) -> UnknownNameError:
        """Returns the error for a name that is not in the table.

        A long table is not listed: the five nearest names are.
        """
        is_long = len(self._rows) > _LISTED
        start = name.lower()[:_LONGEST]
        nearest = partial(difflib.get_close_matches, start, self._rows)
        near = nearest(n=5 if is_long else 3, cutoff=0.5)
        offer = f"Did you mean {' or '.join(near)}?" if near else ""
        if "," in name:
            offer = "Give several names one by one, each with its own option."
        elif is_long and not near:
            offer = f"The nearest are {', '.join(nearest(n=5, cutoff=0))}."
        return UnknownNameError(
            f"the name of a {self.kind}, one of {len(self._rows)}"
            if is_long
            else f"one of {', '.join(self._rows)} as {self.kind}"
            if self._rows
            else f"a {self.kind}, of which there are none",
            repr(name if len(name) <= _LONGEST else f"{name[:_LONGEST]}..."),
            " ".join(part for part in (offer, self.hint) if part)
            or "Choose one of these.",
        )
