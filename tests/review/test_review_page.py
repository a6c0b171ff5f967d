"""The page of review over HTTP: nothing too early, nothing by a path of a client."""

import errno
import io
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("starlette", reason="needs the extra serve")
from asgi import Reply, call

from featcache.commands.review import Session, open_session
from featcache.commands.review import decisions as log
from featcache.dataset import manifest
from featcache.dataset.manifest import Manifest
from featcache.serve import review
from featcache.serve.security import Guard, host_names
from featcache.serve.tokens import Door


@pytest.fixture
def session(dataset: Manifest, reports: Path) -> Session:
    """Ann at images drawn at random, whose files are there."""
    return open_session(dataset, reports, reader="ann", queue="random")


class Client:
    """A browser at the page, behind the guard."""

    def __init__(self, session: Session) -> None:
        names = host_names("127.0.0.1")
        self.guard = Guard(review.app(session), names, Door(None), review.LIMITS)

    def get(self, path: str) -> Reply:
        """Asks for a page."""
        return call(self.guard, "GET", path)

    def post(self, value: Any, **headers: str) -> Reply:
        """Sends an event: bytes, or what becomes JSON."""
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        return call(self.guard, "POST", "/act", body, headers)

    def act(self, event: str, **fields: Any) -> Reply:
        """Does something with what is on the screen."""
        card = self.get("/card").json
        body = {name: card[name] for name in ("version", "image_id")}
        return self.post(body | {"event": event} | fields)


@pytest.fixture
def client(session: Session) -> Client:
    """A browser at the page."""
    return Client(session)


def test_the_page_and_its_parts(client: Client) -> None:
    """Each file is there; there are no others."""
    for path in ("/", "/review.js", "/review.css", "/pages.css"):
        assert client.get(path).status == 200
    for path in ("/../pyproject.toml", "/review.html", "/static/review.js"):
        assert client.get(path).status == 404


def test_nothing_is_sent_before_the_answer(client: Client, session: Session) -> None:
    """Neither label, path, prediction nor reason are in what a browser gets."""
    first = session.items[0]
    label = session.context.label(first.image_id)
    text = client.get("/card").body.decode()
    path = str(session.context.images["path"][first.image_id])
    assert path not in text
    assert "Drawn at random" not in text
    assert client.get("/card").json["reveal"] is None
    answer = client.act("answer", answer=session.classes[0]).json
    assert answer["reveal"]["path"] == path
    assert answer["reveal"]["label"] == label
    assert "Drawn at random" in answer["reveal"]["reason"]


def test_two_windows(client: Client, session: Session) -> None:
    """The second window hears why, sees what is there, and writes nothing."""
    card = client.get("/card").json
    body = {"event": "skip", "version": card["version"], "image_id": card["image_id"]}
    assert client.post(body).status == 200
    late = client.post(body)
    assert late.status == 409
    assert late.json["card"] == client.get("/card").json
    assert len(log.read(session.context.manifest.folder).lines) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'{"event": "skip"}', b"\xff",
        b'{"event": "skip", "version": "0"}', b'{"event": 1, "version": 0}',
        b'{"event": "skip", "version": true}', b"[" * 20_000,
        b'{"event": "skip", "event": "undo", "version": 0}',
    ],
)  # fmt: skip
def test_bodies_that_are_none(client: Client, session: Session, body: bytes) -> None:
    """Whatever is sent, it is refused as JSON, and nothing is written."""
    reply = client.post(body)
    assert reply.status == 400
    assert reply.json["error"]["fix"]
    assert not log.read(session.context.manifest.folder).lines


def test_a_body_that_is_too_large(client: Client) -> None:
    """64 KiB are enough for a note."""
    assert client.post(b" " * 2**17).status == 413


def test_another_site_cannot_answer(client: Client, session: Session) -> None:
    """A page from elsewhere cannot answer in a reader's name."""
    body = {"event": "skip", "version": 0, "image_id": session.items[0].image_id}
    reply = client.post(body, origin="http://evil.example")
    assert reply.status == 403


def test_the_image(client: Client, session: Session, image_folder: Path) -> None:
    """An image of the queue comes as PNG, with its own pixels."""
    image_id = session.items[0].image_id
    reply = client.get(f"/image/{image_id}")
    assert reply.headers["content-type"] == "image/png"
    path = image_folder / str(session.context.images["path"][image_id])
    with Image.open(io.BytesIO(reply.body)) as sent, Image.open(path) as own:
        assert sent.tobytes() == own.tobytes()


@pytest.mark.parametrize(
    "name", ["f" * 64, "..%2f..%2fetc%2fpasswd", "%2e%2e", "COVID/p000.png", ""]
)
def test_images_that_are_none(client: Client, name: str) -> None:
    """A path, or the id of another image, leads nowhere."""
    assert client.get(f"/image/{name}").status == 404


def test_images_of_the_queue_alone(client: Client, session: Session) -> None:
    """Images of the dataset that are not in the queue are not sent."""
    only = replace(session, items=session.items[:1])
    first, second = (item.image_id for item in session.items[:2])
    assert Client(only).get(f"/image/{first}").status == 200
    assert Client(only).get(f"/image/{second}").status == 404


@pytest.mark.parametrize("fault", ["gone", "changed", "broken"])
def test_an_image_that_cannot_be_shown(
    client: Client, session: Session, image_folder: Path, fault: str
) -> None:
    """The reader hears why, without the path that may name the class, and can skip."""
    image_id = session.items[0].image_id
    path = image_folder / str(session.context.images["path"][image_id])
    if fault == "gone":
        path.unlink()
    else:
        path.write_bytes(b"" if fault == "broken" else path.read_bytes() + b" ")
    reply = client.get(f"/image/{image_id}")
    assert reply.status == 422
    assert path.name not in reply.body.decode()
    assert path.parent.name not in reply.body.decode()
    assert client.act("skip").json["done"] == 1


def test_a_scan_meanwhile(client: Client, session: Session) -> None:
    """A page that is older than the manifest says so; all answers are kept."""
    assert client.act("skip").status == 200
    changed = session.context.manifest
    table = changed.table.iloc[1:].reset_index(drop=True)
    manifest.save(replace(changed, table=table))
    for reply in (
        client.get("/card"),
        client.post({"event": "skip", "version": 1}),
    ):
        assert reply.status == 400
        assert "featcache review --dataset" in reply.json["error"]["fix"]
    assert len(log.read(changed.folder).lines) == 1


def test_a_full_disk(
    client: Client, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page hears of it, nothing of the answer is left, and it can be repeated."""
    folder = session.context.manifest.folder
    assert client.act("skip").status == 200
    before = (folder / log.FILE).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(log.os, "fsync", fails)
        reply = client.act("skip")
    assert reply.status == 507
    assert "No space left" in reply.problem
    assert (folder / log.FILE).read_bytes() == before
    assert client.act("skip").json["done"] == 2


def fails(number: int) -> None:
    """What a full disk does."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
