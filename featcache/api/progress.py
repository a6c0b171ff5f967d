"""Progress as it suits the place: a bar in a notebook or a terminal, else nothing."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any

from featcache.core.progress import Reporter

logger = logging.getLogger("featcache")


@contextmanager
def show(visible: bool | None = None) -> Iterator[Reporter]:
    """Shows the progress of the block.

    Args:
        visible: True or False; None for a bar in notebooks and terminals alone. Without
            a bar, messages go to the logger ``featcache``.
    """
    notebook, terminal = _in_notebook(), sys.stderr.isatty()
    if visible is False or (visible is None and not notebook and not terminal):
        yield _Logged()
    elif notebook:
        bars = _NotebookBars()
        try:
            yield bars
        finally:
            bars.close()
    else:
        with _terminal_bars() as reporter:
            yield reporter


def _in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


class _Logged(Reporter):
    """No bar; messages are logged."""

    def message(self, text: str) -> None:
        """Logs the text."""
        logger.info(text)

    def ended(self, text: str) -> None:
        """Logs the text."""
        logger.info(text)


class _NotebookBars(Reporter):
    """One output area with a bar for each name; it is empty at the end."""

    def __init__(self) -> None:
        from IPython.display import display

        self._states: dict[str, tuple[int, int]] = {}
        self._handle: Any = display(_bundle(""), raw=True, display_id=True)

    def progress(self, name: str, done: int, total: int) -> None:
        """Draws the bars, at most about a hundred times each."""
        before = self._states.get(name)
        self._states[name] = (done, total)
        step = max(total // 100, 1)
        if before is None or done >= total or done // step != before[0] // step:
            html = "".join(map(self._line, self._states))
            self._handle.update(_bundle(html), raw=True)

    def message(self, text: str) -> None:
        """Prints the text on stderr, which a notebook shows apart from results."""
        sys.stderr.write(f"{text}\n")

    def close(self) -> None:
        """Removes the bars."""
        self._handle.update(_bundle(""), raw=True)

    def _line(self, name: str) -> str:
        done, total = self._states[name]
        return (
            f'<div><progress value="{done}" max="{max(total, 1)}"></progress> '
            f"{escape(name)} {done}/{total}</div>"
        )


def _bundle(html: str) -> dict[str, str]:
    """An output of which nothing is left where there is no HTML."""
    return {"text/html": html, "text/plain": ""}


@dataclass
class _TerminalBars(Reporter):
    """Bars of rich."""

    bars: Any
    tasks: dict[str, Any]

    def progress(self, name: str, done: int, total: int) -> None:
        """Moves the bar of a name."""
        if name not in self.tasks:
            self.tasks[name] = self.bars.add_task(name)
        self.bars.update(self.tasks[name], completed=done, total=total)

    def message(self, text: str) -> None:
        """Prints the text above the bars."""
        self.bars.console.print(text, markup=False, highlight=False)


@contextmanager
def _terminal_bars() -> Iterator[_TerminalBars]:
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True
    ) as bars:
        yield _TerminalBars(bars, {})
