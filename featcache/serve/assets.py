"""Files of pages, from the package, by fixed names: no path of a client is opened."""

import hashlib
from collections.abc import Mapping
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


def asset_routes(files: Mapping[str, str]) -> list[Route]:
    """Routes to files of ``static/``, which are read now.

    Args:
        files: Name of the file by the path of the address, such as
            ``{"/": "serve.html", "/serve.js": "serve.js"}``.
    """
    return [_route(path, name) for path, name in files.items()]


def _route(path: str, name: str) -> Route:
    data = (resources.files(__package__) / "static" / name).read_bytes()
    etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    headers = {"etag": etag, "cache-control": "no-cache"}
    content_type = _TYPES[name.rpartition(".")[2]]

    async def answer(request: Request) -> Response:
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(data, headers=headers, media_type=content_type)

    return Route(path, answer, methods=["GET"])
