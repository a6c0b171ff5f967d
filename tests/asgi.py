"""Calls an ASGI application as a server would, without a socket."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message

LOCAL = {"host": "127.0.0.1:8000"}


@dataclass
class Reply:
    """What came back."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def problem(self) -> str:
        """What is wrong."""
        return str(self.json["error"]["problem"])


async def acall(
    app: ASGIApp,
    method: str,
    target: str,
    body: bytes | Iterable[bytes] = b"",
    headers: Mapping[str, str] | None = None,
    *,
    pause: float = 0.0,
) -> Reply:
    """One request.

    Args:
        app: The application.
        method: Of HTTP.
        target: Path and query.
        body: Whole, or in parts; whole bodies have a length in their header.
        headers: Beside the host; they may replace it.
        pause: Seconds before each part.
    """
    path, _, query = target.partition("?")
    whole = isinstance(body, bytes)
    length = {"content-length": str(len(body))} if isinstance(body, bytes) else {}
    coding = {} if whole else {"transfer-encoding": "chunked"}
    all_headers = {**LOCAL, **length, **coding, **(headers or {})}
    parts = iter([body] if isinstance(body, bytes) else body)
    reply = Reply()

    async def receive() -> Message:
        await asyncio.sleep(pause)
        part = next(parts, None)
        if part is None:
            return {"type": "http.request", "body": b"", "more_body": False}
        return {"type": "http.request", "body": part, "more_body": not whole}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            reply.status = message["status"]
            reply.headers = {k.decode(): v.decode() for k, v in message["headers"]}
        else:
            reply.body += message.get("body", b"")

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(k.lower().encode(), v.encode()) for k, v in all_headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }
    await app(scope, receive, send)
    return reply


def call(*args: Any, **options: Any) -> Reply:
    """One request, in a loop of its own."""
    return asyncio.run(acall(*args, **options))


PNG = {"content-type": "image/png"}
FORM = {"content-type": "multipart/form-data; boundary=XX"}


def form(*files: tuple[str, bytes], field: str = "file") -> bytes:
    """Files as a form."""
    parts = [
        b'--XX\r\nContent-Disposition: form-data; name="%s"; filename="%s"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n%s\r\n"
        % (field.encode(), name.encode(), data)
        for name, data in files
    ]
    return b"".join(parts) + b"--XX--\r\n"
