"""Images of all requests in batches: one thread calls the model, as predict would.

An image that comes alone is answered at once. A batch waits for images that are being
decoded, and for those of clients that were just answered and may ask again: until there
are as many as there were, and for 10 ms or a tenth of a pass at most.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager

from featcache.deploy.answers import (
    BATCH_SIZE,
    MOST_BYTES,
    Answer,
    Answering,
    Loaded,
    answer_batch,
)
from featcache.serve.problems import Problem

WAIT_SECONDS = 0.01
_WAIT_SHARE, _LONGEST_WAIT = 0.1, 0.05  # of the time of the pass before; seconds
# More images are taken in multiples of it: two passes of the engine, on two streams.
_ROWS = 8
MOST_WAITING = 256  # images
_Item = tuple[Loaded, "Future[Answer]"]
Put = Callable[[Loaded], "Future[Answer]"]


class Batcher:
    """Answers for images in batches, in a thread of its own.

    Args:
        model: What answers.
        batch_size: Most images in one call of it.
        wait: Seconds that a batch waits for further images; longer if passes are long.
        most: Images that may be decoded or wait.
        heard: Hears of the size of each batch.
    """

    def __init__(
        self,
        model: Answering,
        *,
        batch_size: int = BATCH_SIZE,
        wait: float = WAIT_SECONDS,
        most: int = MOST_WAITING,
        heard: Callable[[int], None] = lambda size: None,
    ) -> None:
        self.model, self.batch_size, self.most = model, batch_size, most
        self._wait, self.heard = wait, heard
        self._changed = threading.Condition()
        self._items: deque[_Item] = deque()
        self._bytes = self._reserved = self._peak = 0
        self._seconds = 0.0  # of the last pass
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="batches", daemon=True)

    def __enter__(self) -> "Batcher":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._thread.join()

    @property
    def waiting(self) -> int:
        """Images that are being decoded or wait for the model, or are in it."""
        return self._reserved

    @contextmanager
    def reserve(self, count: int) -> Iterator[Put]:
        """Keeps places for images while they are decoded and answered.

        Yields:
            Puts an image in its place, for a future of its answer.

        Raises:
            Problem: There are not so many.
        """
        with self._changed:
            if self._reserved + count > self.most:
                text = f"{self._reserved} images are waiting, and {self.most} may"
                fix = "Ask again in a second, or send fewer at once."
                raise Problem(429, text, fix, {"retry-after": "1"})
            self._reserved += count
            self._peak = max(self._peak, self._reserved)

        def put(loaded: Loaded) -> "Future[Answer]":
            future: Future[Answer] = Future()
            with self._changed:
                self._bytes += loaded.n_bytes
                self._items.append((loaded, future))
                self._changed.notify_all()
            return future

        try:
            yield put
        finally:
            with self._changed:
                self._reserved -= count
                self._changed.notify_all()

    def wait_for_memory(self) -> None:
        """Waits, in a thread that decodes, while too many pixels wait for the model."""
        with self._changed:
            self._changed.wait_for(lambda: self._bytes <= MOST_BYTES or self._ended)

    def _run(self) -> None:
        while batch := self._gather():
            start = time.monotonic()
            self._answer([one for one in batch if _is_wanted(one)])
            self._seconds = time.monotonic() - start
            with self._changed:
                self._bytes -= sum(loaded.n_bytes for loaded, _ in batch)
                self._changed.notify_all()

    def _gather(self) -> list[_Item]:
        """The next batch; none at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._ended)
            wanted = min(self._peak, self.batch_size)
            self._changed.wait_for(
                lambda: len(self._items) >= wanted or self._ended,
                max(self._wait, min(_WAIT_SHARE * self._seconds, _LONGEST_WAIT)),
            )
            self._peak = self._reserved
            size = min(len(self._items), self.batch_size)
            if size > _ROWS:
                size -= size % _ROWS
            batch: list[_Item] = []
            n_bytes = 0
            while len(batch) < size and n_bytes <= MOST_BYTES:
                batch.append(self._items.popleft())
                n_bytes += batch[-1][0].n_bytes
        return batch

    def _answer(self, batch: Sequence[_Item]) -> None:
        if not batch:
            return
        self.heard(len(batch))
        try:
            answers = answer_batch(self.model, [loaded for loaded, _ in batch])
        except Exception as error:  # noqa: BLE001 - it belongs to those who asked
            self._answer_alone(batch, error)
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            future.set_result(answer)

    def _answer_alone(self, batch: Sequence[_Item], error: Exception) -> None:
        """Answers one by one, so that an image fails nobody's but its own request."""
        if len(batch) == 1:
            batch[0][1].set_exception(error)
            return
        for one in batch:
            self._answer([one])


def _is_wanted(item: _Item) -> bool:
    return item[1].set_running_or_notify_cancel()
