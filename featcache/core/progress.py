"""How a command says what it is doing while it works."""

import threading
from dataclasses import dataclass, field
from typing import Protocol


class Reporter(Protocol):
    """Hears of progress and messages; every command takes one as ``reporter``.

    A command may call it from several threads, but from one at a time. A subclass may
    leave out what it does not show.
    """

    def progress(self, name: str, done: int, total: int) -> None:
        """Hears how far a part of the work is.

        Args:
            name: What is being done, such as a backbone's name or "fits".
            done: Steps done.
            total: Steps to do.
        """
        return

    def message(self, text: str) -> None:
        """Hears what the user should know meanwhile."""
        return

    def doing(self, text: str) -> None:
        """Hears what the next steps of the work are, and how long they may take."""
        return

    def ended(self, text: str) -> None:
        """Hears that a part of a long call has ended, and what came of it."""
        return


class Silent(Reporter):
    """Shows nothing."""


SILENT = Silent()


@dataclass
class Messages(Reporter):
    """Keeps what is said, such as on a worker for the call that it works for.

    Attributes:
        texts: The messages.
    """

    texts: list[str] = field(default_factory=list)

    def message(self, text: str) -> None:
        """Keeps it."""
        self.texts.append(text)


@dataclass(frozen=True)
class OneAtATime(Reporter):
    """Lets the threads of a call report one after the other.

    Attributes:
        reporter: Who hears it.
        guard: Held while it hears something.
    """

    reporter: Reporter
    guard: threading.Lock = field(default_factory=threading.Lock)

    def progress(self, name: str, done: int, total: int) -> None:
        """Passes it on."""
        with self.guard:
            self.reporter.progress(name, done, total)

    def message(self, text: str) -> None:
        """Passes it on."""
        with self.guard:
            self.reporter.message(text)


@dataclass(frozen=True)
class Indented(Reporter):
    """Passes on what it hears, each message indented below a heading.

    Attributes:
        reporter: Who hears it.
    """

    reporter: Reporter

    def progress(self, name: str, done: int, total: int) -> None:
        """Passes it on."""
        self.reporter.progress(name, done, total)

    def message(self, text: str) -> None:
        """Passes it on, indented."""
        self.reporter.message(f"  {text}")

    def doing(self, text: str) -> None:
        """Passes it on."""
        self.reporter.doing(text)

    def ended(self, text: str) -> None:
        """Passes it on, indented."""
        self.reporter.ended(f"  {text}")


@dataclass
class Once(Reporter):
    """Passes on what it hears, each message once.

    For calls whose parts check the same things anew, such as on each worker.

    Attributes:
        reporter: Who hears it.
        texts: What was said.
    """

    reporter: Reporter
    texts: set[str] = field(default_factory=set)

    def progress(self, name: str, done: int, total: int) -> None:
        """Passes it on."""
        self.reporter.progress(name, done, total)

    def message(self, text: str) -> None:
        """Passes it on."""
        if text not in self.texts:
            self.texts.add(text)
            self.reporter.message(text)
