"""How a command says what it is doing while it works."""

from dataclasses import dataclass


class Reporter:
    """Hears of progress and messages; this one is silent.

    Every command takes one as ``reporter``. Subclasses show what they hear, such as
    bars on a terminal. A command may call it from several threads, but from one at a
    time.
    """

    def progress(self, name: str, done: int, total: int) -> None:
        """Hears how far a part of the work is.

        Args:
            name: What is being done, such as a backbone's name or "fits".
            done: Steps done.
            total: Steps to do.
        """

    def message(self, text: str) -> None:
        """Hears what the user should know meanwhile."""


SILENT = Reporter()


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
