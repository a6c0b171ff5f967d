"""One decode for all backbones: read once, render once a size, feed every engine.

Threads read, decode and render a bounded number of images ahead. Each engine takes
its rows from a bounded queue, in the manifest's order, in a thread of its own; one more
thread seals what they computed. Memory does not grow with the number of images.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import chain, groupby, islice, repeat
from operator import itemgetter
from queue import Empty, Full, Queue
from typing import Any

import numpy as np
from PIL import Image

from featcache.backbones import Baseline, Network
from featcache.backbones.engines.base import Engine, Outputs
from featcache.commands.extract.plan import ExtractRequest, Job
from featcache.dataset import images, manifest, rendering
from featcache.dataset.views import Resize
from featcache.errors import UnreadableImageError
from featcache.features import store

# Work is sealed about twice a second: that much, and the batches in flight, is what
# `kill -9` can cost.
_SEAL_SECONDS = 0.5
_POLL_SECONDS = 0.1
# Several engines at once only hinder one another: each takes its turn at starting
# batches, as long as it has rows waiting, for so many batches.
_TURN_BATCHES = 6
Row = tuple[int, np.ndarray]  # number of a missing row, and what an engine takes of it


class _Stopped(Exception):  # noqa: N818
    """Another thread has failed, or the user has stopped us."""


@dataclass
class _Lane:
    """A job with its engine and the queue that feeds it."""

    job: Job
    engine: Engine
    queue: "Queue[Row | None]"
    engine_slot: threading.Semaphore
    pending: list[tuple[list[int], Outputs]] = field(default_factory=list)


def run(request: ExtractRequest, work: list[tuple[Job, Engine]]) -> None:
    """Computes and seals the missing rows of all jobs.

    On any failure, Ctrl-C included, what was computed is sealed first.
    """
    stop = threading.Event()
    ahead = _TURN_BATCHES * request.batch_size
    engine_slot = threading.Semaphore(1)
    lanes = [_Lane(job, engine, Queue(ahead), engine_slot) for job, engine in work]
    with (
        ThreadPoolExecutor(1, "seal") as sealer,
        ThreadPoolExecutor(len(lanes) + 1, "lane") as pool,
    ):
        futures = [pool.submit(_guard, stop, _feed, request, lanes, stop)]
        futures += [
            pool.submit(_guard, stop, _run_engine, request, lane, sealer, stop)
            for lane in lanes
        ]
        try:
            # Waking up now and then lets Ctrl-C through.
            while any(not future.done() for future in futures):
                time.sleep(_POLL_SECONDS / 10)
        finally:
            stop.set()
        _raise_first([future.result() for future in futures])


def _guard(stop: threading.Event, function: Any, *arguments: Any) -> Any:
    """Runs a thread's function; its failure stops the others and is returned."""
    try:
        function(*arguments)
    except BaseException as error:
        stop.set()
        if isinstance(error, (Exception, KeyboardInterrupt)):
            return error
        raise
    return None


def _raise_first(outcomes: list[BaseException | None]) -> None:
    errors = [e for e in outcomes if e is not None and not isinstance(e, _Stopped)]
    if errors:
        raise errors[0]


def _run_engine(
    request: ExtractRequest,
    lane: _Lane,
    sealer: ThreadPoolExecutor,
    stop: threading.Event,
) -> None:
    """Runs one engine over its rows, and hands what it computed to the sealer."""
    numbers: deque[list[int]] = deque()
    started = sealed_at = time.monotonic()
    waiting: Future[None] | None = None
    job, done = lane.job, 0
    try:
        for outputs in lane.engine.run(_batches(request, lane, numbers, stop)):
            lane.pending.append((numbers.popleft(), outputs))
            done = lane.pending[-1][0][-1] + 1
            request.reporter.progress(job.network.text, done, len(job.missing))
            if time.monotonic() - sealed_at > _SEAL_SECONDS:
                if waiting:
                    waiting.result()
                waiting = sealer.submit(_seal, request, job, lane.pending)
                lane.pending, sealed_at = [], time.monotonic()
    finally:
        if waiting:
            waiting.result()
        sealer.submit(_seal, request, job, lane.pending).result()
        job.seconds = time.monotonic() - started


def _seal(
    request: ExtractRequest, job: Job, pending: list[tuple[list[int], Outputs]]
) -> None:
    if not pending:
        return
    manifest.refuse_removed(request.manifest.folder)
    rows = job.missing.iloc[[row for numbers, _ in pending for row in numbers]]
    names = pending[0][1]
    outputs = {n: np.concatenate([out[n] for _, out in pending]) for n in names}
    whole = np.logical_and.reduce([_finite(job, out) for out in outputs.values()])
    reason = f"its features are not finite numbers of {job.header.dtype}"
    job.failures |= dict.fromkeys(rows["path"][~whole], reason)
    if whole.any():
        outputs = {name: out[whole] for name, out in outputs.items()}
        store.seal(job.path, job.header, outputs, rows[whole])


def _finite(job: Job, values: np.ndarray) -> np.ndarray:
    """(N,): whether all numbers of a row are, as they are stored."""
    with np.errstate(over="ignore"):
        stored = values.astype(job.header.dtype, copy=False)
    return np.asarray(np.isfinite(stored).all(axis=1))


