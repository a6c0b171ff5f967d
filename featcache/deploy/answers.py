"""Answers: images are read ahead, a trained model is called, one answer per image.

Threads read and decode a bounded number of images, and of bytes, ahead of the model.
Memory does not grow with the number of images.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from featcache.dataset import images
from featcache.dataset.images import dicom
from featcache.dataset.sources.inputs import InputImage
from featcache.deploy.model import Candidate
from featcache.errors import UnreadableImageError

OK, REFUSED, UNREADABLE = "ok", "refused", "unreadable"  # an answer's status
IMAGE, PATIENT = "image", "patient"  # an answer's level
BATCH_SIZE = 32
_AHEAD = 16  # images read before the model wants them
MOST_BYTES = 2**27  # of pixels that wait, and of those in a batch


@dataclass(frozen=True, eq=False)
class Scored:
    """What a model says of n images.

    Attributes:
        p: (n, C) calibrated probabilities, in the order of its classes.
        refused: (n,) why an image is refused, or None.
        scores: (n,) refusal scores by the model's ``score_columns``.
        nearest: (n,) id, label and distance of the nearest training image, or None.
        flags: (n,) bool by the model's ``flag_columns``.
        zones: (n,) text by the model's ``zone_columns``; see ``deploy.zones``.
        similar: (n,) ids, labels and distances of the nearest training images, the
            nearest first; empty where the model keeps none.
        in_training: (n,) whether each was trained on; empty where that is not known.
    """

    p: np.ndarray
    refused: Sequence[str | None]
    scores: Mapping[str, np.ndarray]
    nearest: Sequence[tuple[str, str, float] | None]
    flags: Mapping[str, np.ndarray]
    zones: Mapping[str, np.ndarray] = field(default_factory=dict)
    similar: Sequence[Sequence[tuple[str, str, float]]] = ()
    in_training: Sequence[bool] = ()


class Answering(Protocol):
    """A trained model."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def classes(self) -> Sequence[str]:
        """Its C labels, in the order of the probabilities."""

    @property
    def flag_columns(self) -> Sequence[str]:
        """Names of its operating points."""

    @property
    def zone_columns(self) -> Sequence[str]:
        """Names of its zones: a class is ruled out, ruled in, or neither."""

    @property
    def score_columns(self) -> Sequence[str]:
        """Names of its refusal scores."""

    def answer(self, batch: Sequence[Candidate]) -> Scored:
        """Scores at least one image."""

    def flags(self, p: np.ndarray) -> Mapping[str, np.ndarray]:
        """Which operating points probabilities (n, C) reach, (n,) bool by column."""

    def zones(self, p: np.ndarray) -> Mapping[str, np.ndarray]:
        """In which zone probabilities (n, C) lie, (n,) text by column."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What a model says of one image, or of one patient.

    Attributes:
        path: As the user named it; empty for a patient and for pixels in memory.
        image_id: SHA-256 of the bytes that were read; empty if there are none, and for
            a patient.
        status: "ok", "refused" or "unreadable".
        reason: Why it is not ok, in one line.
        label: The class with the largest probability; empty without an answer.
        p: (C,) probabilities; None without an answer.
        flags: Operating points that are reached or not; empty without an answer.
        zones: "ruled out", "between" or "ruled in" by column; likewise.
        scores: Refusal scores; empty for what is unreadable.
        nearest: Id, label and distance of the nearest training image.
        similar: Those of the five nearest at most, the nearest first.
        in_training: Whether the model was trained on it, or on an image of the
            patient: then the answer is no evidence. None where that is not known.
        columns: Further columns of the table that names it.
        group: Its patient; empty where it has none.
        level: "image" or "patient".
        n_images: Of a patient: the different images that its probabilities are the
            mean of.
    """

    path: str
    image_id: str
    status: str
    reason: str = ""
    label: str = ""
    p: np.ndarray | None = None
    flags: Mapping[str, bool] = field(default_factory=dict)
    zones: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    nearest: tuple[str, str, float] | None = None
    similar: Sequence[tuple[str, str, float]] = ()
    in_training: bool | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    group: str = ""
    level: str = IMAGE
    n_images: int | None = None


def stream(
    model: Answering,
    inputs: Iterable[InputImage],
    *,
    batch_size: int = BATCH_SIZE,
    refuse: bool = True,
    group_of: Callable[[InputImage, bytes], str] | None = None,
) -> Generator[Answer, None, None]:
    """Answers for images one after the other.

    Each file is read once: its id, its pixels and its answer are those of the same
    bytes. An image that cannot be read or decoded does not stop the others.

    Args:
        model: What answers.
        inputs: The images; taken only as far as they are read ahead.
        batch_size: Most images in one call of the model; fewer where they are large.
        refuse: Whether a refused image stays without a class and probabilities.
            Without, it has them, and still its status and reason.
        group_of: The group of an image by its bytes; those are empty where there are
            none.

    Yields:
        One answer per image, in their order.
    """
    with closing(_loaded_ahead(inputs, group_of)) as loaded:
        for batch in _batches(loaded, batch_size):
            answers = answer_batch(model, batch, refuse=refuse)
            batch.clear()  # so that no picture outlives its answer
            yield from answers


