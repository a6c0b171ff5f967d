"""What is measured of the training images' files, so that others can be refused."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featcache.core import checked
from featcache.core.io import atomic_path
from featcache.core.progress import SILENT, Reporter
from featcache.dataset import images, sources
from featcache.dataset.images.dicom import FACTS, header_facts
from featcache.dataset.manifest import Manifest
from featcache.dataset.perceptual_hashes import VERSION, perceptual_hash
from featcache.deploy.refusal import statistics
from featcache.errors import DatasetError, UnreadableImageError

NAME = "picture-statistics"  # of two files in ``cache/<dataset>``
_AT_ONCE = 256
# What measured the rows that are kept: another one's are of no use.
_MADE_BY = {"statistics": statistics.VERSION, "headers": [*FACTS], "hashes": VERSION}
_BEFORE = 1  # what records of 0.1.0 say of the same code; goes with a change of it


@dataclass(frozen=True, eq=False)
class TrainingImages:
    """Facts about N images.

    Attributes:
        statistics: (N, 264); see ``refusal.statistics``.
        headers: Facts of each DICOM header; nothing for other files.
        hashes: (N, 72) uint8; see ``dataset.perceptual_hashes``.
    """

    statistics: np.ndarray
    headers: list[dict[str, str]]
    hashes: np.ndarray


def measure(
    dataset: Manifest, image_ids: Sequence[str], reporter: Reporter = SILENT
) -> TrainingImages:
    """Reads facts about images, each once: they are kept beside the manifest.

    Args:
        dataset: Whose images.
        image_ids: Of N of them.
        reporter: Hears of the images read, as "training images".

    Raises:
        DatasetError: Images are not where they were, or have changed.
    """
    known = _stored(dataset.folder)
    missing = [one for one in image_ids if one not in known]
    if missing:
        known |= _measured(dataset, missing, reporter)
        _store(dataset.folder, known)
    measured, headers, hashes = zip(*(known[one] for one in image_ids), strict=True)
    return TrainingImages(np.stack(measured), [*headers], np.stack(hashes))


_Row = tuple[np.ndarray, dict[str, str], np.ndarray]  # statistics, header, hash
_Facts = dict[str, _Row]


def _measured(dataset: Manifest, missing: Sequence[str], reporter: Reporter) -> _Facts:
    paths = dataset.ok.set_index("image_id")["path"]

    def facts(image_id: str) -> _Row | str:
        path = str(paths[image_id])
        try:
            data = sources.read_scanned(dataset.root, path, image_id)
            picture = images.read(data)
            measured = statistics.picture_statistics(picture, len(data))
            known_by = perceptual_hash(picture.image)
        except UnreadableImageError as error:
            return f"{path} ({error.got})"
        return measured, header_facts(data), known_by

    results: _Facts = {}
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(missing), _AT_ONCE):
            part = missing[start : start + _AT_ONCE]
            for image_id, result in zip(part, pool.map(facts, part), strict=True):
                if isinstance(result, str):
                    raise DatasetError(
                        f"the training images of {dataset.dataset}, to know which "
                        "images to refuse",
                        result,
                        f"Scan them where they are now: {dataset.scan_again()}; or use "
                        "`refuse=False`.",
                    )
                results[image_id] = result
            reporter.progress("training images", len(results), len(missing))
    return results


def _files(folder: Path) -> tuple[Path, Path]:
    return folder / f"{NAME}.npz", folder / f"{NAME}.json"


def _stored(folder: Path) -> _Facts:
    """What was measured before; nothing where it is damaged, or made by other code."""
    arrays, record = _files(folder)
    try:
        fields = checked.read_record(record)
        checked.refuse_changed_file(arrays, fields["files"])
        if fields["version"] not in (_MADE_BY, _BEFORE):
            return {}
        with np.load(arrays, allow_pickle=False) as file:
            ids, values = file["image_id"].tolist(), file["statistics"]
            headers = [json.loads(text) for text in file["header"].tolist()]
            rows = zip(values, headers, file["hash"], strict=True)
        return dict(zip(ids, rows, strict=True))
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _store(folder: Path, known: _Facts) -> None:
    arrays, record = _files(folder)
    with suppress(OSError):  # a folder without permission: measured again next time
        with atomic_path(arrays) as temp, temp.open("wb") as file:
            np.savez(
                file,
                image_id=np.array(list(known)),
                statistics=np.stack([row[0] for row in known.values()]),
                header=np.array([json.dumps(row[1]) for row in known.values()]),
                hash=np.stack([row[2] for row in known.values()]),
            )
        files = checked.file_digests([arrays])
        checked.write_record(record, {"version": _MADE_BY, "files": files})