def _batches(
    request: ExtractRequest,
    lane: _Lane,
    numbers: deque[list[int]],
    stop: threading.Event,
) -> Iterator[np.ndarray]:
    """Yields batches of n rows; appends the rows' numbers to ``numbers``.

    Batches are cut from the rows in order, so that a resumed run cuts the same
    ones as an undisturbed run from where it stands.
    """
    rows = _queued_rows(lane.queue, stop)
    batch = list(islice(rows, request.batch_size))
    while batch:
        with (
            _slot(lane.engine_slot, stop) if lane.engine.takes_turns else nullcontext()
        ):
            for _ in range(_TURN_BATCHES):
                numbers.append([row for row, _ in batch])
                yield np.stack([values for _, values in batch])
                waiting = lane.queue.qsize() >= request.batch_size
                batch = list(islice(rows, request.batch_size)) if waiting else []
                if not batch:
                    break
        batch = batch or list(islice(rows, request.batch_size))


@contextmanager
def _slot(engine_slot: threading.Semaphore, stop: threading.Event) -> Iterator[None]:
    while not engine_slot.acquire(timeout=_POLL_SECONDS):
        if stop.is_set():
            raise _Stopped
    try:
        yield
    finally:
        engine_slot.release()


def _queued_rows(queue: "Queue[Row | None]", stop: threading.Event) -> Iterator[Row]:
    while not stop.is_set():
        try:
            row = queue.get(timeout=_POLL_SECONDS)
        except Empty:
            continue
        if row is None:
            return
        yield row
    raise _Stopped


def _put(queue: "Queue[Row | None]", row: Row | None, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            return queue.put(row, timeout=_POLL_SECONDS)
        except Full:
            continue
    raise _Stopped


def _feed(request: ExtractRequest, lanes: list[_Lane], stop: threading.Event) -> None:
    """Reads each image once, and puts its views on the queues that want them."""
    work = _work(request, lanes)
    ahead = 8 + 2 * request.batch_size // (request.views + 1)
    queue: deque[tuple[str, Future[list[tuple[_Lane, Row]]]]] = deque()
    with ThreadPoolExecutor(thread_name_prefix="decode") as pool:
        try:
            for item in chain(work, repeat(None, ahead)):
                if item:
                    queue.append((item[0], pool.submit(_render, request, *item)))
                if queue and (item is None or len(queue) > ahead):
                    path, future = queue.popleft()
                    _deliver(path, future, lanes, stop)
            for lane in lanes:
                _put(lane.queue, None, stop)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


_RowsOfLanes = list[tuple[_Lane, list[int]]]


def _work(
    request: ExtractRequest, lanes: list[_Lane]
) -> Iterator[tuple[str, str, _RowsOfLanes]]:
    """For each image in the manifest's order: its path, id, and rows a lane."""
    ok = request.manifest.ok
    due = [(lane, _rows_by_image(lane.job)) for lane in lanes]
    heads = {id(lane): next(rows, None) for lane, rows in due}
    for path, image_id in zip(ok["path"], ok["image_id"], strict=True):
        rows_of_lanes: _RowsOfLanes = []
        for lane, rows in due:
            head = heads[id(lane)]
            if head and head[0] == image_id:
                rows_of_lanes.append((lane, head[1]))
                heads[id(lane)] = next(rows, None)
        if rows_of_lanes:
            yield path, image_id, rows_of_lanes


def _rows_by_image(job: Job) -> Iterator[tuple[str, list[int]]]:
    for image_id, rows in groupby(enumerate(job.missing["image_id"]), itemgetter(1)):
        yield image_id, [row for row, _ in rows]


def _deliver(
    path: str,
    future: "Future[list[tuple[_Lane, Row]]]",
    lanes: list[_Lane],
    stop: threading.Event,
) -> None:
    try:
        for lane, row in future.result():
            _put(lane.queue, row, stop)
    except UnreadableImageError as error:
        for lane in lanes:
            lane.job.failures[path] = error.got


def _render(
    request: ExtractRequest, path: str, image_id: str, rows_of_lanes: _RowsOfLanes
) -> list[tuple[_Lane, Row]]:
    """Decodes an image once, and renders of it what each lane wants."""
    root, region = request.manifest.root, request.policy.region
    picture = rendering.read(root, path, image_id)
    kept = rendering.keep_region(
        picture.image, image_id, root=root, region=region, masks=request.masks
    )
    render = renderer(request, picture, image_id, kept)
    rows = []
    for lane, numbers in rows_of_lanes:
        draw_of = lane.job.missing["draw"].to_numpy()
        for number in numbers:
            values = render(lane.job.network, int(draw_of[number]))
            rows.append((lane, (number, values)))
    return rows


def renderer(
    request: ExtractRequest,
    picture: images.Picture,
    image_id: str,
    kept: Image.Image | None = None,
) -> Callable[[Network, int], np.ndarray]:
    """What an engine takes of a picture, by network and draw; draw 0 is plain.

    For networks (S, S, 3) uint8, each view of what is kept (by default all) cut once
    a size; for baselines, which are measured here, (D,) float32.
    """
    cut = rendering.cutter(kept or picture.image, request.policy, image_id)

    def render(network: Network, view: int) -> np.ndarray:
        if isinstance(network.row, Baseline):
            return network.row.measure(picture, lambda side: cut(Resize(side), view))
        return cut(network.resize, view)

    return render
