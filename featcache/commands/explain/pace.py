"""How far the making of maps is, said now and then, so that a log shows it too."""

import time
from collections.abc import Callable

from featcache.core.progress import Reporter
from featcache.core.text import duration

WORTH_TELLING = 10  # seconds; to know that there is less than this left is no help
_EVERY = 30  # seconds from one line to the next


class Pace:
    """Says how many of several are done, and how long the others will take.

    Args:
        reporter: Hears it.
        total: How many there are.
        what: What they are, in words.
        hint: What can be done about it, said once.
        clock: Tells the time in seconds.
    """

    def __init__(
        self,
        reporter: Reporter,
        total: int,
        what: str,
        hint: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reporter, self._total, self._clock = reporter, total, clock
        self._what, self._hint = what, f" ({hint})" if hint else ""
        self._started, self._last_line = clock(), 0.0

    def tell(self, done: int) -> None:
        """Says how far it is, if that is worth a line by now."""
        now = self._clock()
        left = (now - self._started) / done * (self._total - done)
        if left < WORTH_TELLING or (self._last_line and now - self._last_line < _EVERY):
            return
        text = f"{done} of {self._total} {self._what}; about {duration(left)} left"
        self._reporter.ended(text if self._last_line else text + self._hint)
        self._last_line = now
