"""The guard before every page: hosts, origins, tokens, sizes and times."""

import asyncio
import http.client
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from asgi import acall, call
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, Router

from featcache.errors import UsageError
from featcache.serve import running, security
from featcache.serve.assets import asset_routes
from featcache.serve.security import HEADERS, Guard, Limits, host_names
from featcache.serve.tokens import Door, read_token

SECRET = "a-token-of-the-users-own"


async def echo(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def broken(request: Request) -> Response:
    raise ValueError("Doe^John")


def guard(token: str | None = None, **limits: Any) -> Guard:
    app = Router(
        routes=[
            Route("/echo", echo, methods=["GET", "POST"]),
            Route("/broken", broken),
        ]
    )
    door = Door(token, "featcache-8000")
    return Guard(app, host_names("127.0.0.1"), door, Limits(**limits))


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("localhost:9000", 200),
        ("[::1]:8000", 200),
        ("192.168.0.7:8000", 200),
        ("rebound.example:8000", 421),
        ("127.0.0.1.rebound.example", 421),
        ("", 421),
    ],
)
def test_only_its_own_names_are_answered(host: str, status: int) -> None:
    """A name that a stranger lets resolve to this machine is refused."""
    assert call(guard(), "GET", "/echo", headers={"host": host}).status == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:9999", "sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
    ],
)
def test_other_sites_cannot_post(headers: dict[str, str], status: int) -> None:
    """A page of another site, or of another port, posts nothing; a program does."""
    assert call(guard(), "POST", "/echo", b"x", headers).status == status


