"""Answers over HTTP: what may be sent, what comes back, and what is kept of it."""

import asyncio
import json
import struct
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asgi import FORM, PNG, acall, call, form
from toy_brightness import flat, png

from featcache.dataset import images
from featcache.errors import UsageError
from featcache.serve import openapi
from featcache.serve.answer_log import FILE, AnswerLog

Make = Callable[..., Any]


def bomb(side: int) -> bytes:
    """A PNG of a few KB that says it is large, and is."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_an_image_as_a_body(setting: Make) -> None:
    """Its answer is that of the model; its id is the digest of its bytes."""
    one, data = setting(), flat(102)
    reply = call(one.guard, "POST", "/predict", data, PNG)
    assert reply.status == 200
    (row,) = reply.json["images"]
    assert (row["status"], row["class"]) == ("ok", "dark")
    assert row["probabilities"] == {"bright": 102 / 255, "dark": 1 - 102 / 255}
    assert row["image_id"] == images.content_id(data)
    assert reply.json["bundle"] == "toy"


def test_files_of_a_form(setting: Make) -> None:
    """Accepted, refused and unreadable in their order, in one call of the model."""
    one = setting(batcher={"wait": 5.0})
    files = [("a.png", flat(200)), ("b.png", flat(20)), ("c.png", b"text")]
    rows = call(one.guard, "POST", "/predict", form(*files), FORM).json["images"]
    assert [row["status"] for row in rows] == ["ok", "refused", "unreadable"]
    assert [row["name"] for row in rows] == ["a.png", "b.png", "c.png"]
    assert [row["class"] for row in rows] == ["bright", None, None]
    assert rows[1]["reason"] == "too dark"
    assert rows[1]["probabilities"] is None
    assert one.model.batches == [2]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\x\\a.png", "a.png"),
        ("\x1b[31m.png", "\\x1b[31m.png"),
        ("", ""),
    ],
)
def test_names_are_only_said(setting: Make, name: str, expected: str) -> None:
    """No path that a client names is opened; what it is called is echoed, escaped."""
    body = form((name, flat(102)))
    (row,) = call(setting().guard, "POST", "/predict", body, FORM).json["images"]
    assert (row["name"], row["status"]) == (expected, "ok")


@pytest.mark.parametrize(
    ("body", "headers", "target", "status"),
    [
        (form(*[("a.png", b"x")] * 500), FORM, "/predict", 413),
        (form(("a.png", b"x"), field="other"), FORM, "/predict", 422),
        (form(), FORM, "/predict", 422),
        (form(("a.png", b"")), FORM, "/predict", 422),
        (b"--YY\r\n\r\n", FORM, "/predict", 422),
        (b"x", {"content-type": "multipart/form-data"}, "/predict", 422),
        (b"", PNG, "/predict", 422),
        (b"x", {"content-type": "text/plain"}, "/predict", 415),
        (b"x", {}, "/predict", 415),
        (flat(9), PNG, "/predict?bundle=other", 422),
        (bomb(10_000), PNG, "/predict", 413),
        (bomb(10_000), PNG, "/picture", 413),
        (bomb(30_000), PNG, "/picture", 422),
        (b"text", PNG, "/picture", 422),
    ],
    ids=range(14),
)
def test_what_is_refused(
    setting: Make, body: bytes, headers: Any, target: str, status: int
) -> None:
    """Each with its status and a fix, without a call of the model; then all is free."""
    one = setting()
    reply = call(one.guard, "POST", target, body, headers)
    assert reply.status == status, reply.body
    assert all(reply.json["error"].values())
    assert one.model.batches == []
    assert (one.guard.waiting, one.guard.running) == (0, 0)
    assert one.service.served["toy"].batcher.waiting == 0


def test_pixels_are_counted_by_the_header(setting: Make) -> None:
    """At the limit an image is decoded, one row more and it is not."""
    one = setting(limits={"pixels": 100})
    assert call(one.guard, "POST", "/predict", flat(99, (10, 10)), PNG).status == 200
    assert call(one.guard, "POST", "/predict", flat(99, (10, 11)), PNG).status == 413


def test_a_picture_of_too_much_for_anybody(setting: Make) -> None:
    """By its header it is unreadable, and never unpacked."""
    reply = call(setting().guard, "POST", "/predict", bomb(30_000), PNG)
    assert reply.json["images"][0]["status"] == "unreadable"
    assert "900000000 pixels" in reply.json["images"][0]["reason"]


def test_a_full_queue(setting: Make) -> None:
    """More images than may wait are 429, to be sent again; the others are answered."""
    one = setting(batcher={"most": 3})
    body = form(*[("a.png", flat(99))] * 4)
    reply = call(one.guard, "POST", "/predict", body, FORM)
    assert (reply.status, reply.headers["retry-after"]) == (429, "1")
    body = form(*[("a.png", flat(99))] * 3)
    assert call(one.guard, "POST", "/predict", body, FORM).status == 200


def test_requests_share_batches(setting: Make) -> None:
    """What comes while the model works is answered together, each with its own."""
    one, busy = setting(), threading.Event()
    shades = [50, 100, 150, 200]

    async def all_of_them() -> list[Any]:
        one.model.before = lambda: busy.wait(5)
        first = asyncio.ensure_future(
            acall(one.guard, "POST", "/predict", flat(99), PNG)
        )
        await asyncio.sleep(0.2)
        others = [
            asyncio.ensure_future(acall(one.guard, "POST", "/predict", flat(s), PNG))
            for s in shades
        ]
        await asyncio.sleep(0.2)
        busy.set()
        await first
        return await asyncio.gather(*others)

    replies = asyncio.run(all_of_them())
    p = [reply.json["images"][0]["probabilities"]["bright"] for reply in replies]
    assert p == [shade / 255 for shade in shades]
    assert one.model.batches == [1, 4]


def test_an_image_that_fails_the_model_fails_alone(setting: Make) -> None:
    """Its request is 500 and says nothing of it; others of the batch are answered."""
    one, texts = setting(batcher={"wait": 1.0}), []
    one.guard.report = texts.append

    async def both() -> list[Any]:
        calls = [acall(one.guard, "POST", "/predict", flat(s), PNG) for s in (255, 99)]
        return await asyncio.gather(*calls)

    bad, good = asyncio.run(both())
    assert (bad.status, good.status) == (500, 200)
    assert "Doe" not in bad.body.decode() + str(texts)
    assert call(one.guard, "POST", "/predict", flat(99), PNG).status == 200


def test_a_request_that_takes_too_long(setting: Make) -> None:
    """408; its places are free again, and the model goes on."""
    busy = threading.Event()
    one = setting(guard={"seconds": 0.2})
    one.model.before = lambda: busy.wait(5)
    assert call(one.guard, "POST", "/predict", flat(99), PNG).status == 408
    busy.set()
    one.guard.limits = setting().guard.limits
    assert one.service.served["toy"].batcher.waiting == 0
    assert call(one.guard, "POST", "/predict", flat(99), PNG).status == 200


def test_the_log_has_no_name(setting: Make, tmp_path: Path) -> None:
    """A line per answer: id, status, class; nothing of the file or of the reason."""
    log = AnswerLog(tmp_path / "log")
    one = setting(log=log)
    files = [("Doe^John.png", flat(102)), ("Doe^John.dcm", b"Doe^John")]
    call(one.guard, "POST", "/predict", form(*files), FORM)
    log.close()
    text = (tmp_path / "log" / FILE).read_text()
    assert "Doe" not in text
    first, second = map(json.loads, text.splitlines())
    assert (first["bundle"], first["class"]) == ("toy", "dark")
    assert first["image_id"] == images.content_id(flat(102))
    assert (second["status"], second["class"]) == ("unreadable", None)
    assert "reason" not in second
    assert (tmp_path / "log" / FILE).stat().st_mode & 0o077 == 0


def test_a_folder_for_the_log_that_is_none(tmp_path: Path) -> None:
    """Refused at the start."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="log_dir="):
        AnswerLog(tmp_path / "file")


