"""Runs a page on this machine: binds, prints the address, and ends on Ctrl-C."""

import asyncio
import errno
import secrets
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from featcache.errors import UsageError
from featcache.serve.security import Guard, Limits, host_names, is_loopback
from featcache.serve.tokens import Door

HOST, PORT = "127.0.0.1", 8000
_HEADER_SECONDS = 10.0  # for the first line and the headers of a request
_MOST_HEADERS = 2**16  # bytes
_MOST_CONNECTIONS = 512
_END_SECONDS = 5  # for requests that are being answered at the end


@dataclass(frozen=True)
class Listening:
    """Where a page listens, and who may ask.

    Attributes:
        host: Address or name; 127.0.0.1 is reached from this machine alone.
        port: 0 for any that is free.
        token_file: Of the token that is needed; without, $FEATCACHE_TOKEN, or one is
            generated where the host is reached from elsewhere.
        allow_host: Names beside the machine's own that clients may call it by.
    """

    host: str = HOST
    port: int = PORT
    token_file: Path | None = None
    allow_host: tuple[str, ...] = ()


def run(
    app: ASGIApp,
    listening: Listening,
    sock: socket.socket,
    token: str | None,
    *,
    announce: Callable[[str], None],
    report: Callable[[str], None],
    limits: Limits | None = None,
    answered: Callable[[str, int, float], None] | None = None,
) -> None:
    """Serves an application behind its guard until Ctrl-C or SIGTERM.

    Args:
        app: The application.
        listening: Where, and for whom.
        sock: Of `bind`, which is closed at the end.
        token: Of `read_token`.
        announce: Hears the address, with a link of one use where a token is needed;
            and the next link when one was used.
        report: Hears of errors, and of a token that was generated.
        limits: How much a client may ask for; None for the usual.
        answered: Hears of each request: path, status and seconds.
    """
    with sock:
        port = sock.getsockname()[1]
        if token is None and not is_loopback(listening.host):
            token = secrets.token_urlsafe(32)
            report(f"token for programs (header Authorization: Bearer TOKEN): {token}")
        address = f"http://{_printed(listening.host)}:{port}/"
        door = Door(
            token, f"featcache-{port}", lambda t: announce(f"{address}?token={t}")
        )
        names = host_names(listening.host, listening.allow_host)
        guard = Guard(app, names, door, limits or Limits(), report)
        guard.answered = answered or guard.answered
        link = address + (f"?token={door.ticket}" if token else "")
        _Server(_config(guard), lambda: announce(link)).run([sock])


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        UsageError: The port is in use or not allowed, or there is no such host.
    """
    if not 0 <= port < 2**16:
        raise UsageError("`port` from 0 to 65535", str(port), "0 takes a free one.")
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, proto)
    except (OSError, UnicodeError) as error:
        raise _no_host(host) from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(_MOST_CONNECTIONS)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise _no_host(host) from error
        taken = error.errno == errno.EADDRINUSE
        reason = "in use" if taken else str(error.strerror)
        raise UsageError(
            f"`port={port}` of {host} is {reason}"
            if taken
            else f"`port={port}` of {host} cannot be used: {reason}",
            "Choose another, or `port=0` for one that is free.",
        ) from error
    return sock


def _no_host(host: str) -> UsageError:
    return UsageError(
        "`host` with an address or a name of this machine",
        repr(host),
        f"Use {HOST}, or 0.0.0.0 for all of its networks.",
    )


def _printed(host: str) -> str:
    if host in ("0.0.0.0", "::", ""):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


def _config(app: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        loop="asyncio",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_END_SECONDS,
        h11_max_incomplete_event_size=_MOST_HEADERS,
    )


class _Server(uvicorn.Server):
    """Says when it is ready; ends on Ctrl-C and SIGTERM without an error."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        def stop(number: int, frame: FrameType | None) -> None:
            self.handle_exit(number, frame)

        main = threading.current_thread() is threading.main_thread()
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if main else ()
        before = {
            number: signal.signal(number, stop)
            for number in numbers
            if signal.getsignal(number) is not signal.SIG_IGN  # nohup
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class _Protocol(H11Protocol):
    """Ends connections that do not come to a request, and those that are too many."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > _MOST_CONNECTIONS:
            transport.abort()
            return
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()
        elif self._timer is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._timer = self.loop.call_later(_HEADER_SECONDS, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