@dataclass(frozen=True, eq=False)
class Loaded:
    """An image that was read.

    Attributes:
        image: As it was named.
        image_id: SHA-256 of its bytes; empty if there are none.
        group: Its patient; empty where it has none.
        candidate: Its pixels; None where they cannot be had.
        reason: Why not.
    """

    image: InputImage
    image_id: str = ""
    group: str = ""
    candidate: Candidate | None = None
    reason: str = ""

    @property
    def n_bytes(self) -> int:
        """Of its pixels."""
        if self.candidate is None:
            return 0
        image = self.candidate.picture.image
        return image.width * image.height * len(image.getbands())


def load(
    image: InputImage,
    group_of: Callable[[InputImage, bytes], str] | None = None,
) -> Loaded:
    """Reads and decodes an image; never raises for what is wrong with it."""
    data, image_id, reason, candidate = b"", "", "", None
    try:
        data = image.read()
        image_id = images.content_id(data)
        path = image.printed_path
        picture, header = images.read(data), dicom.header_facts(data)
        candidate = Candidate(image_id, picture, path, len(data), header)
    except UnreadableImageError as error:
        reason = error.got
    except (OSError, MemoryError, ValueError) as error:  # such as a NUL in a path
        text = getattr(error, "strerror", "") or str(error) or "out of memory"
        reason = f"cannot be read: {text}"
    group = group_of(image, data) if group_of else ""
    return Loaded(image, image_id, group, candidate, reason)


def _loaded_ahead(
    inputs: Iterable[InputImage],
    group_of: Callable[[InputImage, bytes], str] | None,
) -> Generator[Loaded, None, None]:
    """Reads images in threads, a bounded number and size ahead; keeps their order."""
    window: deque[Future[Loaded]] = deque()
    pool = ThreadPoolExecutor(min(_AHEAD, 8), "decode")
    try:
        for image in inputs:
            window.append(pool.submit(load, image, group_of))
            while len(window) > _AHEAD or _waiting_bytes(window) > MOST_BYTES:
                yield window.popleft().result()
        while window:
            yield window.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _waiting_bytes(window: Iterable[Future[Loaded]]) -> int:
    return sum(future.result().n_bytes for future in window if future.done())


def _batches(loaded: Iterable[Loaded], batch_size: int) -> Iterator[list[Loaded]]:
    batch: list[Loaded] = []
    n_bytes = 0
    for one in loaded:
        batch.append(one)
        n_bytes += one.n_bytes
        if len(batch) >= batch_size or n_bytes > MOST_BYTES:
            yield batch
            batch, n_bytes = [], 0
    if batch:
        yield batch


def answer_batch(
    model: Answering, batch: Sequence[Loaded], *, refuse: bool = True
) -> list[Answer]:
    """Answers for images that were read, in one call of the model; see `stream`."""
    candidates = [one.candidate for one in batch if one.candidate]
    scored = model.answer(candidates) if candidates else None
    answers, row = [], 0
    for one in batch:
        if scored is None or one.candidate is None:
            answers.append(_answer(one, UNREADABLE, one.reason))
        else:
            answers.append(_of_row(model, one, scored, row, refuse=refuse))
            row += 1
    return answers


def _answer(one: Loaded, status: str, reason: str, **facts: object) -> Answer:
    path, columns = one.image.printed_path, one.image.columns
    return Answer(
        path,
        one.image_id,
        status,
        reason,
        columns=columns,
        group=one.group,
        **facts,  # type: ignore[arg-type]
    )


def _of_row(
    model: Answering, one: Loaded, scored: Scored, row: int, *, refuse: bool
) -> Answer:
    reason = scored.refused[row]
    scores = {name: float(scored.scores[name][row]) for name in model.score_columns}
    status = OK if reason is None else REFUSED
    similar = scored.similar[row] if scored.similar else ()
    about: dict[str, object] = {
        "scores": scores,
        "nearest": scored.nearest[row],
        "similar": similar,
        "in_training": scored.in_training[row] if scored.in_training else None,
    }
    if reason is not None and refuse:
        return _answer(one, status, reason, **about)
    p = np.asarray(scored.p[row], dtype=np.float64)
    about["flags"] = {
        name: bool(scored.flags[name][row]) for name in model.flag_columns
    }
    about["zones"] = {name: str(scored.zones[name][row]) for name in model.zone_columns}
    label = model.classes[int(p.argmax())]
    return _answer(one, status, reason or "", label=label, p=p, **about)