def test_every_answer_has_the_headers() -> None:
    """Also that of an error: a policy without inline script, and no store."""
    for reply in (call(guard(), "GET", "/echo"), call(guard(), "GET", "/none")):
        assert reply.headers.items() >= HEADERS.items()
        assert reply.headers["cache-control"] == "no-store"
    policy = HEADERS["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy


def test_errors_have_one_form() -> None:
    """What is not there, and another method, too."""
    reply = call(guard(), "GET", "/none")
    assert (reply.status, {*reply.json["error"]}) == (404, {"problem", "fix"})
    reply = call(guard(), "DELETE", "/echo")
    assert (reply.status, {*reply.json["error"]}) == (405, {"problem", "fix"})
    assert "GET" in reply.headers["allow"]


def test_an_announced_body_is_refused_unread() -> None:
    """2 GB in the header: 413 before the application sees anything."""
    headers = {"content-length": str(2 * 2**30), "expect": "100-continue"}
    reply = call(guard(), "POST", "/echo", [b""], headers)
    assert (reply.status, reply.headers["connection"]) == (413, "close")
    assert reply.problem == "the request is larger than 64 MiB"


def test_a_body_in_parts_is_counted() -> None:
    """Without a length, reading ends with the part that is too much."""
    taken = []

    def parts() -> Iterator[bytes]:
        for number in range(100):
            taken.append(number)
            yield b"x" * 100

    one = guard(body_bytes=1000)
    assert call(one, "POST", "/echo", parts()).status == 413
    assert len(taken) < 30
    assert one.waiting == 0
    assert call(one, "POST", "/echo", [b"x" * 500] * 2).body == b"1000"


def test_bodies_together_are_bounded() -> None:
    """A second request finds no room while the first is read, and may ask again."""
    one = guard(waiting_bytes=1500, body_bytes=1000)

    async def both() -> tuple[Any, Any]:
        first = acall(one, "POST", "/echo", b"x" * 1000, pause=0.05)
        return await asyncio.gather(first, acall(one, "POST", "/echo", b"x" * 1000))

    first, second = asyncio.run(both())
    assert (first.status, second.status) == (200, 503)
    assert second.headers["retry-after"] == "1"
    assert one.waiting == 0


def test_requests_together_are_bounded() -> None:
    """One too many is 503, and the place is free again afterwards."""
    one = guard(requests=2)

    async def three() -> list[Any]:
        calls = [acall(one, "POST", "/echo", b"x", pause=0.05) for _ in range(3)]
        return await asyncio.gather(*calls)

    assert sorted(reply.status for reply in asyncio.run(three())) == [200, 200, 503]
    assert one.running == 0


def test_a_slow_body_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends a byte now and then is not waited for."""
    monkeypatch.setattr(security, "_DRAIN_SECONDS", 0.05)
    reply = call(guard(seconds=0.1), "POST", "/echo", [b"x"] * 99, pause=0.02)
    assert (reply.status, reply.headers["connection"]) == (408, "close")


def test_an_error_nobody_expected_says_nothing() -> None:
    """The client sees no traceback, and the log no text that may be of an image."""
    texts: list[str] = []
    one = guard()
    one.report = texts.append
    reply = call(one, "GET", "/broken")
    assert reply.status == 500
    assert "Doe" not in reply.body.decode() + str(texts)
    assert texts[0].startswith("a request failed: ValueError in test_serve_guard.py:")


def test_a_token_is_needed() -> None:
    """In the header; another, or none, is 401."""
    one = guard(SECRET)
    for text, status in (
        (f"Bearer {SECRET}", 200),
        (f"bearer {SECRET}", 200),
        (f"Bearer {SECRET}x", 401),
        ("Bearer", 401),
        (SECRET, 401),
        ("Bearer \u00e4", 401),
    ):
        headers = {"authorization": text}
        assert call(one, "GET", "/echo", headers=headers).status == status
    assert call(one, "GET", "/echo").headers["www-authenticate"] == "Bearer"


def test_a_link_opens_once() -> None:
    """It leaves a cookie that scripts cannot read, and is then of no use."""
    one, links = guard(SECRET), []
    one.door.announce = links.append
    link = f"/echo?token={one.door.ticket}&a=1"
    reply = call(one, "GET", link)
    assert (reply.status, reply.headers["location"]) == (303, "/echo?a=1")
    cookie = reply.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert SECRET not in cookie
    assert call(one, "GET", link).status == 401
    assert links == [one.door.ticket]
    headers = {"cookie": "other=1; " + cookie.partition(";")[0]}
    assert call(one, "GET", "/echo", headers=headers).status == 200
    headers = {"cookie": cookie.partition(";")[0] + "0"}
    assert call(one, "GET", "/echo", headers=headers).status == 401


def test_a_link_cannot_lead_elsewhere() -> None:
    """A path of two slashes stays a path."""
    one = guard(SECRET)
    reply = call(one, "GET", f"//evil.example/x?token={one.door.ticket}")
    assert reply.headers["location"] == "/evil.example/x"


def test_tokens_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file goes before the environment; one that can be guessed is refused."""
    monkeypatch.delenv("FEATCACHE_TOKEN", raising=False)
    assert read_token(None) is None
    monkeypatch.setenv("FEATCACHE_TOKEN", "of-the-environment-1")
    assert read_token(None) == "of-the-environment-1"
    file = tmp_path / "token"
    file.write_text(SECRET + "\n")
    assert read_token(file) == SECRET
    for text in ("", "short", "fifteen letters", "sixteen\nletters!!"):
        file.write_text(text)
        with pytest.raises(UsageError, match="16 printable"):
            read_token(file)
    with pytest.raises(UsageError, match="No such file"):
        read_token(tmp_path / "none")


def test_a_port_in_use() -> None:
    """The error says so; a port that is free is taken with 0."""
    with running.bind("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        with pytest.raises(UsageError, match=f"`port={port}` of 127.0.0.1 is in use"):
            running.bind("127.0.0.1", port)
    with pytest.raises(UsageError, match="0 to 65535"):
        running.bind("127.0.0.1", 70000)
    with pytest.raises(UsageError, match="a name of this machine"):
        running.bind("203.0.113.7", 0)


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    """A server in a thread, with a short wait for headers."""
    monkeypatch.setattr(running, "_HEADER_SECONDS", 0.2)
    server = running._Server(running._config(guard(body_bytes=1000)), lambda: None)
    sock = running.bind("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, args=([sock],))
    thread.start()
    yield sock.getsockname()
    server.should_exit = True
    thread.join()


def test_headers_that_do_not_end(address: tuple[str, int]) -> None:
    """A connection without a whole request is closed; others are answered meanwhile."""
    with socket.create_connection(address, timeout=5) as slow:
        slow.sendall(b"GET /echo HTTP/1.1\r\nHost: loc")
        client = http.client.HTTPConnection(*address, timeout=5)
        client.request("POST", "/echo", b"abc")
        assert client.getresponse().read() == b"3"
        client.close()
        with suppress(ConnectionResetError):
            assert slow.recv(100) == b""


def test_a_client_that_writes_on_hears_why(address: tuple[str, int]) -> None:
    """It has sent all of its body by the time it reads the 413."""
    client = http.client.HTTPConnection(*address, timeout=5)
    client.request("POST", "/echo", b"x" * 1500)
    reply = client.getresponse()
    assert (reply.status, reply.getheader("connection")) == (413, "close")
    assert reply.getheader("server") is None
    client.close()


PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where tests ignore it
from pathlib import Path
from starlette.routing import Router
from featcache.serve.running import Listening, bind, run
sock = bind("127.0.0.1", 0)
run(Router(), Listening(), sock, None, report=print,
    announce=lambda text: print(text, flush=True))
print("ended")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_quietly(number: int) -> None:
    """Ctrl-C and SIGTERM end it as success, without a word."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline().startswith("http://127.0.0.1:")
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "ended\n", "")


def test_files_of_pages_have_fixed_names() -> None:
    """Nothing else is served, whatever a path spells; an unchanged one is 304."""
    app = Guard(
        Router(routes=asset_routes({"/pages.css": "pages.css"})),
        host_names("127.0.0.1"),
        Door(None),
    )
    reply = call(app, "GET", "/pages.css")
    assert (reply.status, reply.headers["content-type"]) == (
        200,
        "text/css; charset=utf-8",
    )
    again = {"if-none-match": reply.headers["etag"]}
    assert call(app, "GET", "/pages.css", headers=again).status == 304
    for path in ("/../problems.py", "/%2e%2e/problems.py", "/pages.css/..", "//etc"):
        assert call(app, "GET", path).status == 404
