"""Servers on the loopback that can fail: one of files, and one of S3."""

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class WebServer:
    """Serves ``files`` by path, with ranges; the next GETs may end in ``faults``."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.faults: list[int] = []
        self.has_ranges = True
        self.requests: list[tuple[str, str]] = []
        handler = type("Handler", (_Handler,), {"web": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.05])

    def __enter__(self) -> "WebServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """Its root, without a slash at the end."""
        return f"http://127.0.0.1:{self._server.server_port}"


class _Handler(BaseHTTPRequestHandler):
    web: WebServer

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path, wanted = self.path, self.headers.get("Range", "")
        self.web.requests.append((path, wanted))
        data = self.web.files.get(path.partition("?")[0])
        fails = self.web.faults and self.command == "GET"
        status = self.web.faults.pop(0) if fails else 200
        status = 404 if data is None and status == 200 else status
        data = data if data is not None and status == 200 else b"no"
        size = len(data)
        self.send_response(206 if self._cut(wanted, status) else status)
        if part := self._cut(wanted, status):
            start, end = int(part[1]), min(int(part[2]) + 1, size)
            data = data[start:end]
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        if self.web.has_ranges:
            self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def _cut(self, wanted: str, status: int) -> re.Match[str] | None:
        in_parts = self.web.has_ranges and status == 200
        return re.fullmatch(r"bytes=(\d+)-(\d+)", wanted) if in_parts else None

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@dataclass
class S3:
    """An S3 server.

    Attributes:
        endpoint: Its address.
        fault: The status that the n-th request of a path is answered with, or 0.
        delay: Seconds before the n-th request of a path is answered.
        methods: Which requests are counted, and may fail.
        count: Such requests so far.
    """

    endpoint: str = ""
    fault: Callable[[int, str], int] = lambda *_: 0
    delay: Callable[[int, str], float] = lambda *_: 0.0
    methods: tuple[str, ...] = ("GET",)
    count: int = 0
    guard: threading.Lock = field(default_factory=threading.Lock)

    def make_bucket(self, name: str) -> None:
        """Makes a bucket."""
        self.client.create_bucket(Bucket=name)

    @property
    def client(self) -> Any:
        """Boto's client of it."""
        import boto3

        return boto3.client("s3", endpoint_url=self.endpoint)

    def put(self, source: Path, prefix: str) -> None:
        """Puts the files of a folder, or one file, below a prefix of xrays."""
        client = self.client
        for file in [source] if source.is_file() else sorted(source.rglob("*.*")):
            below = "" if file == source else f"/{file.relative_to(source)}"
            client.put_object(
                Bucket="xrays", Key=prefix + below, Body=file.read_bytes()
            )

    def wrap(self, app: Callable[..., Iterable[bytes]]) -> Any:
        """The application with its faults."""

        def wrapped(environ: Any, start_response: Any) -> Iterable[bytes]:
            if environ["REQUEST_METHOD"] in self.methods:
                with self.guard:
                    self.count += 1
                    number, path = self.count, environ["PATH_INFO"]
                time.sleep(self.delay(number, path))
                if status := self.fault(number, path):
                    start_response(f"{status} No", [("Content-Length", "0")])
                    return [b""]
            return app(environ, start_response)

        return wrapped


@contextmanager
def s3_server() -> Iterator[S3]:
    """Moto's S3 server for the block."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log(self, *_: object) -> None:
            """Says nothing."""

    state = S3()
    app = DomainDispatcherApplication(create_backend_app)
    server = make_server(
        "127.0.0.1", 0, state.wrap(app), threaded=True, request_handler=Quiet
    )
    state.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=[0.05])
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