def test_a_preview(setting: Make) -> None:
    """The decoded pixels as a PNG, without what else the file held."""
    reply = call(setting().guard, "POST", "/picture", png(side=60), PNG)
    assert reply.headers["content-type"] == "image/png"
    picture = images.decode(reply.body)
    assert picture.size == (60, 60)


def test_metrics(setting: Make) -> None:
    """Requests by status, images by answer, batches, and a histogram that adds up."""
    one = setting()
    one.guard.answered = one.service.metrics.answered
    one.service.served["toy"].batcher.heard = lambda n: one.service.metrics.batch(
        "toy", n
    )
    call(one.guard, "POST", "/predict", flat(99), PNG)
    call(one.guard, "POST", "/predict", b"x", {})
    lines = call(one.guard, "GET", "/metrics").body.decode().splitlines()
    for line in (
        'featcache_requests_total{path="/predict",status="200"} 1',
        'featcache_requests_total{path="/predict",status="415"} 1',
        'featcache_images_total{bundle="toy",status="ok"} 1',
        'featcache_batched_images_total{bundle="toy"} 1',
        'featcache_waiting_images{bundle="toy"} 0',
        'featcache_request_seconds_bucket{le="+Inf"} 2',
        "featcache_request_seconds_count 2",
    ):
        assert line in lines


def test_the_document_has_every_address(setting: Make) -> None:
    """And each with its method, as the router has it; its references lead somewhere."""
    one = setting()
    document = call(one.guard, "GET", "/openapi.json").json
    assert document == openapi.document()
    routes = {
        (route.path, method.lower())
        for route in one.service.app().routes
        for method in route.methods
        if method != "HEAD" and not route.path.endswith((".js", ".css"))
    }
    described = {
        (path, method) for path, one in document["paths"].items() for method in one
    }
    assert described == routes - {("/", "get")}
    schemas = document["components"]["schemas"]
    for reference in json.dumps(document).split('"$ref": "')[1:]:
        assert reference.split('"')[0].rpartition("/")[2] in schemas


def test_no_path_is_opened(setting: Make) -> None:
    """A training image is looked up by its digest; nothing else leads to a file."""
    for path in ("/images/..%2f..%2fetc%2fpasswd", "/images/" + "a" * 64, "/images/"):
        assert call(setting().guard, "GET", path).status == 404
