"""Weights without a connection: no download waits for what never comes."""

import http.server
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from featcache import backbones
from featcache.backbones import BACKBONES, Backbone, weights
from featcache.errors import WeightsError

SECONDS = 0.3


@pytest.fixture(autouse=True)
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without weights, and little patience."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for name in ("FEATCACHE_WEIGHTS", "http_proxy", "HTTP_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(weights, "CONNECT_SECONDS", SECONDS)
    monkeypatch.setattr(weights, "_UNREACHABLE", {})


def row(port: int, host: str = "127.0.0.1") -> Backbone:
    """A network whose weights are published on the loopback, without a checksum."""
    one = BACKBONES["densenet121"]
    assert isinstance(one, Backbone)
    return replace(one, url=f"http://{host}:{port}/weights.h5", md5="")


@contextmanager
def listening(backlog: int = 5) -> Iterator[int]:
    """A port that is connected to and never answered."""
    with socket.create_server(("127.0.0.1", 0), backlog=backlog) as server:
        yield server.getsockname()[1]


@contextmanager
def dropping() -> Iterator[int]:
    """A port without room for another connection: its packets are dropped."""
    with listening(backlog=0) as port:
        waiting = []
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
            waiting.append(one)
        yield port
        for one in waiting:
            one.close()


@pytest.mark.parametrize("server", [listening, dropping])
def test_what_never_answers_is_given_up(server) -> None:
    """A server that says nothing, and packets that are dropped, cost the limit."""
    with (
        server() as port,
        pytest.raises(WeightsError, match=r"no answer from 127\S+ in 0.3 s"),
    ):
        backbones.fetch_weights(row(port))


def test_a_proxy_that_never_answers_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The limit holds for what stands between as well."""
    monkeypatch.delenv("no_proxy")
    with listening() as port:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        monkeypatch.setattr("urllib.request._opener", None)  # knows the proxies of then
        with pytest.raises(WeightsError, match=r"no answer from far\.example:80 in"):
            backbones.fetch_weights(row(80, "far.example"))


def test_a_refused_connection_is_told_with_its_reason() -> None:
    """A closed port is known at once."""
    with listening() as port:
        pass
    with pytest.raises(WeightsError, match=r"no connection to 127\S+: .*refused"):
        backbones.fetch_weights(row(port))


def test_a_name_that_is_not_known_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a name server the error is that of the look-up."""

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(WeightsError, match="Name or service not known"):
        backbones.fetch_weights(row(80, "far.example"))


def test_the_next_network_of_a_host_does_not_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Forty networks of a silent host are refused by a single attempt."""
    with listening() as port:
        with pytest.raises(WeightsError, match="no answer"):
            backbones.fetch_weights(row(port))
        monkeypatch.setattr("urllib.request.urlopen", None)  # is not called
        with pytest.raises(WeightsError, match="no answer"):
            backbones.fetch_weights(row(port))


class _SlowFile(http.server.BaseHTTPRequestHandler):
    """Answers at once, and sends a body for longer than the limit."""

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        for byte in b"slow":
            time.sleep(SECONDS / 2)
            self.wfile.write(bytes([byte]))

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.mark.slow
def test_a_slow_download_is_not_cut() -> None:
    """The limit is for the first answer, and not for the file."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _SlowFile) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.05])
        thread.start()
        try:
            path = backbones.fetch_weights(row(server.server_port))
        finally:
            server.shutdown()
            thread.join()
    assert path.read_bytes() == b"slow"
