"""What stands before every page and answer: who may ask, how much, and for how long.

Pure ASGI, so that a body is counted while it comes and is never held twice.
"""

import asyncio
import ipaddress
import socket
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from featcache.errors import FeatcacheError
from featcache.serve.problems import Problem
from featcache.serve.tokens import Door

SAFE = {"GET", "HEAD", "OPTIONS"}
HEADERS = {
    # No inline script or style, nothing from elsewhere, in no frame.
    "content-security-policy": "default-src 'none'; script-src 'self'; "
    "style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
_DRAIN_SECONDS = 2.0  # of a refused body, so that the client reads why
_RETRY = {"retry-after": "1"}


@dataclass(frozen=True)
class Limits:
    """How much a client may ask for.

    Attributes:
        body_bytes: Of one request.
        waiting_bytes: Of the bodies of all requests that are being answered.
        requests: That are answered at the same time.
        seconds: That a request may take.
    """

    body_bytes: int = 64 * 2**20
    waiting_bytes: int = 512 * 2**20
    requests: int = 64
    seconds: float = 60.0


def host_names(host: str, others: Collection[str] = ()) -> frozenset[str]:
    """Names by which this machine may be called, beside addresses of numbers.

    A page of a stranger can have its own name resolve to this machine; that name is
    none of these.

    Args:
        host: Where the server listens.
        others: Further names, such as that of a proxy.
    """
    names = {"localhost", host, *others}
    if not is_loopback(host):
        names |= {socket.gethostname(), socket.getfqdn()}
    return frozenset(name.lower().rstrip(".") for name in names if name)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host's address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass
class Guard:
    """An ASGI application that lets through to another what it may answer.

    Attributes:
        app: The other: a `starlette.routing.Router`, which leaves errors to the guard;
            a `Starlette` would answer them itself.
        names: Of this machine, see `host_names`.
        door: Who may ask.
        limits: How much.
        report: Hears of an error that nobody expected: its type and place alone, for
            its text may have something of an image.
        answered: Hears of each request: path, status (0 if the client has gone) and
            seconds.
    """

    app: ASGIApp
    names: frozenset[str]
    door: Door
    limits: Limits = Limits()
    report: Callable[[str], None] = lambda text: None
    answered: Callable[[str, int, float], None] = lambda path, status, seconds: None
    running: int = field(default=0, init=False)
    waiting: int = field(default=0, init=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            return
        call, start = _Call(scope, receive, send, self), time.monotonic()
        scope["app"] = self.app  # so that Starlette's router raises, and we answer
        try:
            await self._answer(call, scope)
        except Problem as problem:
            await call.refuse(problem)
        except TimeoutError:
            await call.refuse(_too_slow(self.limits.seconds))
        except FeatcacheError as error:
            await call.refuse(Problem.of(error))
        except HTTPException as error:
            await call.refuse(Problem.of_http(error))
        except ClientDisconnect:
            return  # nobody hears an answer
        except Exception as error:  # noqa: BLE001 - no client sees it
            self.report(f"a request failed: {_place(error)}")
            await call.refuse(_unexpected())
        finally:
            self.waiting -= call.counted
            self.answered(scope["path"], call.status, time.monotonic() - start)

    async def _answer(self, call: "_Call", scope: Scope) -> None:
        self._check_host(call.headers)
        if self.running >= self.limits.requests:
            raise Problem(503, "the server is busy", "Ask again in a second.", _RETRY)
        self.running += 1
        try:
            if not self.door.admits(call.headers):
                await self._let_in(call, scope)
                return
            if scope["method"] not in SAFE:
                _check_origin(call.headers)
            call.announced()
            async with asyncio.timeout(self.limits.seconds):
                await self.app(scope, call.receive, call.send)
        finally:
            self.running -= 1

    def _check_host(self, headers: Headers) -> None:
        name = _host_of(headers.get("host", ""))
        if name in self.names or _is_address(name):
            return
        raise Problem(
            421,
            "this server does not go by the name in the header Host",
            "Use the address that it printed; who runs it can allow other names "
            "(`allow_host`).",
        )

    async def _let_in(self, call: "_Call", scope: Scope) -> None:
        """Changes a link of one use into a cookie.

        Raises:
            Problem: It is none.
        """
        query = parse_qs(scope["query_string"].decode("latin-1"))
        tickets = query.pop("token", [""])
        if scope["method"] != "GET" or not self.door.take(tickets[0]):
            raise Problem(
                401,
                "a token is needed",
                "Open the link that the server printed last (each opens once), or send "
                "the header Authorization: Bearer TOKEN.",
                {"www-authenticate": "Bearer"},
            )
        rest = urlencode(query, doseq=True)
        target = "/" + scope["path"].lstrip("/\\") + (f"?{rest}" if rest else "")
        headers = {"set-cookie": self.door.set_cookie}
        response = RedirectResponse(target, 303, headers)
        await response(scope, call.receive, call.send)


def _check_origin(headers: Headers) -> None:
    """Refuses what a page of another site sends; programs send no such header."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    foreign = site not in (None, "same-origin", "none")
    if origin is not None:
        foreign |= origin.partition("://")[2].lower() != headers["host"].lower()
    if foreign:
        raise Problem(403, "a page of another site asks", "Use this server's own page.")


class _Call:
    """One request: counts its body, and knows whether it is being answered."""

    def __init__(
        self, scope: Scope, receive: Receive, send: Send, guard: Guard
    ) -> None:
        self.headers = Headers(scope=scope)
        self.counted = self.status = 0
        self._receive, self._send, self._guard = receive, send, guard
        self._size = self._ended = False

    def announced(self) -> None:
        """Counts the length that the header states, before anything is read."""
        length = self.headers.get("content-length")
        if length is not None:
            self._size = True
            self._count(int(length) if length.isdecimal() else 0)

    def _count(self, n: int) -> None:
        limits = self._guard.limits
        if self.counted + n > limits.body_bytes:
            limit = f"{limits.body_bytes / 2**20:g} MiB"
            raise Problem(
                413, f"the request is larger than {limit}", "Send fewer files at once."
            )
        if self._guard.waiting + n > limits.waiting_bytes:
            raise Problem(503, "the server is busy", "Ask again in a second.", _RETRY)
        self.counted += n
        self._guard.waiting += n

    async def receive(self) -> Message:
        """A part of the body, counted unless its length was announced."""
        message = await self._receive()
        if message["type"] == "http.request":
            if not self._size:
                self._count(len(message.get("body", b"")))
            self._ended = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """A part of the answer, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("cache-control", "no-store")
        await self._send(message)

    async def refuse(self, problem: Problem) -> None:
        """Answers with a problem, and ends the connection of a body half read."""
        if self.status:
            return  # the server closes a connection whose answer is cut short
        unread = not self._ended and self._has_body
        response = problem.response()
        if unread:
            response.headers["connection"] = "close"
            await self._drain()
        await response({"type": "http", "method": "GET"}, self._receive, self.send)

    @property
    def _has_body(self) -> bool:
        length = self.headers.get("content-length", "0")
        return length != "0" or "transfer-encoding" in self.headers

    async def _drain(self) -> None:
        """Reads some of what still comes: a client that writes hears no answer."""
        if self.headers.get("expect", "").lower() == "100-continue":
            return  # it has not begun to write
        left = self._guard.limits.body_bytes
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                while left > 0:
                    message = await self._receive()
                    left -= len(message.get("body", b"")) or 1
                    if not message.get("more_body", False):
                        return
        except TimeoutError:
            return


def _host_of(header: str) -> str:
    """The name in a header Host, without the port."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.partition(":")[0].lower().rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _too_slow(seconds: float) -> Problem:
    text = f"the request took longer than {seconds:g} s"
    return Problem(408, text, "Send fewer files at once.", {"connection": "close"})


def _unexpected() -> Problem:
    text = "the server failed over this request"
    return Problem(500, text, "Its operator sees the type of the error.")


def _place(error: BaseException) -> str:
    trace, where = error.__traceback__, ""
    while trace is not None:
        code = trace.tb_frame.f_code
        where = f"{code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__} in {where}"
