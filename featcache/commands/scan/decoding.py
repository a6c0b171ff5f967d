"""Reading a source's files: their ids first, then what decoding tells of new ones."""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from featcache.core.progress import Reporter
from featcache.dataset import images, sources
from featcache.dataset.grouping import DICOM
from featcache.dataset.images import dicom
from featcache.dataset.manifest import UNREADABLE, Manifest
from featcache.dataset.urls import Url, is_url
from featcache.errors import UnreadableImageError

MEASURED = ("width", "height", "mode", "phash", "note")
NOTHING = (0, 0, "", "", "")
FLAT = "flat: all pixels have one grey value"  # the note of such an image
Facts = dict[str, tuple[int, int, str, str, str]]  # ``MEASURED`` by image_id


class File(NamedTuple):
    """A file as its bytes tell: without an id it could not be read."""

    image_id: str
    size: int
    reason: str
    patient: str


Inspected = dict[str, images.Inspection | str]  # or why it cannot be, by image_id


def identify(
    listing: sources.Listing,
    group_by: str,
    facts: Facts,
    inspected: Inspected,
) -> list[File]:
    """Reads every file once for its id, and DICOM files for what to group by.

    Args:
        listing: The source's files.
        group_by: As of the scan.
        facts: Of the images that need not be decoded.
        inspected: New images at a URL are decoded at once, and added here, so that
            none is fetched twice.
    """
    keyword = _keyword(group_by)
    is_far = isinstance(listing.root, Url)

    def is_new(path: str, image_id: str) -> bool:
        known = image_id in facts or image_id in inspected
        return not known and (is_far or is_url(path))

    def identify_one(path: str) -> File:
        try:
            if path in listing.refused:
                return File("", 0, listing.refused[path], "")
            with sources.loaded(listing.root, path) as data:
                named = dicom.pseudonym(data, keyword) if dicom.is_dicom(data) else ""
                image_id = images.content_id(data)
                if is_new(path, image_id):
                    inspected[image_id] = _inspected(data)
                return File(image_id, len(data), "", named)
        except (OSError, MemoryError) as error:
            return File("", 0, _reason(error), "")

    with ThreadPoolExecutor() as pool:
        return list(pool.map(identify_one, listing.table["path"]))


def _inspected(data: bytes) -> images.Inspection | str:
    try:
        return images.inspect(data)
    except UnreadableImageError as error:
        return error.got
    except MemoryError as error:
        return _reason(error)


def _keyword(group_by: str) -> str:
    """The DICOM element to read: the one to group by, else the patient's id."""
    if not group_by.startswith(DICOM):
        return dicom.PATIENT
    keyword = group_by.removeprefix(DICOM)
    dicom.check_keyword(keyword)
    return keyword


def _reason(error: OSError | MemoryError) -> str:
    text = getattr(error, "strerror", "") or str(error) or "out of memory"
    return f"cannot be read: {text}"


def measured_facts(manifest: Manifest) -> Facts:
    """What an earlier scan measured of the images that it could read."""
    readable = manifest.table[manifest.table["status"] != UNREADABLE]
    note = readable["reason"].where(readable["reason"] == FLAT, "")
    readable = readable.assign(note=note).sort_values("note", kind="stable")
    values = readable[list(MEASURED)].itertuples(index=False, name=None)
    return dict(zip(readable["image_id"], values, strict=True))


def measure(
    listing: sources.Listing,
    ids: list[str],
    reasons: list[str],
    facts: Facts,
    reporter: Reporter,
    *,
    keep: bool,
    inspected: Inspected | None = None,
) -> tuple[int, dict[str, np.ndarray]]:
    """Decodes each distinct new content once; fills ``facts`` and ``reasons``.

    Args:
        listing: The source's files.
        ids: Their ids; empty for a file that cannot be read.
        reasons: Why a file cannot be read, or empty; decoding may add some.
        facts: Of the images that need not be decoded; the others are added.
        reporter: Follows the images decoded.
        keep: Whether to keep thumbnails.
        inspected: The images that are decoded already.

    Returns:
        How many were decoded, and their thumbnails if these are kept.
    """
    first: dict[str, str] = {}
    for image_id, path, reason in zip(ids, listing.table["path"], reasons, strict=True):
        if image_id not in facts and not reason:
            first.setdefault(image_id, path)
    thumbs: dict[str, np.ndarray] = {}
    failed: dict[str, str] = {}

    def inspect(item: tuple[str, str]) -> tuple[str, images.Inspection | str]:
        if inspected and item[0] in inspected:
            return item[0], inspected[item[0]]
        try:
            with sources.loaded(listing.root, item[1]) as data:
                return item[0], _inspected(data)
        except (OSError, MemoryError) as error:
            return item[0], _reason(error)

    with ThreadPoolExecutor() as pool:
        for done, (image_id, outcome) in enumerate(pool.map(inspect, first.items()), 1):
            if isinstance(outcome, str):
                failed[image_id] = outcome
            else:
                size = outcome.width, outcome.height
                note = FLAT if outcome.flat else ""
                facts[image_id] = (*size, outcome.mode, outcome.phash, note)
                if keep:
                    thumbs[image_id] = outcome.thumb
            reporter.progress("scan", done, len(first))
    for row, image_id in enumerate(ids):
        reasons[row] = reasons[row] or failed.get(image_id, "")
    return len(first), thumbs
