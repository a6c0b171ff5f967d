"""What one file tells: its id and size, and what decoding its picture measures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from featcache.core.parallel import in_threads
from featcache.dataset import images, sources
from featcache.dataset.images import dicom
from featcache.dataset.sources import remote
from featcache.dataset.urls import Location
from featcache.errors import FeatcacheError, UnreadableImageError


class Picture(NamedTuple):
    """What the manifest records of a picture; ``thumb`` is empty if not wanted."""

    width: int
    height: int
    mode: str
    phash: str
    flat: bool
    thumb: bytes = b""


class File(NamedTuple):
    """A file as its bytes tell.

    Attributes:
        image_id: SHA-256 of the bytes; empty if they could not be read.
        size: Their number.
        reason: Why there is no picture that can be used, or empty.
        patient: The pseudonym of what DICOM files are grouped by, or empty.
        stamp: What changes when the file does, or empty.
        picture: None if it was not decoded.
    """

    image_id: str = ""
    size: int = 0
    reason: str = ""
    patient: str = ""
    stamp: str = ""
    picture: Picture | None = None


class Request(NamedTuple):
    """A file to read.

    Attributes:
        path: As the listing has it.
        stamp: What the listing knows of its version; empty to ask for it.
        decode: Whether to decode it, beside hashing it.
    """

    path: str
    stamp: str
    decode: bool


@dataclass(frozen=True)
class Reading:
    """Files that were read together.

    Attributes:
        files: In order; none if there was an error.
        error: What ended the reading; not raised, so that it keeps its kind on the way
            out of a worker process.
        repeated: Requests that had to be repeated, by host.
    """

    files: list[File]
    error: FeatcacheError | None
    repeated: dict[str, int]


def read_files(
    root: Location,
    requests: Sequence[Request],
    keyword: str,
    *,
    keep_thumbs: bool,
    threads: int,
) -> Reading:
    """Reads files, each once, and decodes those that are to be.

    Args:
        root: The source's folder or zip.
        requests: The files.
        keyword: Of the DICOM element to group by.
        keep_thumbs: Keep small grey pictures.
        threads: That read and decode at the same time.
    """

    def one(request: Request) -> File:
        return _read(root, request, keyword, keep_thumbs=keep_thumbs)

    try:
        files, error = [*in_threads(one, requests, threads)], None
    except FeatcacheError as failure:
        files, error = [], failure
    return Reading(files, error, remote.take_repeated())


def _read(root: Location, request: Request, keyword: str, *, keep_thumbs: bool) -> File:
    try:
        # Before the bytes: what is written meanwhile makes the next stamp another.
        stamp = request.stamp or sources.stamp(root, request.path)
        with sources.loaded(root, request.path) as data:
            patient = dicom.pseudonym(data, keyword) if dicom.is_dicom(data) else ""
            file = File(images.content_id(data), len(data), "", patient, stamp)
            return _decoded(file, data, keep_thumbs) if request.decode else file
    except (OSError, MemoryError) as error:
        text = getattr(error, "strerror", "") or str(error) or "out of memory"
        return File(reason=f"cannot be read: {text}")


def _decoded(file: File, data: bytes, keep_thumbs: bool) -> File:
    try:
        seen = images.inspect(data)
    except UnreadableImageError as error:
        return file._replace(reason=error.got)
    thumb = seen.thumb.tobytes() if keep_thumbs else b""
    size = seen.width, seen.height
    picture = Picture(*size, seen.mode, seen.phash, seen.flat, thumb)
    return file._replace(picture=picture)
