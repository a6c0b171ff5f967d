"""The page of ``featcache review``: one image at a time, answers before the model."""

import io
from dataclasses import asdict
from functools import partial
from typing import Any

from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router

from featcache.commands.review import Card, Session, StaleError
from featcache.core.io import parse_json
from featcache.dataset import images
from featcache.dataset.sources import read_scanned
from featcache.errors import UnreadableImageError
from featcache.serve.assets import asset_routes
from featcache.serve.problems import Problem
from featcache.serve.security import Limits

LIMITS = Limits(body_bytes=2**16, waiting_bytes=2**20)
_LARGEST_SIDE = 1600  # pixels that are sent
_FILES = {
    "/": "review.html",
    "/review.js": "review.js",
    "/review.css": "review.css",
    "/pages.css": "pages.css",
}
_TEXTS = ("event", "image_id", "answer", "note")


def app(session: Session) -> Router:
    """The page of a reader at a queue, to stand behind the guard."""
    return Router(
        [
            *asset_routes(_FILES),
            Route("/card", partial(_card, session), methods=["GET"]),
            Route("/act", partial(_act, session), methods=["POST"]),
            Route("/image/{image_id}", partial(_image, session), methods=["GET"]),
        ]
    )


def _as_json(session: Session, card: Card) -> dict[str, Any]:
    about = {
        "dataset": session.context.manifest.dataset,
        "reader": session.reader,
        "queue": session.queue,
        "classes": session.classes,
    }
    return about | asdict(card)


async def _card(session: Session, request: Request) -> Response:
    card = await run_in_threadpool(session.card)
    return JSONResponse(_as_json(session, card))


async def _act(session: Session, request: Request) -> Response:
    """What a reader does: a JSON object with event, version, image_id, answer, note."""
    try:
        body = parse_json(await request.body(), unique=True)
        values = {name: body.get(name) or "" for name in _TEXTS}
        version = body["version"]
        if type(version) is not int or any(type(v) is not str for v in values.values()):
            raise ValueError("texts, and a version that is a whole number")
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise Problem(400, "no event in JSON", "Reload the page.") from error
    image_id = values.pop("image_id") or None
    act = partial(session.act, version=version, image_id=image_id, **values)
    try:
        card = await run_in_threadpool(act)
    except StaleError as error:
        card = await run_in_threadpool(session.card)
        text = {"problem": error.problem, "fix": error.hint}
        return JSONResponse({"error": text, "card": _as_json(session, card)}, 409)
    except OSError as error:
        raise Problem(
            507,
            f"the answer could not be saved ({error.strerror or 'error of the disk'})",
            "All others are kept. Press the key again once that is put right.",
        ) from error
    return JSONResponse(_as_json(session, card))


async def _image(session: Session, request: Request) -> Response:
    """An image of the queue by its content's id; no path comes from a client."""
    image_id = request.path_params["image_id"]
    if not any(item.image_id == image_id for item in session.items):
        raise Problem(404, "no such image in the queue", "Reload the page.")
    data = await run_in_threadpool(_png, session, image_id)
    return Response(data, media_type="image/png")


def _png(session: Session, image_id: str) -> bytes:
    """Upright pixels of a file, whatever it is, at most as large as is sent.

    Raises:
        Problem: It cannot be read, or is another file by now.
    """
    manifest = session.context.manifest
    path = str(session.context.images["path"][image_id])
    try:
        data = read_scanned(manifest.root, path, image_id)
        picture = images.decode(data)
    except (OSError, UnreadableImageError) as error:
        reason = (
            getattr(error, "got", "") or getattr(error, "strerror", "") or "no file"
        )
        text = f"the image cannot be shown ({reason})"
        raise Problem(422, text, "Skip it, or scan it where it is now.") from error
    picture.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()
