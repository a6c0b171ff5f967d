"""This machine: worker processes that end with the call."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from featcache.core.parallel import side_by_side
from featcache.core.progress import Reporter
from featcache.core.scratch import scratch_folder
from featcache.core.workers.base import Workers

if TYPE_CHECKING:
    from featcache.core.workers import Site

Result = TypeVar("Result")


class LocalWorkers(Workers):
    """Processes of this machine.

    Args:
        count: How many.
    """

    text = "this machine"

    def __init__(self, count: int) -> None:
        self.count = count

    def run(
        self,
        function: Callable[..., Result],
        calls: Sequence[dict[str, Any]],
        *,
        gpu: bool = False,  # processes side by side would share it
    ) -> Generator[tuple[int, Result | str], None, None]:
        """See `Workers.run`."""
        return side_by_side(function, calls, self.count)

    def scratch(self, home: Path) -> AbstractContextManager[Path]:
        """See `Workers.scratch`."""
        return scratch_folder()


@contextmanager
def opened(site: "Site", jobs: int, reporter: Reporter) -> Iterator[Workers]:
    """See `workers.opened`."""
    yield LocalWorkers(jobs)
