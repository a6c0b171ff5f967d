"""The addresses of ``featcache serve`` and what is behind each."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from PIL import ImageOps
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, Router

from featcache.dataset import images
from featcache.deploy.answers import REFUSED, Answer, Loaded, load
from featcache.serve import dicom_objects, openapi
from featcache.serve.answer_log import AnswerLog
from featcache.serve.assets import asset_routes
from featcache.serve.drawing import png_of
from featcache.serve.metrics import Metrics
from featcache.serve.problems import Problem
from featcache.serve.results import Answered, explanation, sheet_of
from featcache.serve.served import Served, TrainingPictures
from featcache.serve.uploads import Upload, file_of, files_of

T = TypeVar("T")
ASSETS = {
    "/": "serve.html",
    "/serve.js": "serve.js",
    "/serve.css": "serve.css",
    "/pages.css": "pages.css",
}
_THUMB = 256  # pixels of the longer side
_PREVIEW = 1600
_PNG, _DICOM = "image/png", "application/dicom"


@dataclass(frozen=True)
class ServeLimits:
    """How much a request may bring, beside its bytes.

    Attributes:
        files: In one request.
        pixels: Of one image, by its header.
    """

    files: int = 32
    pixels: int = 50_000_000


@dataclass(eq=False)
class Service:
    """Answers requests by bundles.

    Attributes:
        served: By name.
        pool: Threads that decode and draw.
        limits: How much a request may bring.
        pictures: Of the training sets.
        log: Where answers go; None for nowhere.
        metrics: What was done.
    """

    served: dict[str, Served]
    pool: ThreadPoolExecutor
    limits: ServeLimits = ServeLimits()
    pictures: TrainingPictures = field(default_factory=TrainingPictures)
    log: AnswerLog | None = None
    metrics: Metrics = field(default_factory=Metrics)

    def app(self) -> Router:
        """The application, to stand behind a guard."""
        get = {
            "/bundles": self.bundles,
            "/health": self.health,
            "/metrics": self.counts,
            "/openapi.json": self.document,
            "/images/{image_id}": self.image,
        }
        post = {
            "/predict": self.predict,
            "/picture": self.picture,
            "/explain": self.explain,
            "/result": self.result,
            "/dicom/sc": self.capture,
            "/dicom/sr": self.report,
        }
        return Router(
            routes=[
                *asset_routes(ASSETS),
                *(Route(path, do, methods=["GET"]) for path, do in get.items()),
                *(Route(path, do, methods=["POST"]) for path, do in post.items()),
            ]
        )

    async def bundles(self, request: Request) -> Response:
        """What is served, and how much may be asked for."""
        facts = [one.facts() for one in self.served.values()]
        limits = {"files": self.limits.files, "pixels": self.limits.pixels}
        logs = self.log is not None
        return JSONResponse({"bundles": facts, "limits": limits, "logs": logs})

    async def health(self, request: Request) -> Response:
        """That it answers."""
        return JSONResponse({"status": "ok"})

    async def counts(self, request: Request) -> Response:
        """Metrics for Prometheus."""
        waiting = {name: one.batcher.waiting for name, one in self.served.items()}
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return PlainTextResponse(self.metrics.text(waiting), media_type=kind)

    async def document(self, request: Request) -> Response:
        """What can be asked."""
        return JSONResponse(openapi.document())

    async def predict(self, request: Request) -> Response:
        """An answer for each file."""
        served = self.served_by(request)
        files = await files_of(request, self.limits.files)
        answers = await self.answers(served, files)
        rows = [served.to_json(answer, self.pictures) for _, answer in answers]
        for row in rows:
            self.metrics.answers[served.name, row["status"]] += 1
            if self.log:
                self.log.add(served.name, row)
        return JSONResponse({"bundle": served.name, "images": rows})

    async def picture(self, request: Request) -> Response:
        """The pixels of a file, as the model is shown them."""
        file = await file_of(request)
        loaded = await self.in_thread(partial(self._loaded, None, file))
        if loaded.candidate is None:
            raise Problem(422, f"no image: {loaded.reason}", "Send another file.")
        picture = loaded.candidate.picture
        data = await self.in_thread(partial(png, picture, _PREVIEW))
        return Response(data, media_type=_PNG)

    async def image(self, request: Request) -> Response:
        """A training image, small, by the digest of its file."""
        image_id = request.path_params["image_id"]
        picture = await self.in_thread(partial(self.pictures.read, image_id))
        if picture is None:
            text = "no such training image at hand"
            raise Problem(404, text, "Start featcache serve with --cache DIR.")
        data = await self.in_thread(partial(png, picture, _THUMB))
        return Response(data, media_type=_PNG)

    async def explain(self, request: Request) -> Response:
        """The heat map of a class, or why there is none."""
        served = self.served_by(request)
        answered = await self.one(served, request)
        label = request.query_params.get("class") or answered.answer.label
        if answered.answer.status == REFUSED:
            label = ""
        if label and label not in served.model.classes:
            fix = f"Use one of: {', '.join(served.model.classes)}."
            raise Problem(422, f"no class {label}", fix)
        work = partial(explanation, served, answered, label)
        return JSONResponse(await self.in_thread(work))

    async def result(self, request: Request) -> Response:
        """The image with its answer, to keep."""
        served = self.served_by(request)
        answered = await self.one(served, request)
        draw = partial(sheet_of, served, answered, self.pictures)
        page = await self.in_thread(draw)
        return Response(png_of(page), media_type=_PNG)

    async def capture(self, request: Request) -> Response:
        """The same as a DICOM secondary capture."""
        served = self.served_by(request)
        answered = await self.one(served, request)

        def make() -> bytes:
            page = sheet_of(served, answered, self.pictures)
            image_id = answered.answer.image_id
            return dicom_objects.capture(answered.data, image_id, page)

        return Response(await self.in_thread(make), media_type=_DICOM)

    async def report(self, request: Request) -> Response:
        """The answer as a DICOM structured report."""
        served = self.served_by(request)
        answered = await self.one(served, request)
        row = served.to_json(answered.answer, self.pictures)
        make = partial(dicom_objects.report, answered.data, row, served.facts())
        return Response(await self.in_thread(make), media_type=_DICOM)

    async def one(self, served: Served, request: Request) -> Answered:
        """The answer for the only file of a request.

        Raises:
            Problem: It is no image.
        """
        file = await file_of(request)
        ((loaded, answer),) = await self.answers(served, [file])
        if loaded.candidate is None:
            raise Problem(422, f"no image: {answer.reason}", "Send another file.")
        return Answered(file.data, loaded.candidate, answer)

    def served_by(self, request: Request) -> Served:
        """The bundle that a request names; the only one where it names none.

        Raises:
            Problem: There is none of that name, or a choice.
        """
        name = request.query_params.get("bundle")
        names = ", ".join(self.served)
        if name is None and len(self.served) == 1:
            return next(iter(self.served.values()))
        if name is None or name not in self.served:
            text = f"no bundle {name}" if name else "several bundles to choose from"
            raise Problem(422, text, f"Add ?bundle= with one of: {names}.")
        return self.served[name]

    async def answers(
        self, served: Served, files: list[Upload]
    ) -> list[tuple[Loaded, Answer]]:
        """Decodes files and answers for them, beside those of other requests."""
        with served.batcher.reserve(len(files)) as put:

            async def one(file: Upload) -> tuple[Loaded, Answer]:
                loaded = await self.in_thread(partial(self._loaded, served, file))
                future: Future[Answer] = put(loaded)
                return loaded, await asyncio.wrap_future(future)

            return await _all([one(file) for file in files])

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Does some work beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self.pool, work)

    def _loaded(self, served: Served | None, file: Upload) -> Loaded:
        size = images.dimensions(file.data)
        if size and size[0] * size[1] > self.limits.pixels:
            text = f"an image of {size[0]}x{size[1]} pixels"
            fix = f"This server takes up to {self.limits.pixels} pixels an image."
            raise Problem(413, text, fix)
        if served:
            served.batcher.wait_for_memory()
        return load(file.image)


async def _all(work: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Does all; the first that fails ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


def png(picture: images.Picture, side: int) -> bytes:
    """A picture as a PNG without metadata, made smaller where it is larger."""
    image = picture.image
    if max(image.size) > side:
        image = ImageOps.contain(image, (side, side))
    return png_of(image)
