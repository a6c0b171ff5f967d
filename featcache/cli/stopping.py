"""Ends a command on SIGTERM and SIGHUP as on Ctrl-C."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_REPEAT_SECONDS = 3.0  # a signal soon after another is part of the same request


class Stopped(KeyboardInterrupt):
    """A signal asked the process to end.

    Attributes:
        exit_code: 128 and the number of the signal, as shells report it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


class Interrupted(Exception):  # noqa: N818
    """A command was interrupted; click would print an empty line of its own.

    Attributes:
        command: Its name.
        exit_code: 130 after Ctrl-C.
    """

    def __init__(self, cause: KeyboardInterrupt, command: str = "") -> None:
        super().__init__(*cause.args)
        self.command = command
        self.exit_code = cause.exit_code if isinstance(cause, Stopped) else 130


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Raises `Stopped` in the main thread on SIGTERM or SIGHUP during the block.

    Signals that were ignored stay so (nohup), and handlers of others stay in place.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    last = -_REPEAT_SECONDS

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _REPEAT_SECONDS:
            last = now
            raise Stopped(number)

    free = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is signal.SIG_DFL
    ]
    for number in free:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in free:
            signal.signal(number, signal.SIG_DFL)
